"""The objects of a rollout, made from the Kubernetes files: what they are called, and what they say of themselves."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from healthpredict.bundle.model import Bundle
from healthpredict.rollout.manifests import KubernetesObject, rename_secret, the_one
from healthpredict.rollout.progress import TEMPLATE_HASH

KEYS: Final = "healthpredict-keys"
"""Secret that the pods read; its name ends with a digest of its content."""
OWN_KEY: Final = "healthpredict-deployer-key"
"""Secret with the API key that rollouts verify with, in the clear; pods do not read it."""
PULL: Final = "healthpredict-pull"
"""Secret with the login of the registry, where it wants one."""
VERSION: Final = "healthpredict/model-version"
DIGEST: Final = "healthpredict/bundle-digest"
VERIFIED: Final = "healthpredict/verified-template"
"""Annotations: of the pod template, what it serves; of the Deployment, the template that was verified last."""
TRACK: Final = "healthpredict/track"
"""Label that tells the pods of the canary from the others; the Service does not look at it."""
MANAGED: Final = {"app.kubernetes.io/managed-by": "healthpredict"}
_LETTERS_OF_DIGEST: Final = 10


@dataclass(frozen=True)
class Served:
    """What a template serves.

    Attributes:
        version: of the registry.
        bundle_digest: of its bundle.
        image: by digest.
    """

    version: int
    bundle_digest: str
    image: str


def wanted(
    manifests: list[KubernetesObject], bundle: Bundle, image: str, files: Mapping[str, bytes]
) -> list[KubernetesObject]:
    """The objects that put a bundle into service, in the order in which they are applied: the Deployment last.

    Args:
        manifests: from the files.
        bundle: in the image.
        image: by digest.
        files: of the Secret that the pods read, by name.
    """
    manifests = copy.deepcopy(manifests)
    deployment = the_one(manifests, "Deployment")
    digest = hashlib.sha256(json.dumps({name: data.hex() for name, data in sorted(files.items())}).encode()).hexdigest()
    keys = secret(f"{KEYS}-{digest[:_LETTERS_OF_DIGEST]}", files)
    keys["metadata"]["namespace"] = deployment["metadata"].get("namespace", "default")
    rename_secret(deployment, KEYS, keys["metadata"]["name"])
    template = deployment["spec"]["template"]
    template["metadata"]["annotations"] = {VERSION: str(bundle.manifest.model_version), DIGEST: bundle.digest}
    template["spec"]["containers"][0]["image"] = image
    others = [manifest for manifest in manifests if manifest is not deployment]
    ordered = [*others, keys, deployment]
    for manifest in ordered:
        manifest["metadata"].setdefault("labels", {}).update(MANAGED)
    return ordered


def with_template(deployment: KubernetesObject, replica_set: KubernetesObject, replicas: int) -> KubernetesObject:
    """A Deployment with the template of a ReplicaSet, just as it was: it takes that ReplicaSet again, whose pods may still run."""
    back: KubernetesObject = copy.deepcopy(deployment)
    template = copy.deepcopy(replica_set["spec"]["template"])
    del template["metadata"]["labels"][TEMPLATE_HASH]
    back["metadata"].setdefault("labels", {}).update(MANAGED)
    back["spec"] |= {"template": template, "replicas": replicas}
    return back


def canary_of(deployment: KubernetesObject) -> KubernetesObject:
    """One pod of the same template, which gets its share of what the Service is asked."""
    canary: KubernetesObject = copy.deepcopy(deployment)
    canary["metadata"]["name"] += "-canary"
    canary["spec"]["replicas"] = 1
    for labels in (canary["spec"]["selector"]["matchLabels"], canary["spec"]["template"]["metadata"]["labels"]):
        labels[TRACK] = "canary"
    return canary


def served(replica_set: KubernetesObject) -> Served:
    """What the pods of a ReplicaSet of ours serve."""
    template = replica_set["spec"]["template"]
    noted = template["metadata"]["annotations"]
    return Served(int(noted[VERSION]), noted[DIGEST], template["spec"]["containers"][0]["image"])


def secret(name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """A Secret with files."""
    data = {file: base64.b64encode(content).decode() for file, content in files.items()}
    metadata = {"name": name, "labels": dict(MANAGED)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def pull_secret(repository: str, login: Mapping[str, str]) -> dict[str, Any]:
    """A Secret that lets nodes pull. Args: repository; login, `username` and `password`."""
    auth = base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
    config = {"auths": {repository.partition("/")[0]: {**login, "auth": auth}}}
    made = secret(PULL, {".dockerconfigjson": json.dumps(config).encode()})
    return {**made, "type": "kubernetes.io/dockerconfigjson"}
