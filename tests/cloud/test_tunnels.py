"""Tunnels, with stand-ins for the AWS CLI and SSH that listen on the local ports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from engine import REGION
from typer.testing import CliRunner

from healthpredict.cli.cloud import app
from healthpredict.cloud import tunnel as tunnel_module
from healthpredict.cloud.account import Stack
from healthpredict.cloud.errors import CloudError
from healthpredict.cloud.host import CloudHost, find_host
from healthpredict.cloud.tunnel import Forward, forwards, session_command, ssh_command, tunnel
from healthpredict.errors import ConfigurationError
from healthpredict.rollout.ports import free_port

# Logs its arguments, then listens on the local ports that they name, in a child as the real plugin does.
LISTENER = f"""#!{sys.executable}
import json, os, re, socket, sys, time
with open("$LOG", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
found = re.findall(r"localPortNumber=(\\d+)|127.0.0.1:(\\d+):[0-9.]+:", " ".join(sys.argv))
if os.fork():
    os.wait()
    sys.exit(1)
with open("$LOG.pids", "a") as pids:
    pids.write(f"{{os.getpid()}}\\n")
listening = [socket.create_server(("127.0.0.1", int(a or b))) for a, b in found]
while True:
    time.sleep(60)
"""
Program = Callable[[str, str], Path]


@pytest.fixture
def wanted() -> tuple[Forward, ...]:
    return forwards(free_port(), free_port(), free_port())


@pytest.fixture(autouse=True)
def running(stack: Stack) -> None:
    boto3.client("ec2").start_instances(InstanceIds=[find_host(stack).instance])


class Enough(Exception):
    """Raised to end a tunnel."""


def leave(host: CloudHost) -> None:
    raise Enough


def calls(log: Path) -> list[list[str]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_when_ready_is_called_all_tunnels_are_open(stack: Stack, wanted: tuple[Forward, ...], program: Program) -> None:
    log = program("aws", LISTENER)
    program("session-manager-plugin", "#!/bin/sh\n")
    opened = []

    def look(host: CloudHost) -> None:
        for forward in wanted:
            with socket.create_connection(("127.0.0.1", forward.local), timeout=5):
                opened.append(forward.name)
        raise Enough

    with pytest.raises(Enough):
        tunnel(stack, wanted, ready=look)
    assert opened == ["prefect", "mlflow", "api"]
    assert sorted(calls(log)) == sorted(session_command("aws", find_host(stack), REGION, f)[1:] for f in wanted)


def test_closing_ends_programs_and_their_children(stack: Stack, wanted: tuple[Forward, ...], program: Program) -> None:
    log = program("aws", LISTENER)
    program("session-manager-plugin", "#!/bin/sh\n")
    with pytest.raises(Enough):
        tunnel(stack, wanted, ready=leave)
    for pid in Path(f"{log}.pids").read_text().split():
        assert gone(int(pid))
    assert not any(tunnel_module._is_open(forward.local) for forward in wanted)


def gone(pid: int) -> bool:
    """Whether a process has ended or ends soon. A zombie counts as ended."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_the_api_is_reached_on_the_minikube_node_and_the_rest_on_the_host(stack: Stack) -> None:
    host = find_host(stack)
    prefect, mlflow, api = (session_command("aws", host, REGION, forward) for forward in forwards())
    assert prefect[-3:] == ["AWS-StartPortForwardingSession", "--parameters", "portNumber=4200,localPortNumber=4200"]
    assert mlflow[-1] == "portNumber=5000,localPortNumber=5000"
    assert api[-3] == "AWS-StartPortForwardingSessionToRemoteHost"
    assert api[-1] == "portNumber=30080,localPortNumber=8000,host=192.168.49.2"
    assert all(host.instance in command and REGION in command for command in (prefect, mlflow, api))


def test_the_address_of_the_node_is_the_one_that_the_host_sets() -> None:
    script = Path(__file__).parents[2] / "infra/host/root/usr/local/lib/health-predict/start-minikube"
    assert f"--static-ip={tunnel_module.MINIKUBE}" in script.read_text()


def test_ssh_forwards_all_three_ports_in_one_connection(
    stack: Stack, wanted: tuple[Forward, ...], program: Program, tmp_path: Path
) -> None:
    log = program("ssh", LISTENER)
    with pytest.raises(Enough):
        tunnel(stack, wanted, ssh=True, identity=tmp_path / "key", ready=leave)
    (words,) = calls(log)
    assert words == ssh_command("ssh", find_host(stack), wanted, tmp_path / "key")[1:]
    assert f"127.0.0.1:{wanted[2].local}:192.168.49.2:30080" in words
    # A port that cannot be forwarded must be an error.
    assert "ExitOnForwardFailure=yes" in words


@pytest.mark.parametrize("present", [(), ("aws",)])
def test_a_missing_program_is_named_with_its_address(
    stack: Stack, wanted: tuple[Forward, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, present: tuple[str, ...]
) -> None:
    for name in present:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = "session-manager-plugin" if present else "aws"
    with pytest.raises(ConfigurationError, match=f"^{missing} is not installed.*https://"):
        tunnel(stack, wanted, ready=leave)


def test_a_stopped_host_is_reported(stack: Stack, wanted: tuple[Forward, ...], program: Program) -> None:
    program("aws", LISTENER)
    program("session-manager-plugin", "#!/bin/sh\n")
    boto3.client("ec2").stop_instances(InstanceIds=[find_host(stack).instance])
    with pytest.raises(CloudError, match=r"stopped.*cloud start"):
        tunnel(stack, wanted, ready=leave)


def test_a_port_in_use_is_named_with_the_option_for_another(
    stack: Stack, wanted: tuple[Forward, ...], program: Program
) -> None:
    program("aws", LISTENER)
    program("session-manager-plugin", "#!/bin/sh\n")
    with socket.create_server(("127.0.0.1", wanted[1].local)), pytest.raises(ConfigurationError, match="--mlflow"):
        tunnel(stack, wanted, ready=leave)


def test_the_error_of_the_aws_cli_is_shown(stack: Stack, wanted: tuple[Forward, ...], program: Program) -> None:
    program("aws", "#!/bin/sh\necho 'TargetNotConnected: the agent is not there' >&2\nexit 254\n")
    program("session-manager-plugin", "#!/bin/sh\n")
    with pytest.raises(CloudError, match="TargetNotConnected"):
        tunnel(stack, wanted, ready=leave)


def test_a_tunnel_that_ends_is_an_error(stack: Stack, wanted: tuple[Forward, ...], program: Program) -> None:
    log = program("aws", LISTENER)
    program("session-manager-plugin", "#!/bin/sh\n")

    def cut(host: CloudHost) -> None:
        for pid in Path(f"{log}.pids").read_text().split():
            os.kill(int(pid), signal.SIGKILL)

    with pytest.raises(CloudError, match="A tunnel ended"):
        tunnel(stack, wanted, ready=cut)


def test_a_tunnel_that_never_opens_times_out(
    stack: Stack, wanted: tuple[Forward, ...], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("aws", "#!/bin/sh\nsleep 60\n")
    program("session-manager-plugin", "#!/bin/sh\n")
    monkeypatch.setattr(tunnel_module, "_TIMEOUT_SECONDS", 0)
    with pytest.raises(CloudError, match="No tunnel to prefect, mlflow, api"):
        tunnel(stack, wanted, ready=leave)


def test_ctrl_c_closes_the_tunnels_without_a_traceback(
    stack: Stack, wanted: tuple[Forward, ...], program: Program
) -> None:
    program("aws", LISTENER)
    program("session-manager-plugin", "#!/bin/sh\n")
    ports = [word for f in wanted for word in (f"--{f.name}", str(f.local))]
    words = ["tunnel", "--infra", str(stack.folder), *ports]
    code = f"from healthpredict.cli.cloud import app; app({words!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    # It blocks until the tunnels are open.
    assert "Ctrl-C" in process.stdout.readline(), process.communicate(timeout=60)
    process.send_signal(signal.SIGINT)
    said, wrong = process.communicate(timeout=60)
    assert "Closed." in said
    assert (process.returncode, "Traceback" in wrong) == (0, False)


def test_the_command_prints_the_addresses(
    stack: Stack, wanted: tuple[Forward, ...], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("aws", LISTENER)
    program("session-manager-plugin", "#!/bin/sh\n")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tunnel_module, "_wait_until_one_ends", interrupt)
    ports = [word for f in wanted for word in (f"--{f.name}", str(f.local))]
    shown = CliRunner().invoke(app, ["tunnel", "--infra", str(stack.folder), *ports]).output
    assert all(f"http://127.0.0.1:{forward.local}" in shown for forward in wanted)
