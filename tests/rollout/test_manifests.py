"""The rendered Kubernetes manifests are up to date, and current clusters accept them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from healthpredict.errors import ConfigurationError
from healthpredict.rollout.manifests import RENDERED, only_manifest, read_manifests

K8S = Path(__file__).parents[2] / "k8s"
FOLDERS = ["administrator", "overlays/minikube", "overlays/local"]


def by_name(manifests: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_rendered_manifests_are_up_to_date(folder: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", str(K8S / folder)], check=True, capture_output=True, text=True)
    rendered = by_name(read_manifests(K8S / folder))
    assert rendered == by_name(list(yaml.safe_load_all(done.stdout))), "run make manifests"


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_manifests_are_valid_in_a_current_kubernetes(folder: str) -> None:
    for manifest in read_manifests(K8S / folder):
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_validation_finds_an_unknown_field() -> None:
    deployment = only_manifest(read_manifests(K8S / "overlays/minikube"), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFs"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("content", ["{op", None])
def test_a_missing_or_broken_rendered_file_is_reported_with_the_command_that_renders_it(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / RENDERED).write_text(content)
    with pytest.raises(ConfigurationError, match=rf"(?s){re.escape(str(tmp_path))}.* cannot be read: .*make manifests"):
        read_manifests(tmp_path)
