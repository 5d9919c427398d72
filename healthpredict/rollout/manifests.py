"""Kubernetes objects from the files in `k8s/`.

`make manifests` renders each kustomization there, because a worker's image has no kustomize. A test compares the result with what
`kubectl kustomize` makes of the sources now.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from healthpredict.errors import ConfigurationError

RENDERED: Final = "rendered.yaml"
KubernetesObject = dict[str, Any]
"""One Kubernetes object, as in its YAML."""


def read_manifests(folder: Path) -> list[KubernetesObject]:
    """Read the objects of a kustomization that was rendered.

    Args:
        folder: with a `kustomization.yaml` and what `kubectl kustomize` makes of it, `rendered.yaml`.

    Raises:
        ConfigurationError: the kustomization was not rendered, or the file is broken.
    """
    path = folder / RENDERED
    try:
        return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"The Kubernetes objects in {path} cannot be read: {error}. Run `kubectl kustomize {folder} >{path}`."
        ) from error


def rename_secret(manifest: KubernetesObject, old: str, new: str) -> None:
    """Let the volumes of an object's pod template name another Secret."""
    for volume in volumes(manifest):
        if volume.get("secret", {}).get("secretName") == old:
            volume["secret"]["secretName"] = new


def volumes(manifest: KubernetesObject) -> list[dict[str, Any]]:
    """The volumes of an object's pod template; empty where it has none."""
    found: list[dict[str, Any]] = manifest.get("spec", {}).get("template", {}).get("spec", {}).get("volumes") or []
    return found


def the_one(manifests: list[KubernetesObject], kind: str) -> KubernetesObject:
    """The only object of a kind.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    found = [manifest for manifest in manifests if manifest["kind"] == kind]
    if len(found) != 1:
        raise ConfigurationError(f"The Kubernetes files hold {len(found)} objects of kind {kind}, and must hold one.")
    return found[0]
