"""One namespace of a Kubernetes cluster: apply, read and delete objects, and send requests to pods."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
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
"""Seconds to connect, and to wait for a response."""
_PORT_FORWARD_SECONDS: Final = 35.0
_Result = TypeVar("_Result")
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
    """The API of Kubernetes does not respond. It may respond later."""


class Unfit(RolloutError):
    """The pods are broken or serve the wrong version. After any other error it is unknown what serves."""


class Conflict(RolloutError):
    """Another client created or changed the object in the meantime."""


class Cluster:
    """A namespace, with the rights of one kubeconfig."""

    def __init__(self, kubeconfig: Path, context: str, namespace: str) -> None:
        """Load a kubeconfig. Nothing is sent to the cluster yet.

        Raises:
            ConfigurationError: the file or the context does not exist.
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
                "Check HEALTHPREDICT_KUBECONFIG and HEALTHPREDICT_ROLLOUT__CONTEXT."
            ) from error
        self._configuration.retries = False

    @property
    def api_host(self) -> str:
        """Host name of the cluster's API."""
        return urlsplit(self._configuration.host).hostname or ""

    def address(self) -> dict[str, str | bool]:
        """URL of the cluster's API, and how its certificate is verified, as in a kubeconfig."""
        address: dict[str, str | bool] = {"server": self._configuration.host}
        # A certificate of a public authority needs neither.
        if self._configuration.ssl_ca_cert:
            authority = Path(self._configuration.ssl_ca_cert).read_bytes()
            address["certificate-authority-data"] = base64.b64encode(authority).decode()
        if not self._configuration.verify_ssl:
            address["insecure-skip-tls-verify"] = True
        return address

    def apply(self, manifest: KubernetesObject, manager: str = FIELD_MANAGER) -> KubernetesObject:
        """Create or change an object by server-side apply. Fields that the manifest does not name keep their values.

        Raises:
            RolloutError: Kubernetes refused it.
        """
        what = f"apply {manifest['kind']} {manifest['metadata']['name']}"
        with _translated(what):
            applied = self._dynamic.server_side_apply(
                self._resource(manifest["apiVersion"], manifest["kind"]),
                body=manifest,
                namespace=self.namespace,
                field_manager=manager,
                # The repository's files win over changes by hand.
                force_conflicts=True,
            )
        return _to_dict(applied)

    def create(self, manifest: KubernetesObject) -> KubernetesObject:
        """Create an object.

        Raises:
            Conflict: it exists already.
        """
        with _translated(f"create {manifest['kind']}"):
            resource = self._resource(manifest["apiVersion"], manifest["kind"])
            return _to_dict(self._dynamic.create(resource, body=manifest, namespace=self.namespace))

    def replace(self, manifest: KubernetesObject) -> KubernetesObject:
        """Replace an object if it still has the resource version that the manifest names.

        Raises:
            Conflict: it was changed in the meantime.
        """
        with _translated(f"replace {manifest['kind']}"):
            resource = self._resource(manifest["apiVersion"], manifest["kind"])
            return _to_dict(self._dynamic.replace(resource, body=manifest, namespace=self.namespace))

    def read(self, kind: str, name: str) -> KubernetesObject | None:
        """Read an object. Returns: the object, or None if it does not exist."""
        from kubernetes.dynamic.exceptions import NotFoundError

        with _translated(f"read {kind} {name}"):
            try:
                resource = self._resource(_VERSIONS[kind], kind)
                return _to_dict(self._dynamic.get(resource, name=name, namespace=self.namespace))
            except NotFoundError:
                return None

    def find(
        self, kind: str, labels: dict[str, str] | None = None, fields: str | None = None
    ) -> list[KubernetesObject]:
        """List the objects of a kind with these labels."""
        with _translated(f"list {kind}"):
            found = self._dynamic.get(
                self._resource(_VERSIONS[kind], kind),
                namespace=self.namespace,
                label_selector=",".join(f"{name}={value}" for name, value in (labels or {}).items()) or None,
                field_selector=fields,
            )
        # The items of a list lack their version and kind.
        return [{"apiVersion": _VERSIONS[kind], "kind": kind, **item} for item in _to_dict(found)["items"]]

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and what it owns, if it exists."""
        from kubernetes.dynamic.exceptions import NotFoundError

        with _translated(f"delete {kind} {name}"):
            try:
                resource = self._resource(_VERSIONS[kind], kind)
                body = {"propagationPolicy": "Background"}
                self._dynamic.delete(resource, name=name, namespace=self.namespace, body=body)
            except NotFoundError:
                return

    def log_lines(self, pod: str, *, previous: bool, lines: int) -> list[str]:
        """The last log lines of a pod. Args: previous, read the log of the container before its last restart."""
        from kubernetes.client import ApiException, CoreV1Api
        from urllib3.exceptions import HTTPError

        try:
            response = CoreV1Api(self._client).read_namespaced_pod_log(
                pod,
                self.namespace,
                previous=previous,
                tail_lines=lines,
                _preload_content=False,
            )
        except (ApiException, HTTPError):
            return []  # the container never started, or the API server does not respond
        return str(response.data.decode(errors="replace")).splitlines()

    def ask_pod(self, pod: str, port: int, path: str, key: str, body: bytes | None = None) -> bytes:
        """Send an HTTP request to one pod, by port forwarding.

        Args:
            pod: name of the pod.
            port: of the pod.
            path: of the endpoint.
            key: API key.
            body: JSON for a POST, or None for a GET.

        Raises:
            RolloutError: the pod does not respond, or not with status 200.
        """
        from kubernetes.client import ApiException, CoreV1Api
        from kubernetes.stream import portforward

        def ask() -> tuple[int, bytes]:
            # A client of its own, because opening the stream changes how the client sends requests.
            core = CoreV1Api(self._new_client())
            forward = portforward(core.connect_get_namespaced_pod_portforward, pod, self.namespace, ports=str(port))
            try:
                connection = _SocketConnection(pod)
                connection.connected = forward.socket(port)
                connection.connected.settimeout(_PORT_FORWARD_SECONDS)
                headers = {**DRY_RUN, "Authorization": f"Bearer {key}", "Content-Type": "application/json"}
                connection.request("GET" if body is None else "POST", path, body, {**headers, "Connection": "close"})
                with connection.getresponse() as response:
                    return response.status, response.read()
            finally:
                forward.close()

        try:
            status, answer = _bounded(ask, _PORT_FORWARD_SECONDS)
        except TimeoutError as error:
            raise RolloutError(f"Pod {pod} does not respond to {path} within {_PORT_FORWARD_SECONDS:.0f} s.") from error
        except (ApiException, OSError, http.client.HTTPException) as error:
            raise RolloutError(f"Pod {pod} does not respond to {path}: {error}") from error
        if status != http.client.OK:
            raise RolloutError(f"Pod {pod} responds to {path} with status {status}.")
        return answer

    def _resource(self, version: str, kind: str) -> Resource:
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        with _translated("list its resource kinds"):
            try:
                return self._dynamic.resources.get(api_version=version, kind=kind)
            except ResourceNotFoundError as error:
                raise RolloutError(
                    f"The cluster has no {kind} in {version}. Choose another overlay, or upgrade the cluster."
                ) from error

    @cached_property
    def _client(self) -> ApiClient:
        return self._new_client()

    @cached_property
    def _dynamic(self) -> DynamicClient:
        from kubernetes.dynamic import DynamicClient

        # The client caches the resource kinds in a file. Its default has a predictable name in a folder that all users can write.
        self._cache = tempfile.TemporaryDirectory()
        with _translated("connect"):
            return DynamicClient(self._client, cache_file=str(Path(self._cache.name, "resources.json")))

    def _new_client(self) -> ApiClient:
        from kubernetes.client import ApiClient

        client = ApiClient(self._configuration)
        send = client.rest_client.request

        # Discovery passes no timeout. Without one, an API server that hangs would stop a rollout forever.
        def send_bounded(*arguments: Any, **options: Any) -> Any:
            return send(*arguments, **{**options, "_request_timeout": _TIMEOUT})

        client.rest_client.request = send_bounded
        return client


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a connected socket."""

    connected: socket.socket

    def connect(self) -> None:
        self.sock = self.connected


def _bounded(action: Callable[[], _Result], seconds: float) -> _Result:
    """Call an action in a daemon thread. Raises: TimeoutError, if it takes longer; the thread goes on until the action ends."""
    done: Future[_Result] = Future()

    def run() -> None:
        try:
            done.set_result(action())
        except BaseException as error:  # the caller handles it
            done.set_exception(error)

    threading.Thread(target=run, name="port-forward", daemon=True).start()
    return done.result(seconds)


def _to_dict(found: Any) -> KubernetesObject:
    converted: KubernetesObject = found.to_dict()
    return converted


@contextmanager
def _translated(purpose: str) -> Iterator[None]:
    """Turn the vendor's errors into ours. Args: purpose, a verb and its object, for the message."""
    from kubernetes.client import ApiException
    from kubernetes.dynamic.exceptions import ConflictError, DynamicApiError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ConflictError as error:
        raise Conflict(f"Kubernetes did not {purpose}: {_reason(error)}") from error
    except (ApiException, DynamicApiError) as error:
        raise RolloutError(f"Kubernetes did not {purpose}: {_reason(error)}") from error
    # A response that is not JSON, for example of a proxy, is a ValueError.
    except (HTTPError, OSError, ValueError) as error:
        raise Unreachable(f"Kubernetes did not respond to a request to {purpose}: {error}") from error


def _reason(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
