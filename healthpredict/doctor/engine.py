"""The Docker engine of this host, its memory and its disk."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from healthpredict.doctor.problem import Check, Problem
from healthpredict.doctor.project import ComposeProject, last_line, run

_GIB: Final = 2**30
MIN_ENGINE: Final = (20, 10, 10)
"""The seccomp profile of older engines forbids `clone3`, so programs of Debian 12 cannot start threads."""
MIN_COMPOSE: Final = (2, 21)
"""Of August 2023. Older versions print containers as one JSON array instead of one object a line."""
OTHERS_GIB: Final = 1.0
"""The most that the services beside the largest one use: 1000 MB after seven trainings; see "Memory" in docs/operate.md."""
MIN_FREE_GIB: Final = 4.0
"""The images have up to 2.8 GB, and a build needs some of that twice."""


def engine_problem() -> Problem | None:
    """Whether the engine and compose are there, may be used, and are new enough."""
    if shutil.which("docker") is None:
        return Problem("There is no command docker.", "install Docker Engine: https://docs.docker.com/engine/install")
    done = run(["docker", "version", "--format", "{{.Server.Version}}"])
    if "permission denied" in done.stderr:
        return Problem(
            "This user may not use the Docker engine.", 'sudo usermod -aG docker "$USER", then sign out and in again'
        )
    if done.returncode != 0:
        return Problem(f"The Docker engine does not respond: {last_line(done.stderr)}.", "sudo systemctl start docker")
    if _version(done.stdout) < MIN_ENGINE:
        return Problem(
            f"Docker Engine is {done.stdout.strip()}, and {_dotted(MIN_ENGINE)} or newer is needed.",
            "update it: https://docs.docker.com/engine/install",
        )
    return compose_problem()


def compose_problem() -> Problem | None:
    """Whether the compose plugin is there and new enough."""
    done = run(["docker", "compose", "version", "--short"])
    if done.returncode != 0:
        return Problem("Docker has no compose plugin.", "install it: https://docs.docker.com/compose/install/linux")
    if _version(done.stdout) < MIN_COMPOSE:
        return Problem(
            f"Docker Compose is {done.stdout.strip()}, and {_dotted(MIN_COMPOSE)} or newer is needed.",
            "update it: https://docs.docker.com/compose/install/linux",
        )
    return None


def machine_checks(project: ComposeProject) -> Iterator[Check]:
    """Checks of the engine's memory and disk."""
    info: dict[str, Any] = json.loads(run(["docker", "info", "--format", "{{json .}}"]).stdout or "{}")
    yield Check("memory", partial(memory_problem, project, info.get("MemTotal", 0)))
    root = Path(info.get("DockerRootDir", ""))
    yield Check("Docker's disk", partial(docker_disk_problem, root))


def memory_problem(project: ComposeProject, total: int) -> Problem | None:
    """Whether the largest service fits in beside the others. Args: total, bytes of the engine's machine."""
    limits = {name: int(service.get("mem_limit", 0)) for name, service in project.model["services"].items()}
    largest = max(limits, key=lambda name: limits[name])
    needed = limits[largest] + OTHERS_GIB * _GIB
    if total >= needed:
        return None
    return Problem(
        f"The Docker engine has {total / _GIB:.1f} GiB of memory, and {needed / _GIB:.1f} GiB are needed: "
        f"{largest} may use {limits[largest] / _GIB:.1f} GiB.",
        "use a machine with 8 GB; on Docker Desktop, raise the limit in Settings, Resources",
    )


def docker_disk_problem(folder: Path) -> Problem | None:
    """Whether there is room for images and volumes. Args: folder, Docker's. None if it is on another machine."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    if free >= MIN_FREE_GIB * _GIB:
        return None
    return Problem(
        f"The disk of {folder} has only {free / _GIB:.1f} GiB free, and images and volumes need {MIN_FREE_GIB:g} GiB.",
        "docker system prune, which deletes stopped containers and unused images",
    )


def _version(text: str) -> tuple[int, ...]:
    """The numbers at the start of a version such as `v2.26.1-4`."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
