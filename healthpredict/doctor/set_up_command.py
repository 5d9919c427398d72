"""The command with which the administrator of a cluster creates the deployer."""

from __future__ import annotations

import shlex


def set_up_command(kubeconfig: str, context: str, *, for_containers: bool = True) -> str:
    """Return the command of step 3 of "Rollouts to Kubernetes" in docs/operate.md.

    Args:
        kubeconfig: path of the deployer's kubeconfig, already quoted for the shell.
        context: in that file.
        for_containers: whether the user of the containers has to read it. The command itself makes it readable for its owner only.
    """
    command = (
        f"HEALTHPREDICT_KUBECONFIG={kubeconfig} HEALTHPREDICT_ROLLOUT__CONTEXT={shlex.quote(context)} "
        ".venv/bin/healthpredict cluster set-up --kubeconfig ~/.kube/config --context NAME"
    )
    readable = f" && chmod 444 {kubeconfig}" if for_containers else ""
    return f"{command}{readable}; NAME is the administrator's context"
