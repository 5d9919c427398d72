"""Kubernetes objects from the kustomize files in `k8s/`, without the kustomize program, which a worker's image does not have.

What of kustomize the files use is little: resources, a namespace, JSON patches (RFC 6902) and ConfigMaps from files, named by
their content. A test compares the result with `kubectl kustomize`. Anything else in a file is refused rather than ignored.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonpatch
import jsonpointer
import yaml

from healthpredict.errors import ConfigurationError

KubernetesObject = dict[str, Any]
"""One Kubernetes object, as in its YAML."""
_KNOWN: Final = {"apiVersion", "kind", "namespace", "resources", "patches", "configMapGenerator"}
_OF_THE_CLUSTER: Final = {"Namespace", "PersistentVolume"}
"""Kinds among ours that live in no namespace."""
_HASH_LETTERS: Final = str.maketrans("013ae", "ghkmt")
"""Kustomize's, so that a digest spells no word."""
_HASH_LENGTH: Final = 10


def read_manifests(folder: Path) -> list[KubernetesObject]:
    """The objects of a kustomization, ConfigMaps with a name that ends with a digest of their content.

    Args:
        folder: with a `kustomization.yaml`.

    Raises:
        ConfigurationError: a file is missing, broken, or uses more of kustomize than is known here.
    """
    try:
        manifests, generated = _read(folder.resolve())
    except (OSError, yaml.YAMLError, jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise ConfigurationError(f"The Kubernetes files in {folder} cannot be read: {error}") from error
    for manifest in generated:
        name = manifest["metadata"]["name"]
        manifest["metadata"]["name"] = f"{name}-{content_hash(manifest)}"
        for other in manifests:
            rename_reference(other, "configMap", name, manifest["metadata"]["name"])
    return [*manifests, *generated]


def content_hash(manifest: KubernetesObject) -> str:
    """Kustomize's digest of a ConfigMap's data. Args: manifest, of the ConfigMap."""
    # Kustomize puts a name here too, and it is always empty.
    content = {"data": manifest["data"], "kind": "ConfigMap", "name": ""}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Go writes these three so that JSON can be put into a page.
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH].translate(_HASH_LETTERS)


def rename_reference(manifest: KubernetesObject, kind: str, old: str, new: str) -> None:
    """Let the volumes of an object's pod template name another ConfigMap (`configMap`) or Secret (`secret`)."""
    key = "secretName" if kind == "secret" else "name"
    for volume in volumes(manifest):
        if volume.get(kind, {}).get(key) == old:
            volume[kind][key] = new


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


def _read(folder: Path) -> tuple[list[KubernetesObject], list[KubernetesObject]]:
    """Objects of a folder: those from files, and ConfigMaps that are generated."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    if unknown := set(kustomization) - _KNOWN:
        raise ConfigurationError(
            f"{folder / 'kustomization.yaml'} uses {', '.join(sorted(unknown))}, which a rollout does not know. "
            f"It knows {', '.join(sorted(_KNOWN))}."
        )
    manifests: list[KubernetesObject] = []
    generated: list[KubernetesObject] = []
    for name in kustomization.get("resources", ()):
        if (folder / name).is_dir():
            below, generated_below = _read(folder / name)
            manifests += below
            generated += generated_below
        else:
            documents = yaml.safe_load_all((folder / name).read_text(encoding="utf-8"))
            manifests += [document for document in documents if document]
    generated += [_generate(folder, entry) for entry in kustomization.get("configMapGenerator", ())]
    for entry in kustomization.get("patches", ()):
        patch = jsonpatch.JsonPatch(yaml.safe_load((folder / entry["path"]).read_text(encoding="utf-8")))
        for manifest in _targets([*manifests, *generated], entry["target"]):
            changed = patch.apply(copy.deepcopy(manifest))
            manifest.clear()
            manifest.update(changed)
    if namespace := kustomization.get("namespace"):
        for manifest in (*manifests, *generated):
            if manifest["kind"] not in _OF_THE_CLUSTER:
                manifest["metadata"]["namespace"] = namespace
    return manifests, generated


def _targets(manifests: list[KubernetesObject], target: dict[str, str]) -> Iterator[KubernetesObject]:
    for manifest in manifests:
        if manifest["kind"] == target["kind"] and manifest["metadata"]["name"] == target["name"]:
            yield manifest


def _generate(folder: Path, entry: dict[str, Any]) -> KubernetesObject:
    data = {Path(name).name: (folder / name).read_text(encoding="utf-8") for name in entry["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": entry["name"]}, "data": data}
