"""Names in `docker-compose/.env`. Docker compose ignores a misspelt one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from healthpredict.config import Settings, variables
from healthpredict.doctor.problem import Check, Problem
from healthpredict.doctor.project import CHECKOUT, ENV_FILE, ComposeProject


def env_checks(project: ComposeProject, env_file: Path = ENV_FILE) -> Iterator[Check]:
    """One check for each of our variables in the file."""
    if not env_file.exists():
        return
    files = [word for option, word in zip(project.command, project.command[1:], strict=False) if option == "-f"]
    read = {name for file in files for name in re.findall(r"\$\{([A-Z0-9_]+)", (CHECKOUT / file).read_text())}
    for name in re.findall(r"^\s*(?:export\s+)?(\w*HEALTH\w*)\s*=\s*\S", env_file.read_text(), re.MULTILINE):
        yield Check(name, partial(name_problem, name, read))


def name_problem(name: str, read: set[str]) -> Problem | None:
    """Whether docker compose reads a variable. Args: read, the variables in its files."""
    if name in read:
        return None
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
