"""Files and folders of this host that containers get. Docker creates what is missing: as a folder, and as root."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from healthpredict.doctor.problem import Check, Problem
from healthpredict.doctor.project import COMPOSE_FOLDER, CONTAINER_UID, DEPLOY_WORKER, ComposeProject, Mount, run
from healthpredict.doctor.set_up_command import set_up_command

KUBECONFIG: Final = "/run/kubeconfig"
PREDICTION_LOG: Final = "/prediction-log"
SOCKET: Final = "/var/run/docker.sock"
AWS: Final = "/run/aws"
HOSPITAL: Final = "/hospital"
NOTHING: Final = Path("/dev/null")
_OF_DATABASES: Final = {"postgres-password", "prefect-database-password", "mlflow-database-password"}
_READ: Final = 4
_WRITE: Final = 2
_ENTER: Final = 1


def file_checks(project: ComposeProject) -> Iterator[Check]:
    """Checks of all mounts and secrets."""
    given = project.environment(DEPLOY_WORKER)
    for mount in project.mounts():
        if mount.target == KUBECONFIG:
            context = given.get("HEALTHPREDICT_ROLLOUT__CONTEXT", "minikube")
            yield Check(f"{mount.source}", partial(kubeconfig_problem, mount.source, context))
        else:
            yield Check(f"{mount.source}", partial(mount_problem, mount))
    yield Check("the passwords", partial(secrets_problem, project))
    if project.rolls_out_to_kubernetes:
        yield Check("Docker's socket", partial(socket_group_problem, project))


def mount_problem(mount: Mount) -> Problem | None:
    """Whether the file or folder is there, of the right kind, and usable by the user of the containers."""
    if mount.target == PREDICTION_LOG:
        return _log_folder_problem(mount.source)
    if mount.target == AWS:
        return _aws_folder_problem(mount.source)
    if mount.target == SOCKET:
        return _socket_problem(mount.source)
    if mount.source == COMPOSE_FOLDER / "hospital" and not mount.source.exists():
        return None  # `make up` creates it
    if not mount.source.exists():
        return Problem(
            f"{mount.source}, which {mount.service} needs, does not exist; Docker would create it as a folder of root.",
            f"create it, or correct docker-compose/.env: {mount.source} is mounted as {mount.target}",
        )
    return _readable_folder_problem(mount.source) if mount.target == HOSPITAL else None


def kubeconfig_problem(path: Path, context: str) -> Problem | None:
    """Whether the deployer's kubeconfig is a file that containers can read. Args: context, in it."""
    if path == NOTHING:
        return None
    create = set_up_command(_quoted(path), context)
    if not path.exists():
        return Problem(f"The kubeconfig {path} does not exist; Docker would create a folder of that name.", create)
    if not path.is_file():
        return Problem(
            f"The kubeconfig {path} is a folder, which Docker creates if the file is missing.",
            f"sudo rmdir {_quoted(path)} && {create}",
        )
    if not _may(path, _READ):
        return Problem(
            f"The kubeconfig {path} cannot be read by user {CONTAINER_UID} of the containers.",
            f"chmod 444 {_quoted(path)}",
        )
    return None


def _log_folder_problem(path: Path) -> Problem | None:
    create = f"sudo install -d -o {CONTAINER_UID} -g {CONTAINER_UID} -m 750 {_quoted(path)}"
    if not path.exists():
        return Problem(f"The log folder {path} does not exist; Docker would create it as root.", create)
    if not path.is_dir():
        return Problem(
            f"The log folder {path} is not a folder.", f"sudo mv {_quoted(path)} {_quoted(path)}.old && {create}"
        )
    if not _may(path, _READ | _WRITE | _ENTER):
        owner = path.stat()
        return Problem(
            f"The log folder {path} belongs to user {owner.st_uid} and has mode {stat.S_IMODE(owner.st_mode):o}, so user "
            f"{CONTAINER_UID} of the containers cannot write to it.",
            create,
        )
    return None


def _aws_folder_problem(path: Path) -> Problem | None:
    if path == NOTHING:
        return None
    if not (path / "config").is_file():
        return Problem(
            f"{path} has no file config with the credentials of AWS.",
            "correct HEALTHPREDICT_AWS_DIR, or unset it to use the credentials of this shell",
        )
    files = [file for file in (path / "config", path / "credentials.json") if file.exists()]
    if _may(path, _READ | _ENTER) and all(_may(file, _READ) for file in files):
        return None
    return Problem(
        f"The credentials of AWS in {path} cannot be read by user {CONTAINER_UID} of the containers.",
        # Not for everybody on this machine.
        f"sudo chgrp -R {CONTAINER_UID} {_quoted(path)} && sudo chmod -R ug+rX {_quoted(path)}",
    )


def _socket_problem(path: Path) -> Problem | None:
    if path.exists():
        return None
    return Problem(
        f"There is no socket {path}, although the Docker engine responds: it is rootless, or not of this machine.",
        "use the engine that has this socket: unset DOCKER_HOST, and run docker context use default",
    )


def _readable_folder_problem(path: Path) -> Problem | None:
    if not path.is_dir():
        return Problem(f"{path} is not a folder.", "correct docker-compose/.env, so that it names a folder")
    if not _may(path, _READ | _ENTER):
        return Problem(
            f"The folder {path} cannot be read by user {CONTAINER_UID} of the containers.",
            f"chmod o+rx {_quoted(path)}",
        )
    return None


def secrets_problem(project: ComposeProject) -> Problem | None:
    """Whether the files of passwords are usable. Missing ones are created, unless a database already has their passwords."""
    files = project.secrets()
    for path in files.values():
        if path.is_dir():
            return Problem(f"The password {path} is a folder.", f"sudo rmdir {_quoted(path)}, then run this again")
        if path.exists() and not _may(path, _READ):
            return Problem(
                f"The password {path} cannot be read by user {CONTAINER_UID} of the containers.",
                f"chmod 444 {_quoted(path)}",
            )
    passwords = [path for name, path in files.items() if name in _OF_DATABASES]
    missing = [path for path in passwords if not path.exists() or path.stat().st_size == 0]
    databases = project.model.get("volumes", {}).get("postgres", {}).get("name", "")
    if missing and run(["docker", "volume", "inspect", databases]).returncode == 0:
        return Problem(
            f"The password {missing[0]} is missing, but the databases in volume {databases} were made with it.",
            f"copy it back to {_quoted(missing[0].parent)}; without a copy, make destroy and restore a backup",
        )
    return None


def socket_group_problem(project: ComposeProject) -> Problem | None:
    """Whether the deploy worker has the group of Docker's socket, with which it builds images."""
    groups = {str(group) for group in project.model["services"][DEPLOY_WORKER].get("group_add", ())}
    try:
        owner = str(Path(SOCKET).stat().st_gid)
    except OSError:
        return None  # reported as a mount
    if owner in groups:
        return None
    return Problem(
        f"The group of {SOCKET} is {owner}, and the deploy worker has {', '.join(sorted(groups))}, so it cannot build images.",
        f"set HEALTHPREDICT_DOCKER_GID={owner} in docker-compose/.env",
    )


def _may(path: Path, wanted: int) -> bool:
    """Whether the user of the containers has these rights. Args: wanted, bits of read, write and enter."""
    found = path.stat()
    shift = 6 if found.st_uid == CONTAINER_UID else 3 if found.st_gid == CONTAINER_UID else 0
    return (stat.S_IMODE(found.st_mode) >> shift) & wanted == wanted


def _quoted(path: Path) -> str:
    return shlex.quote(os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path))
