"""The ports that services publish on this host."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from functools import partial
from typing import Final

import psutil

from healthpredict.doctor.problem import Check, Problem
from healthpredict.doctor.project import ComposeProject, Port

_VARIABLES: Final = {
    "prefect-server": "HEALTHPREDICT_PREFECT_PORT",
    "mlflow": "HEALTHPREDICT_MLFLOW_PORT",
    "deploy-worker": "HEALTHPREDICT_API_PORT",
    "jupyter": "HEALTHPREDICT_JUPYTER_PORT",
}


def port_checks(project: ComposeProject) -> Iterator[Check]:
    """One check for each port. Ports of this project's own containers are in use rightly."""
    own = project.own_ports()
    for port in project.ports():
        if port.number not in own:
            yield Check(f"port {port.number}", partial(port_problem, port))


def port_problem(port: Port) -> Problem | None:
    """Whether the port is free."""
    try:
        family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
        with socket.create_server((port.host, port.number), family=family):
            return None
    except PermissionError:
        pass  # a port below 1024, which the engine may use
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return Problem(
                f"{port.service} cannot publish port {port.number} on {port.host}: {error.strerror}.",
                "correct its address in the compose files",
            )
        variable = _VARIABLES.get(port.service, "another port")
        return Problem(
            f"Port {port.number} of {port.service} is in use by {_user_of(port.number)}.",
            f"stop it, or set {variable} in docker-compose/.env",
        )
    return None


def _user_of(number: int) -> str:
    """The program that listens on a port, if this user may see it."""
    try:
        found = (each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN)
        pid = next((each.pid for each in found if each.laddr.port == number and each.pid), None)
        return f"{psutil.Process(pid).name()} (process {pid})" if pid else "another program"
    except (psutil.Error, OSError):
        return "another program"
