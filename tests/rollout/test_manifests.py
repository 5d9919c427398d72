"""The rendered Kubernetes objects: they are up to date, and current clusters accept them."""

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
from healthpredict.rollout.manifests import RENDERED, read_manifests, the_one

K8S = Path(__file__).parents[2] / "k8s"
FOLDERS = ["administrator", "overlays/minikube", "overlays/local"]


def by_name(manifests: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_rendered_is_what_kubectl_makes_of_the_sources_now(folder: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not there")
    done = subprocess.run([kubectl, "kustomize", str(K8S / folder)], check=True, capture_output=True, text=True)
    rendered = by_name(read_manifests(K8S / folder))
    assert rendered == by_name(list(yaml.safe_load_all(done.stdout))), "run make manifests"


@pytest.mark.parametrize("folder", FOLDERS)
def test_they_are_valid_for_a_current_cluster(folder: str) -> None:
    for manifest in read_manifests(K8S / folder):
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_a_mistake_would_be_found() -> None:
    deployment = the_one(read_manifests(K8S / "overlays/minikube"), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFs"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("content", ["{op", None])
def test_a_kustomization_that_was_not_rendered_is_named_with_the_command(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / RENDERED).write_text(content)
    with pytest.raises(
        ConfigurationError, match=rf"(?s)cannot be read: .*kubectl kustomize {re.escape(str(tmp_path))} >"
    ):
        read_manifests(tmp_path)
