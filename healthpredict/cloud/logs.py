"""Read logs of the host with the Run Command, which needs no tunnel and no plugin."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Final

from healthpredict.cloud.account import Stack, client, translated
from healthpredict.cloud.errors import CloudError
from healthpredict.cloud.host import find_host

_POLL_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 60.0
_MOST_LINES: Final = 1000
_IN_PROGRESS: Final = {"Pending", "InProgress", "Delayed"}


class HostLog(StrEnum):
    """A log of the host: that of a systemd unit, of a container, of cloud-init, or of all units."""

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


def read_logs(stack: Stack, log: HostLog = HostLog.ALL, lines: int = 100) -> str:
    """Return the last lines of a log.

    Args:
        stack: whose host.
        log: which log.
        lines: at most. The Run Command returns at most 24,000 characters.

    Raises:
        CloudError: the host does not run or does not respond.
    """
    host = find_host(stack)
    if host.state != "running":
        raise CloudError(
            f"The host is {host.state}, and its logs can be read only while it runs. Start it with `healthpredict cloud start`."
        )
    ssm = client(stack, "ssm")
    with translated(f"read the logs of {host.instance}"):
        sent = ssm.send_command(
            InstanceIds=[host.instance],
            DocumentName="AWS-RunShellScript",
            Parameters={"commands": [_command(log, min(lines, _MOST_LINES))]},
            Comment=f"healthpredict cloud logs {log}",
        )
        command = sent["Command"]["CommandId"]
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while True:
            try:
                answer = ssm.get_command_invocation(CommandId=command, InstanceId=host.instance)
            except ssm.exceptions.InvocationDoesNotExist:
                # A new command appears after a moment.
                answer = {"Status": "Pending"}
            if answer["Status"] not in _IN_PROGRESS:
                break
            if time.monotonic() > deadline:
                raise CloudError(
                    f"{host.instance} did not respond within {_TIMEOUT_SECONDS:.0f} s. If it is still starting, try again later."
                )
            time.sleep(_POLL_SECONDS)
    if answer["Status"] != "Success":
        errors = answer.get("StandardErrorContent", "").strip()
        raise CloudError(
            f"Reading the logs of {host.instance} ended with {answer['Status']}: {errors or 'no reason given'}"
        )
    return str(answer["StandardOutputContent"])


def _command(log: HostLog, lines: int) -> str:
    """Build the shell command. It contains no text from the user, so nothing can be injected."""
    if log is HostLog.CLOUD_INIT:
        return f"tail -n {lines:d} /var/log/cloud-init-output.log"
    if log in _CONTAINERS:
        name = f"label=com.docker.compose.service={log}"
        return (
            f"docker ps --all --quiet --filter {name} | xargs --no-run-if-empty -n 1 docker logs --tail {lines:d} 2>&1"
        )
    unit = "*" if log is HostLog.ALL else f"{log}.service"
    return f"journalctl --no-pager --lines {lines:d} --unit 'health-predict-{unit}'"
