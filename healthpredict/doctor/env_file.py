"""Names in `docker-compose/.env`. Docker compose ignores a misspelt one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from healthpredict.config import Settings, variables
from healthpredict.doctor.problem import Check, Problem
from healthpredict.doctor.project import ENV_FILE, POSTGRES_FILE, S3_FILE, ComposeProject


def env_checks(project: ComposeProject, env_file: Path = ENV_FILE) -> Iterator[Check]:
    """One check for each of our variables in the file."""
    if not env_file.exists():
        return
    read = {name for file in project.files for name in _read_in(file)}
    for name in names_in(env_file):
        yield Check(name, partial(name_problem, name, read))


def names_in(env_file: Path) -> list[str]:
    """Our variables that the file sets to something."""
    return re.findall(r"^\s*(?:export\s+)?(\w*HEALTH\w*)\s*=\s*\S", env_file.read_text(), re.MULTILINE)


def name_problem(name: str, read: set[str]) -> Problem | None:
    """Whether docker compose reads a variable. Args: read, the variables in its files."""
    if name in read:
        return None
    if name in _read_in(S3_FILE):
        return Problem(
            f"docker-compose/.env sets {name}, which only services on S3 read.",
            "use AWS=1 with every make command, or delete it",
        )
    if name in _read_in(POSTGRES_FILE):
        return Problem(
            f"docker-compose/.env sets {name}, which only services on your own Postgres read.",
            "use POSTGRES=1 with every make command, or delete it",
        )
    if name in variables(Settings):
        return Problem(
            f"docker-compose/.env sets {name}, which no service reads.",
            "set it in Prefect's variable health_predict_settings, which every run reads",
        )
    nearest = max(read, key=lambda other: difflib.SequenceMatcher(None, name.upper(), other).ratio())
    return Problem(
        f"docker-compose/.env sets {name}, which no service reads; the nearest name is {nearest}.",
        "rename or delete it",
    )


def _read_in(file: Path) -> set[str]:
    """The variables that a compose file reads."""
    return set(re.findall(r"\$\{([A-Z0-9_]+)", file.read_text()))
