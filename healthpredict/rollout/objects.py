"""The objects of a rollout: their names and annotations, and how they are built from manifests and bundle."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from healthpredict.bundle.model import Bundle
from healthpredict.rollout.manifests import KubernetesObject, only_manifest, rename_secret
from healthpredict.rollout.progress import TEMPLATE_HASH

KEYS: Final = "healthpredict-keys"
"""Start of the name of the Secret that the pods read. The name ends with a digest of the content."""
OWN_KEY: Final = "healthpredict-deployer-key"
"""Secret with the API key that rollouts use, in plain text. Pods do not read it."""
PULL: Final = "healthpredict-pull"
"""Secret with the login of the image registry, if it requires one."""
VERSION: Final = "healthpredict/model-version"
DIGEST: Final = "healthpredict/bundle-digest"
"""These two annotations of a pod template name the model version and the digest of the bundle that it serves."""
VERIFIED: Final = "healthpredict/verified-template"
"""Annotation of the Deployment: the hash of the template that was verified last."""
TRACK: Final = "healthpredict/track"
"""Label that distinguishes canary pods from the others. The Service does not select by it."""
MANAGED: Final = {"app.kubernetes.io/managed-by": "healthpredict"}
_DIGEST_LENGTH: Final = 10


@dataclass(frozen=True)
class Served:
    """What a pod template serves.

    Attributes:
        version: of the model.
        bundle_digest: of its bundle.
        image: by digest.
    """

    version: int
    bundle_digest: str
    image: str


def objects_to_apply(
    manifests: list[KubernetesObject],
    bundle: Bundle,
    image: str,
    files: Mapping[str, bytes],
    options: Sequence[str] = (),
) -> list[KubernetesObject]:
    """Build the objects that put a bundle into service, in the order in which to apply them. The Deployment is the last.

    Args:
        manifests: from `read_manifests`.
        bundle: in the image.
        image: by digest.
        files: content of the Secret that the pods read, by file name.
        options: of the API's command line, in addition to those in the manifests.
    """
    manifests = copy.deepcopy(manifests)
    deployment = only_manifest(manifests, "Deployment")
    digest = hashlib.sha256(json.dumps({name: data.hex() for name, data in sorted(files.items())}).encode()).hexdigest()
    keys = secret(f"{KEYS}-{digest[:_DIGEST_LENGTH]}", files)
    keys["metadata"]["namespace"] = deployment["metadata"].get("namespace", "default")
    rename_secret(deployment, KEYS, keys["metadata"]["name"])
    template = deployment["spec"]["template"]
    template["metadata"]["annotations"] = {VERSION: str(bundle.manifest.model_version), DIGEST: bundle.digest}
    template["spec"]["containers"][0]["image"] = image
    template["spec"]["containers"][0]["args"] += options
    others = [manifest for manifest in manifests if manifest is not deployment]
    ordered = [*others, keys, deployment]
    for manifest in ordered:
        manifest["metadata"].setdefault("labels", {}).update(MANAGED)
    return ordered


def with_template(deployment: KubernetesObject, replica_set: KubernetesObject, replicas: int) -> KubernetesObject:
    """A Deployment with the unchanged template of a ReplicaSet.

    Kubernetes then uses that ReplicaSet again, so its pods that still run are not restarted.
    """
    changed: KubernetesObject = copy.deepcopy(deployment)
    template = copy.deepcopy(replica_set["spec"]["template"])
    del template["metadata"]["labels"][TEMPLATE_HASH]
    changed["metadata"].setdefault("labels", {}).update(MANAGED)
    changed["spec"] |= {"template": template, "replicas": replicas}
    return changed


def canary_of(deployment: KubernetesObject) -> KubernetesObject:
    """A Deployment of one pod with the same template. The Service sends it a share of the requests."""
    canary: KubernetesObject = copy.deepcopy(deployment)
    canary["metadata"]["name"] += "-canary"
    canary["spec"]["replicas"] = 1
    for labels in (canary["spec"]["selector"]["matchLabels"], canary["spec"]["template"]["metadata"]["labels"]):
        labels[TRACK] = "canary"
    return canary


def served(replica_set: KubernetesObject) -> Served:
    """What the pods of a ReplicaSet serve, from its annotations."""
    template = replica_set["spec"]["template"]
    annotations = template["metadata"]["annotations"]
    return Served(int(annotations[VERSION]), annotations[DIGEST], template["spec"]["containers"][0]["image"])


def secret(name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """A Secret of files by name."""
    data = {file: base64.b64encode(content).decode() for file, content in files.items()}
    metadata = {"name": name, "labels": dict(MANAGED)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def pull_secret(repository: str, login: Mapping[str, str]) -> dict[str, Any]:
    """A Secret with which nodes pull images. Args: repository; login, `username` and `password`."""
    auth = base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
    config = {"auths": {repository.partition("/")[0]: {**login, "auth": auth}}}
    pull = secret(PULL, {".dockerconfigjson": json.dumps(config).encode()})
    return {**pull, "type": "kubernetes.io/dockerconfigjson"}
