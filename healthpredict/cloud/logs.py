"""Logs of the host, through the Run Command: no tunnel and no plugin are needed."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Final

from healthpredict.cloud.account import Stack, client, translated
from healthpredict.cloud.errors import CloudError
from healthpredict.cloud.host import find_host

_POLL_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 60.0
_MOST_LINES: Final = 1000
_UNDER_WAY: Final = {"Pending", "InProgress", "Delayed"}


class HostLog(StrEnum):
    """What can be read."""

    ALL = "all"
    CLOUD_INIT = "cloud-init"
    TOOLS = "tools"
    SECRETS = "secrets"
    MINIKUBE = "minikube"
    STACK = "stack"
    DEPLOYMENTS = "deployments"
    HEALTH = "health"
    POSTGRES = "postgres"
    PREFECT_SERVER = "prefect-server"
    PREFECT_WORKER = "prefect-worker"
    DEPLOY_WORKER = "deploy-worker"
    MLFLOW = "mlflow"


_CONTAINERS: Final = {
    HostLog.POSTGRES,
    HostLog.PREFECT_SERVER,
    HostLog.PREFECT_WORKER,
    HostLog.DEPLOY_WORKER,
    HostLog.MLFLOW,
}


def read_logs(stack: Stack, source: HostLog = HostLog.ALL, lines: int = 100) -> str:
    """Return the last lines of a log.

    Args:
        stack: whose host.
        source: a systemd unit, a container, or the first start.
        lines: at most; the Run Command gives 24,000 characters back in any case.

    Raises:
        CloudError: the host does not run or does not answer.
    """
    host = find_host(stack)
    if host.state != "running":
        raise CloudError(f"The host is {host.state}: its logs can be read while it runs. `healthpredict cloud start`.")
    ssm = client(stack, "ssm")
    with translated(f"read the logs of {host.instance}"):
        sent = ssm.send_command(
            InstanceIds=[host.instance],
            DocumentName="AWS-RunShellScript",
            Parameters={"commands": [_command(source, min(lines, _MOST_LINES))]},
            Comment=f"healthpredict cloud logs {source}",
        )
        command = sent["Command"]["CommandId"]
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                answer = ssm.get_command_invocation(CommandId=command, InstanceId=host.instance)
            except ssm.exceptions.InvocationDoesNotExist:
                # It takes a moment until a command that was sent can be asked for.
                answer = {"Status": "Pending"}
            if answer["Status"] not in _UNDER_WAY:
                break
            if time.monotonic() > deadline:
                raise CloudError(
                    f"{host.instance} did not answer within {_PATIENCE_SECONDS:.0f} s. Is it still starting?"
                )
            time.sleep(_POLL_SECONDS)
    if answer["Status"] != "Success":
        said = answer.get("StandardErrorContent", "").strip()
        raise CloudError(
            f"Reading the logs of {host.instance} ended with {answer['Status']}: {said or 'no reason given'}"
        )
    return str(answer["StandardOutputContent"])


def _command(source: HostLog, lines: int) -> str:
    """A shell command of known words and a number only."""
    if source is HostLog.CLOUD_INIT:
        return f"tail -n {lines:d} /var/log/cloud-init-output.log"
    if source in _CONTAINERS:
        name = f"label=com.docker.compose.service={source}"
        return (
            f"docker ps --all --quiet --filter {name} | xargs --no-run-if-empty -n 1 docker logs --tail {lines:d} 2>&1"
        )
    unit = "*" if source is HostLog.ALL else f"{source}.service"
    return f"journalctl --no-pager --lines {lines:d} --unit 'health-predict-{unit}'"
