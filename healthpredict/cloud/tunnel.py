"""Tunnels to the services of the host, through the Session Manager or, if its port is open, SSH."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from healthpredict.cloud.account import Stack
from healthpredict.cloud.errors import CloudError
from healthpredict.cloud.host import CloudHost, find_host
from healthpredict.errors import ConfigurationError

MINIKUBE: Final = "192.168.49.2"
"""Address of the Minikube node. The host sets it when it creates the cluster (`start-minikube`)."""
_POLL_SECONDS: Final = 0.2
_TIMEOUT_SECONDS: Final = 60
_END_SECONDS: Final = 5
_PLUGIN_PAGE: Final = (
    "https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html"
)


@dataclass(frozen=True)
class Forward:
    """A forwarded port.

    Attributes:
        name: of the service.
        local: port on this machine.
        port: of the service, on the host or on `behind`.
        behind: address of the service, as the host reaches it; None for the host itself.
    """

    name: str
    local: int
    port: int
    behind: str | None = None


def forwards(prefect: int = 4200, mlflow: int = 5000, api: int = 8000) -> tuple[Forward, ...]:
    """The forwards of the three services, on these local ports."""
    return (
        Forward("prefect", prefect, 4200),
        Forward("mlflow", mlflow, 5000),
        Forward("api", api, 30080, behind=MINIKUBE),
    )


def session_command(aws: str, host: CloudHost, region: str, forward: Forward) -> list[str]:
    """The command of the AWS CLI for one tunnel."""
    parameters = f"portNumber={forward.port},localPortNumber={forward.local}"
    document = "AWS-StartPortForwardingSession"
    if forward.behind:
        document += "ToRemoteHost"
        parameters += f",host={forward.behind}"
    target = ["--target", host.instance, "--region", region]
    return [aws, "ssm", "start-session", *target, "--document-name", document, "--parameters", parameters]


def ssh_command(ssh: str, host: CloudHost, wanted: Sequence[Forward], identity: Path | None) -> list[str]:
    """The SSH command for all tunnels."""
    key = ["-i", str(identity)] if identity else []
    # The host's key is remembered under its id, because the address changes with every start, and another host may get it.
    options = ("ExitOnForwardFailure=yes", "StrictHostKeyChecking=accept-new", f"HostKeyAlias={host.instance}")
    ports = [f"127.0.0.1:{f.local}:{f.behind or '127.0.0.1'}:{f.port}" for f in wanted]
    words = [
        word for option, values in (("-o", options), ("-L", ports)) for value in values for word in (option, value)
    ]
    return [ssh, "-N", *key, *words, f"ubuntu@{host.address}"]


def tunnel(
    stack: Stack,
    wanted: Sequence[Forward],
    *,
    ssh: bool = False,
    identity: Path | None = None,
    ready: Callable[[CloudHost], None],
) -> None:
    """Open tunnels and keep them until one ends or the caller is interrupted.

    Args:
        stack: whose host.
        wanted: the ports to forward.
        ssh: use SSH instead of the Session Manager.
        identity: file of the private key for SSH; None for the agent's keys.
        ready: called once every local port accepts connections.

    Raises:
        ConfigurationError: a program is missing, or a local port is in use.
        CloudError: the host does not run, a tunnel could not be opened, or one ended.
    """
    programs = _programs(["ssh"] if ssh else ["aws", "session-manager-plugin"])
    for forward in wanted:
        if _is_open(forward.local):
            raise ConfigurationError(
                f"Port {forward.local} of this machine is in use. Name another with --{forward.name}."
            )
    host = find_host(stack)
    if host.state != "running":
        raise CloudError(f"The host is {host.state}. Start it with `healthpredict cloud start`.")
    if ssh:
        if host.address is None:
            raise CloudError("The host has no public address, so SSH cannot reach it. Run the command without --ssh.")
        commands = [ssh_command(programs[0], host, wanted, identity)]
    else:
        commands = [session_command(programs[0], host, _region(stack), forward) for forward in wanted]
    with _running(commands) as processes:
        _wait_until_open(processes, wanted)
        ready(host)
        _wait_until_one_ends(processes)


def _programs(names: list[str]) -> list[str]:
    found = [(name, shutil.which(name)) for name in names]
    for name, path in found:
        if path is None:
            where = {"session-manager-plugin": _PLUGIN_PAGE, "aws": "https://aws.amazon.com/cli/"}.get(name, "OpenSSH")
            raise ConfigurationError(f"{name} is not installed, but tunnels need it: {where}")
    return [path for _, path in found if path]


def _region(stack: Stack) -> str:
    import boto3

    return stack.region or boto3.Session().region_name


def _is_open(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.settimeout(1)
        return attempt.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _running(commands: Sequence[Sequence[str]]) -> Iterator[list[subprocess.Popen[str]]]:
    """Run commands for the time of a `with` block. Each has a process group of its own, so its children end with it."""
    processes: list[subprocess.Popen[str]] = []
    try:
        for command in commands:
            processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
        yield processes
    finally:
        for process in processes:
            _signal_group(process, signal.SIGTERM)
        for process in processes:
            try:
                process.communicate(timeout=_END_SECONDS)
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)
                process.communicate()


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    # Also if the leader has ended, because the CLI's plugin may outlive it.
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _wait_until_open(processes: Sequence[subprocess.Popen[str]], wanted: Sequence[Forward]) -> None:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while closed := [forward for forward in wanted if not _is_open(forward.local)]:
        _raise_if_ended(processes)
        if time.monotonic() > deadline:
            names = ", ".join(forward.name for forward in closed)
            raise CloudError(
                f"No tunnel to {names} after {_TIMEOUT_SECONDS} s. Run `healthpredict cloud status` to see the state of the host."
            )
        time.sleep(_POLL_SECONDS)


def _wait_until_one_ends(processes: Sequence[subprocess.Popen[str]]) -> None:
    while True:
        _raise_if_ended(processes)
        time.sleep(_POLL_SECONDS)


def _raise_if_ended(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        if process.poll() is not None:
            errors = (process.stderr.read() if process.stderr else "").strip().splitlines()
            reason = errors[-1] if errors else f"exit code {process.returncode}"
            raise CloudError(
                f"A tunnel ended: {reason}. Run `healthpredict cloud status` to see whether the host was stopped."
            )
