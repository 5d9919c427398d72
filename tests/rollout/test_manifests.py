"""The Kubernetes files: what a rollout makes of them is what kubectl makes of them, and what current clusters take."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from healthpredict.errors import ConfigurationError
from healthpredict.rollout.manifests import read_manifests, the_one, volumes

K8S = Path(__file__).parents[2] / "k8s"
FOLDERS = ["administrator", "overlays/minikube", "overlays/local"]


def by_name(manifests: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


@pytest.mark.parametrize("folder", FOLDERS)
def test_they_are_read_as_kubectl_reads_them(folder: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not there")
    done = subprocess.run([kubectl, "kustomize", str(K8S / folder)], check=True, capture_output=True, text=True)
    assert by_name(read_manifests(K8S / folder)) == by_name(list(yaml.safe_load_all(done.stdout)))


@pytest.mark.parametrize("folder", FOLDERS)
def test_they_are_valid_for_a_current_cluster(folder: str) -> None:
    for manifest in read_manifests(K8S / folder):
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_a_mistake_would_be_found() -> None:
    deployment = the_one(read_manifests(K8S / "overlays/minikube"), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFs"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    shutil.copytree(K8S, tmp_path / "k8s")
    return tmp_path / "k8s"


def test_other_arguments_are_another_config_map_that_the_template_names(files: Path) -> None:
    before = the_one(read_manifests(files / "overlays/local"), "ConfigMap")["metadata"]["name"]
    with (files / "base/arguments").open("a") as arguments:
        arguments.write("--admin-keys=<none> & é\n")
    manifests = read_manifests(files / "overlays/local")
    after = the_one(manifests, "ConfigMap")["metadata"]["name"]
    assert after != before
    named = [v["configMap"]["name"] for v in volumes(the_one(manifests, "Deployment")) if "configMap" in v]
    assert named == [after]
    test_they_are_read_as_kubectl_reads_them(str(files / "overlays/local"))


def test_what_only_kustomize_knows_is_refused(files: Path) -> None:
    with (files / "overlays/local/kustomization.yaml").open("a") as kustomization:
        kustomization.write("namePrefix: mine-\n")
    with pytest.raises(ConfigurationError, match="uses namePrefix, which a rollout does not know"):
        read_manifests(files / "overlays/local")


@pytest.mark.parametrize("content", ["- {op: replace, path: /spec/none/at/all, value: 1}\n", "{op", None])
def test_a_broken_file_is_named(files: Path, content: str | None) -> None:
    patch = files / "overlays/local/sooner.yaml"
    if content is None:
        patch.unlink()
    else:
        patch.write_text(content)
    with pytest.raises(ConfigurationError, match="overlays/local cannot be read"):
        read_manifests(files / "overlays/local")
