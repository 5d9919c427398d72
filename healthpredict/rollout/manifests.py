"""Read the rendered Kubernetes manifests in `k8s/`.

`make manifests` renders each kustomization to a `rendered.yaml`, because the image of the workers has no kustomize. Never edit that
file. A test checks that it is up to date.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from healthpredict.errors import ConfigurationError

RENDERED: Final = "rendered.yaml"
KubernetesObject = dict[str, Any]
"""An object of Kubernetes: a manifest to apply, or what the cluster returns."""


def read_manifests(folder: Path) -> list[KubernetesObject]:
    """Read the rendered manifests of a kustomization's folder.

    Raises:
        ConfigurationError: `rendered.yaml` does not exist or is not YAML.
    """
    path = folder / RENDERED
    try:
        return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"The Kubernetes manifests in {path} cannot be read: {error}. Run `make manifests`."
        ) from error


def rename_secret(manifest: KubernetesObject, old: str, new: str) -> None:
    """Replace the name of a Secret in the volumes of a pod template."""
    for volume in volumes(manifest):
        if volume.get("secret", {}).get("secretName") == old:
            volume["secret"]["secretName"] = new


def volumes(manifest: KubernetesObject) -> list[dict[str, Any]]:
    """The volumes of an object's pod template. Empty if it has none."""
    found: list[dict[str, Any]] = manifest.get("spec", {}).get("template", {}).get("spec", {}).get("volumes") or []
    return found


def only_manifest(manifests: list[KubernetesObject], kind: str) -> KubernetesObject:
    """Return the manifest of a kind of which there must be exactly one.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    found = [manifest for manifest in manifests if manifest["kind"] == kind]
    if len(found) != 1:
        raise ConfigurationError(
            f"There are {len(found)} Kubernetes manifests of kind {kind} instead of one. Correct the files in k8s/."
        )
    return found[0]
