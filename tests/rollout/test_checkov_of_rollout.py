"""What others' rules say of the pods and of the image: what a rollout applies, with every exception explained in one file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from healthpredict.bundle.model import Bundle
from healthpredict.rollout.manifests import read_manifests
from healthpredict.rollout.objects import wanted

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOOLS = Path(os.environ.get("HEALTHPREDICT_INFRA_TOOLS", ROOT / ".venv-infra" / "bin"))
IMAGE = f"registry.example/health-predict@sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def reports(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Checkov's reports of the Kubernetes objects and of the Dockerfile."""
    checkov = TOOLS / "checkov"
    if not checkov.exists():
        pytest.skip(f"checkov is not in {TOOLS.name}: `make tools` installs it into an environment of its own")
    folder = tmp_path_factory.mktemp("checked")
    applied = wanted(read_manifests(ROOT / "k8s/overlays/minikube"), bundle, IMAGE, {"api-keys.json": b"{}"})
    objects = [*read_manifests(ROOT / "k8s/administrator"), *applied]
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    shutil.copy(ROOT / "docker-compose/Dockerfile.serving", folder / "Dockerfile")
    options = ["--framework", "kubernetes", "dockerfile", "--compact", "--quiet", "--skip-download", "--output", "json"]
    done = subprocess.run(
        [checkov, "--directory", folder, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    reports: list[dict[str, Any]] = json.loads(done.stdout)
    return reports


def test_checkov_read_everything(reports: list[dict[str, Any]]) -> None:
    assert {report["check_type"] for report in reports} == {"kubernetes", "dockerfile"}
    assert sum(report["summary"]["parsing_errors"] for report in reports) == 0
    assert sum(report["summary"]["passed"] for report in reports) > 140


def test_checkov_finds_what_has_a_reason_and_nothing_else(reports: list[dict[str, Any]]) -> None:
    exceptions = yaml.safe_load((HERE / "checkov_exceptions.yaml").read_text())
    unexplained, used = [], set()
    for failed in (check for report in reports for check in report["results"]["failed_checks"]):
        exception = exceptions.get(failed["check_id"])
        if exception and re.fullmatch(exception["resources"], failed["resource"]):
            used.add(failed["check_id"])
        else:
            unexplained.append((failed["check_id"], failed["resource"], failed["check_name"]))
    assert unexplained == []
    assert used == set(exceptions), "an exception is no longer needed"
