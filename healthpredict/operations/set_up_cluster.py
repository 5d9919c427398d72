"""Set up a cluster once, as its administrator: a namespace, a volume for the log, and a deployer limited to that namespace."""

from __future__ import annotations

import base64
import time
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict

from healthpredict.errors import ConfigurationError, RolloutError
from healthpredict.operations.installation import Installation
from healthpredict.operations.put_on_kubernetes import source_path
from healthpredict.rollout.cluster import Cluster
from healthpredict.rollout.manifests import only_manifest, read_manifests
from healthpredict.storage.atomic import write_atomically

ADMINISTRATOR: Final = Path("k8s/administrator")
_TOKEN_TYPE: Final = "kubernetes.io/service-account-token"  # noqa: S105 -- a type of Secret
_SECONDS_FOR_A_TOKEN: Final = 30.0


class SetUp(BaseModel):
    """What was set up.

    Attributes:
        namespace: namespace of rollouts.
        kubeconfig: kubeconfig of the deployer.
        context: in that kubeconfig.
    """

    model_config = ConfigDict(frozen=True)

    namespace: str
    kubeconfig: Path
    context: str


def set_up_cluster(installation: Installation, kubeconfig: Path, context: str, folder: Path = ADMINISTRATOR) -> SetUp:
    """Apply the administrator's manifests, and write the deployer's kubeconfig. A second call changes nothing else.

    Args:
        installation: its settings name the deployer's kubeconfig and context.
        kubeconfig: the administrator's kubeconfig. Rollouts do not use it.
        context: name of a context in it.
        folder: folder of the administrator's manifests, relative to the source.

    Raises:
        ConfigurationError: a setting is missing, or a file cannot be read.
        RolloutError: Kubernetes refused something.
    """
    settings = installation.settings
    if settings.kubeconfig is None or settings.rollout.context is None:
        raise ConfigurationError(
            "Name the file to write the deployer's kubeconfig to, and its context: set HEALTHPREDICT_KUBECONFIG and "
            "HEALTHPREDICT_ROLLOUT__CONTEXT."
        )
    if settings.kubeconfig.resolve() == kubeconfig.resolve():
        raise ConfigurationError(
            f"{kubeconfig} is the administrator's kubeconfig. Name another file in HEALTHPREDICT_KUBECONFIG for the deployer's."
        )
    manifests = read_manifests(source_path(installation) / folder)
    namespace = only_manifest(manifests, "Namespace")["metadata"]["name"]
    token_name = next(m["metadata"]["name"] for m in manifests if m.get("type") == _TOKEN_TYPE)
    cluster = Cluster(kubeconfig, context, namespace)
    for manifest in manifests:
        cluster.apply(manifest)
    deadline = time.monotonic() + _SECONDS_FOR_A_TOKEN
    while not (token := (cluster.read("Secret", token_name) or {}).get("data", {}).get("token")):
        if time.monotonic() > deadline:
            raise RolloutError(f"Kubernetes created no token for the deployer: Secret {token_name} is still empty.")
        time.sleep(0.2)
    user = {"token": base64.b64decode(token).decode()}
    content = yaml.safe_dump(_kubeconfig(settings.rollout.context, cluster, user))
    write_atomically(settings.kubeconfig, BytesIO(content.encode()), mode=0o600)
    return SetUp(namespace=namespace, kubeconfig=settings.kubeconfig, context=settings.rollout.context)


def _kubeconfig(context: str, cluster: Cluster, user: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": cluster.address()}],
        "users": [{"name": "healthpredict-deployer", "user": user}],
        "contexts": [
            {
                "name": context,
                "context": {"cluster": context, "user": "healthpredict-deployer", "namespace": cluster.namespace},
            }
        ],
    }
