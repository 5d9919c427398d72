"""One namespace of one Kubernetes cluster, as plain objects: applied, read, deleted, and its pods asked."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from healthpredict.errors import ConfigurationError, RolloutError
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.verify import DRY_RUN

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from kubernetes.dynamic import DynamicClient
    from kubernetes.dynamic.resource import Resource

FIELD_MANAGER: Final = "healthpredict"
_TIMEOUT: Final = (5, 30)
"""Seconds to connect and to be answered."""
_VERSIONS: Final = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "Event": "v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Lease": "coordination.k8s.io/v1",
    "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PersistentVolume": "v1",
    "PersistentVolumeClaim": "v1",
    "Pod": "v1",
    "PodDisruptionBudget": "policy/v1",
    "ReplicaSet": "apps/v1",
    "Secret": "v1",
    "Service": "v1",
    "ServiceAccount": "v1",
}


class Unreachable(RolloutError):
    """The API of Kubernetes does not answer; it may again."""


class Unfit(RolloutError):
    """What serves is certainly not what it should be. Every other error leaves open what serves."""


class Conflict(RolloutError):
    """Someone else changed or made the object meanwhile."""


class Cluster:
    """See the module."""

    def __init__(self, kubeconfig: Path, context: str, namespace: str) -> None:
        """Args: kubeconfig; context, of it, by name; namespace.

        Raises:
            ConfigurationError: there is no such file or context.
        """
        from kubernetes import client
        from kubernetes.config import ConfigException, load_kube_config

        self.namespace = namespace
        self._configuration = client.Configuration()
        try:
            load_kube_config(str(kubeconfig), context, self._configuration, persist_config=False)
        except (ConfigException, OSError) as error:
            raise ConfigurationError(
                f"The kubeconfig {kubeconfig} with context {context!r} cannot be used ({error}). "
                "Name both: HEALTHPREDICT_KUBECONFIG and HEALTHPREDICT_ROLLOUT__CONTEXT."
            ) from error
        self._configuration.retries = False

    @property
    def host(self) -> str:
        """Of the cluster's API."""
        return urlsplit(self._configuration.host).hostname or ""

    def address(self) -> dict[str, str]:
        """Where the cluster is and how it is recognised, as in a kubeconfig."""
        authority = Path(self._configuration.ssl_ca_cert).read_bytes()
        return {
            "server": self._configuration.host,
            "certificate-authority-data": base64.b64encode(authority).decode(),
        }

    def serves(self, manifest: KubernetesObject) -> bool:
        """Whether the cluster knows this kind of object in this version."""
        return self._resource(manifest["apiVersion"], manifest["kind"]) is not None

    def apply(self, manifest: KubernetesObject, manager: str = FIELD_MANAGER) -> KubernetesObject:
        """Make an object, or make it what the manifest says; fields that others own and the manifest does not name stay.

        Raises:
            RolloutError: Kubernetes refused it.
        """
        what = f"apply {manifest['kind']} {manifest['metadata']['name']}"
        with _translated(what):
            applied = self._dynamic.server_side_apply(
                self._known(manifest["apiVersion"], manifest["kind"]),
                body=manifest,
                namespace=self.namespace,
                field_manager=manager,
                # What a person changed by hand is in the repository's files, or it is gone.
                force_conflicts=True,
                _request_timeout=_TIMEOUT,
            )
        return _plain(applied)

    def create(self, manifest: KubernetesObject) -> KubernetesObject:
        """Make an object.

        Raises:
            Conflict: there is one.
        """
        with _translated(f"create {manifest['kind']}"):
            resource = self._known(manifest["apiVersion"], manifest["kind"])
            return _plain(
                self._dynamic.create(resource, body=manifest, namespace=self.namespace, _request_timeout=_TIMEOUT)
            )

    def replace(self, manifest: KubernetesObject) -> KubernetesObject:
        """Replace an object of the same resource version.

        Raises:
            Conflict: it was changed meanwhile.
        """
        with _translated(f"replace {manifest['kind']}"):
            resource = self._known(manifest["apiVersion"], manifest["kind"])
            return _plain(
                self._dynamic.replace(resource, body=manifest, namespace=self.namespace, _request_timeout=_TIMEOUT)
            )

    def read(self, kind: str, name: str) -> KubernetesObject | None:
        """An object; None where there is none."""
        from kubernetes.dynamic.exceptions import NotFoundError

        with _translated(f"read {kind} {name}"):
            try:
                resource = self._known(_VERSIONS[kind], kind)
                return _plain(
                    self._dynamic.get(resource, name=name, namespace=self.namespace, _request_timeout=_TIMEOUT)
                )
            except NotFoundError:
                return None

    def find(
        self, kind: str, labels: dict[str, str] | None = None, fields: str | None = None
    ) -> list[KubernetesObject]:
        """The objects of a kind with these labels; none where the cluster does not know the kind."""
        resource = self._resource(_VERSIONS[kind], kind)
        if resource is None:
            return []
        with _translated(f"list {kind}"):
            found = self._dynamic.get(
                resource,
                namespace=self.namespace,
                label_selector=",".join(f"{name}={value}" for name, value in (labels or {}).items()) or None,
                field_selector=fields,
                _request_timeout=_TIMEOUT,
            )
        # Items of a list do not say what they are.
        return [{"apiVersion": _VERSIONS[kind], "kind": kind, **item} for item in _plain(found)["items"]]

    def delete(self, kind: str, name: str) -> None:
        """Delete an object, and what it owns; nothing happens where there is none."""
        from kubernetes.dynamic.exceptions import NotFoundError

        with _translated(f"delete {kind} {name}"):
            try:
                resource = self._known(_VERSIONS[kind], kind)
                body = {"propagationPolicy": "Background"}
                self._dynamic.delete(
                    resource, name=name, namespace=self.namespace, body=body, _request_timeout=_TIMEOUT
                )
            except NotFoundError:
                return

    def log_lines(self, pod: str, *, previous: bool, lines: int) -> list[str]:
        """The last lines that a pod wrote; empty where it wrote none."""
        from kubernetes.client import ApiException, CoreV1Api

        try:
            response = CoreV1Api(self._client).read_namespaced_pod_log(
                pod,
                self.namespace,
                previous=previous,
                tail_lines=lines,
                _request_timeout=_TIMEOUT,
                _preload_content=False,
            )
        except ApiException:
            return []  # its container never started
        return str(response.data.decode(errors="replace")).splitlines()

    def ask_pod(self, pod: str, port: int, path: str, key: str, body: bytes | None = None) -> bytes:
        """The answer of a pod itself, past the Service, through the API of Kubernetes.

        Args:
            pod: its name.
            port: of the pod.
            path: that is asked for.
            key: of the pod's API.
            body: JSON to post; None for a GET.

        Raises:
            RolloutError: it does not answer, or not well.
        """
        from kubernetes.client import ApiException, CoreV1Api
        from kubernetes.stream import portforward

        try:
            # On a client of its own: opening the stream changes how its client sends requests.
            core = CoreV1Api(self._new_client())
            forward = portforward(core.connect_get_namespaced_pod_portforward, pod, self.namespace, ports=str(port))
            connection = _OverSocket(pod, timeout=_TIMEOUT[1])
            connection.given = forward.socket(port)
            headers = {**DRY_RUN, "Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            connection.request("GET" if body is None else "POST", path, body, {**headers, "Connection": "close"})
            response = connection.getresponse()
            body = response.read()
        except (ApiException, OSError, http.client.HTTPException) as error:
            raise RolloutError(f"Pod {pod} does not answer {path}: {error}") from error
        if response.status != http.client.OK:
            raise RolloutError(f"Pod {pod} answers {path} with status {response.status}.")
        return body

    def _known(self, version: str, kind: str) -> Resource:
        resource = self._resource(version, kind)
        if resource is None:
            raise RolloutError(f"The cluster does not know {kind} in {version}. Choose another overlay, or upgrade it.")
        return resource

    def _resource(self, version: str, kind: str) -> Resource | None:
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        with _translated("discover what the cluster knows"):
            try:
                return self._dynamic.resources.get(api_version=version, kind=kind)
            except ResourceNotFoundError:
                return None

    @cached_property
    def _client(self) -> ApiClient:
        return self._new_client()

    @cached_property
    def _dynamic(self) -> DynamicClient:
        from kubernetes.dynamic import DynamicClient

        # What was found out about the cluster is kept in a file; by default one of a known name in a folder of everybody's.
        self._cache = tempfile.TemporaryDirectory()
        with _translated("connect"):
            return DynamicClient(self._client, cache_file=str(Path(self._cache.name, "resources.json")))

    def _new_client(self) -> ApiClient:
        from kubernetes.client import ApiClient

        return ApiClient(self._configuration)


class _OverSocket(http.client.HTTPConnection):
    """HTTP over a socket that is connected already."""

    given: socket.socket

    def connect(self) -> None:
        self.sock = self.given


def _plain(found: Any) -> KubernetesObject:
    plain: KubernetesObject = found.to_dict()
    return plain


@contextmanager
def _translated(purpose: str) -> Iterator[None]:
    from kubernetes.client import ApiException
    from kubernetes.dynamic.exceptions import ConflictError, DynamicApiError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ConflictError as error:
        raise Conflict(f"Kubernetes did not {purpose}: {_reason(error)}") from error
    except (ApiException, DynamicApiError) as error:
        raise RolloutError(f"Kubernetes did not {purpose}: {_reason(error)}") from error
    # What is no JSON, for instance of a proxy in between, is no answer either.
    except (HTTPError, OSError, ValueError) as error:
        raise Unreachable(f"Kubernetes does not answer, asked to {purpose}: {error}") from error


def _reason(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
