"""Make targets that write to or delete from the source tree."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = {"var", "reports", "secrets", "hospital"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the Makefile and of `k8s/`."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    return tmp_path


def make(tree: Path, target: str, kubectl: str = "exit 1") -> int:
    programs = tree / "programs"
    programs.mkdir()
    (programs / "kubectl").write_text(f"#!/bin/sh\n{kubectl}\n")
    (programs / "kubectl").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(
        ["make", "-C", str(tree), target], env=environment, capture_output=True, check=False
    ).returncode


def rendered(tree: Path) -> dict[Path, str]:
    return {path.relative_to(tree): path.read_text() for path in (tree / "k8s").rglob("rendered.yaml*")}


def test_a_failed_kubectl_leaves_the_rendered_manifests_as_they_were(tree: Path) -> None:
    before = rendered(tree)
    assert make(tree, "manifests", "echo half; exit 1") != 0
    assert rendered(tree) == before


def test_rendered_manifests_name_their_make_target(tree: Path) -> None:
    before = rendered(tree)
    assert make(tree, "manifests", "echo 'kind: Service'") == 0
    assert rendered(tree) == dict.fromkeys(before, "# Rendered by `make manifests`. Do not edit.\nkind: Service\n")


def test_clean_deletes_every_ignored_folder_except_data_reports_and_passwords(tree: Path) -> None:
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.endswith("/")]
    folders = {tree / name.replace("*", "healthpredict") for name in ignored}
    for folder in folders:
        folder.mkdir(parents=True)
    assert make(tree, "clean") == 0
    assert {folder.name for folder in folders if folder.exists()} == KEPT
