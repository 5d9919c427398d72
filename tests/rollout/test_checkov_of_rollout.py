"""Checkov accepts what a rollout applies, and the Dockerfile. Every exception has a reason in one file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from policy_tools import assert_every_finding_has_a_reason, run_checkov

from healthpredict.bundle.model import Bundle
from healthpredict.rollout.manifests import read_manifests
from healthpredict.rollout.objects import objects_to_apply

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
IMAGE = f"registry.example/health-predict@sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def reports(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Checkov's reports of the Kubernetes objects and of the Dockerfile."""
    folder = tmp_path_factory.mktemp("checked")
    applied = objects_to_apply(read_manifests(ROOT / "k8s/overlays/minikube"), bundle, IMAGE, {"api-keys.json": b"{}"})
    objects = [*read_manifests(ROOT / "k8s/administrator"), *applied]
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    shutil.copy(ROOT / "docker-compose/Dockerfile.serving", folder / "Dockerfile")
    return run_checkov(folder, "kubernetes", "dockerfile")


def test_checkov_read_everything(reports: list[dict[str, Any]]) -> None:
    assert {report["check_type"] for report in reports} == {"kubernetes", "dockerfile"}
    assert sum(report["summary"]["passed"] for report in reports) > 140


def test_every_finding_has_a_reason(reports: list[dict[str, Any]]) -> None:
    assert_every_finding_has_a_reason(reports, HERE / "checkov_exceptions.yaml")
