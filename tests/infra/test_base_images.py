"""Base images are named by the digest from their registry, or by their tag if there is none."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
from engine import INFRA

ROOT = INFRA.parent
DOCKERFILES = sorted((ROOT / "docker-compose").glob("Dockerfile.*"))
PYTHON = "python:3.11-slim-bookworm"
OLD, NEW = (f"sha256:{digit * 64}" for digit in "12")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A stand-in for Docker. The file `digest` has the digest of its images, and `calls` its calls."""
    command = tmp_path / "bin" / "docker"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\n[ "$2" = inspect ] || exit 0\n'
        f'for image; do :; done\necho "mirror.example/x@{OLD}"\n'
        f'[ ! -s {tmp_path}/digest ] || echo "${{image%%:*}}@$(cat {tmp_path}/digest)"\n'
    )
    command.chmod(0o755)
    (tmp_path / "digest").write_text(OLD)
    return tmp_path


def pin(engine: Path, *words: str) -> list[str]:
    """The lines of the env file after the script ran."""
    file = engine / "images.env"
    subprocess.run(
        [str(ROOT / "docker-compose" / "pin-base-images"), str(file), *words],
        env={**os.environ, "PATH": f"{engine / 'bin'}:{os.environ['PATH']}"},
        check=True,
        timeout=60,
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return file.read_text().splitlines()


def test_a_digest_is_kept_until_it_is_renewed(engine: Path) -> None:
    first = pin(engine)
    assert first == [f"PYTHON_IMAGE={PYTHON}@{OLD}", f"POSTGRES_IMAGE=postgres:15-bookworm@{OLD}"]
    (engine / "digest").write_text(NEW)
    assert pin(engine) == first
    assert pin(engine, "renew") == [line.replace(OLD, NEW) for line in first]


def test_other_lines_of_the_file_stay(engine: Path) -> None:
    (engine / "images.env").write_text("HEALTHPREDICT_WEBHOOK_URL=\n")
    (engine / "images.env").chmod(0o600)
    assert pin(engine, "renew")[0] == "HEALTHPREDICT_WEBHOOK_URL="


def test_an_image_from_no_registry_keeps_its_tag(engine: Path) -> None:
    (engine / "digest").write_text("")
    assert pin(engine) == []
    # It is there, so nothing is pulled.
    assert "pull" not in (engine / "calls").read_text()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_every_image_starts_from_the_argument_with_the_tag_as_its_default(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    assert re.findall(r"^ARG PYTHON_IMAGE=(.*)$", text, re.MULTILINE) == [PYTHON]
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) <= {"${PYTHON_IMAGE}", *stages}
    # What installs everything else is pinned by hash.
    assert not re.search(r"pip install(?!.*--require-hashes)", text.replace("\\\n", ""))


def test_compose_passes_the_same_image_to_every_build_and_to_the_rollouts() -> None:
    text = (ROOT / "docker-compose" / "compose.yaml").read_text()
    assert text.count("PYTHON_IMAGE: ${PYTHON_IMAGE:-python:3.11-slim-bookworm}") == 3
    assert 'PYTHON_IMAGE: "${PYTHON_IMAGE:-python:3.11-slim-bookworm}"' in text
    assert "HEALTHPREDICT_PYTHON_IMAGE: ${PYTHON_IMAGE:-" in text
