"""A cluster in memory or in a file, with the part of Kubernetes that a rollout uses. Any response can be lost."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from healthpredict.bundle.model import Bundle
from healthpredict.errors import RolloutError
from healthpredict.rollout import deployment, kubernetes, watch
from healthpredict.rollout.cluster import Unreachable
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.objects import DIGEST, VERIFIED, VERSION
from healthpredict.rollout.progress import REVISION, TEMPLATE_HASH

HOST = "127.0.0.1"


class FakeCluster:
    """Objects by kind and name. A Deployment gets its ReplicaSet and its pods immediately."""

    namespace = "health-predict"
    api_host = HOST

    def __init__(self, bundles: dict[str, Bundle], store: Path | None = None) -> None:
        """Args: bundles, by digest, that images contain; store, a file that keeps the objects."""
        self.bundles = bundles
        self._store = store
        self._objects: dict[tuple[str, str], KubernetesObject] = {}
        if store is not None and store.exists():
            self._objects = pickle.loads(store.read_bytes())
        self.calls = 0
        self.loses: Callable[[int], bool] = lambda _call: False
        """Whether the response to a call, counted from 0, is lost. The call is carried out all the same."""
        self.on_call: Callable[[int], None] = lambda _call: None
        self.broken: set[str] = set()
        """Digests of bundles that predict wrong risks."""
        self.silent: set[str] = set()
        """Paths that pods do not respond to."""
        self.restarted: set[str] = set()
        """Digests of bundles whose pods crash repeatedly."""

    # What a rollout calls

    def read(self, kind: str, name: str) -> KubernetesObject | None:
        return self._answered(copy.deepcopy(self._objects.get((kind, name))))

    def find(
        self, kind: str, labels: dict[str, str] | None = None, fields: str | None = None
    ) -> list[KubernetesObject]:
        found = [copy.deepcopy(o) for (of, _), o in sorted(self._objects.items()) if of == kind]
        wanted = (labels or {}).items()
        return self._answered([o for o in found if wanted <= (o["metadata"].get("labels") or {}).items()])

    def apply(self, manifest: KubernetesObject, manager: str = "healthpredict") -> KubernetesObject:
        key = (manifest["kind"], manifest["metadata"]["name"])
        known = self._objects.get(key, {"metadata": {"uid": uuid.uuid4().hex, "generation": 0}})
        merged = _merged(known, copy.deepcopy(manifest))
        self._objects[key] = merged
        if key[0] == "Deployment" and "spec" in manifest:
            self._roll(merged)
        if key[0] == "PersistentVolumeClaim":
            merged["status"] = {"phase": "Bound"}
        return self._answered(copy.deepcopy(merged), wrote=True)

    def create(self, manifest: KubernetesObject) -> KubernetesObject:
        return self.apply(manifest)

    def replace(self, manifest: KubernetesObject) -> KubernetesObject:
        return self.apply(manifest)

    def delete(self, kind: str, name: str) -> None:
        self._objects.pop((kind, name), None)
        if kind == "Deployment":
            self._objects = {k: o for k, o in self._objects.items() if k[0] not in ("Pod", "ReplicaSet")}
        self._answered(None, wrote=True)

    def log_lines(self, pod: str, *, previous: bool, lines: int) -> list[str]:
        return self._answered([])

    def ask_pod(self, pod: str, port: int, path: str, key: str, body: bytes | None = None) -> bytes:
        if path in self.silent:
            raise RolloutError(f"Pod {pod} does not respond to {path}.")
        digest = self._objects["Pod", pod]["metadata"]["annotations"][DIGEST]
        if path == "/metrics":
            return self._answered(b"")
        return self._answered(json.dumps({"bundle_digest": digest}).encode())

    def respond(self, request: httpx.Request) -> httpx.Response:
        """The response of the Service."""
        serving = self.serving()
        if serving is None:
            raise httpx.ConnectError("nobody listens")
        bundle = self.bundles[serving[2]]
        risk = bundle.risk(json.loads(request.content)) + (0.1 if bundle.digest in self.broken else 0)
        answer = {"readmission_risk": risk, "bundle_digest": bundle.digest}
        return self._answered(httpx.Response(200, json=answer), lost=httpx.ReadTimeout("no answer"))

    # What tests look at

    def serving(self) -> tuple[int, str, str] | None:
        """Version, image and bundle digest that the pods serve."""
        pods = [o for (kind, _), o in self._objects.items() if kind == "Pod"]
        if not pods:
            return None
        pod = pods[0]["metadata"]["annotations"]
        return int(pod[VERSION]), pod["image"], pod[DIGEST]

    def forget_verified(self) -> None:
        """Forget which template was verified, as after an interrupted first rollout."""
        for (kind, _), found in self._objects.items():
            if kind == "Deployment":
                found["metadata"]["annotations"].pop(VERIFIED, None)

    def heal(self) -> None:
        """Lose no more responses."""
        self.loses = lambda _call: False

    def _roll(self, found: KubernetesObject) -> None:
        template = found["spec"]["template"]
        name = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        found["metadata"]["generation"] += 1
        revision = str(found["metadata"]["generation"])
        found["metadata"].setdefault("annotations", {})[REVISION] = revision
        replicas = found["spec"]["replicas"]
        counts = dict.fromkeys(("updatedReplicas", "availableReplicas", "replicas"), replicas)
        found["status"] = {"observedGeneration": found["metadata"]["generation"], **counts}
        own_template = copy.deepcopy(template)
        own_template["metadata"].setdefault("labels", {})[TEMPLATE_HASH] = name
        key = ("ReplicaSet", name)
        uid = self._objects.get(key, {"metadata": {"uid": uuid.uuid4().hex}})["metadata"]["uid"]
        self._objects[key] = {
            "metadata": {
                "name": name, "uid": uid, "labels": {TEMPLATE_HASH: name}, "annotations": {REVISION: revision},
                "ownerReferences": [{"uid": found["metadata"]["uid"]}],
            },
            "spec": {"template": own_template},
        }  # fmt: skip
        self._objects = {k: o for k, o in self._objects.items() if k[0] != "Pod"}
        annotations = template["metadata"]["annotations"]
        image = template["spec"]["containers"][0]["image"]
        for number in range(replicas):
            restarts = 3 if annotations[DIGEST] in self.restarted else 0
            self._objects["Pod", f"{name}-{number}"] = {
                "metadata": {
                    "name": f"{name}-{number}", "labels": {TEMPLATE_HASH: name}, "ownerReferences": [{"uid": uid}],
                    "annotations": {**annotations, "image": image},
                },
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "containerStatuses": [{"restartCount": restarts}],
                },
            }  # fmt: skip

    def _answered(self, answer: Any, *, wrote: bool = False, lost: Exception | None = None) -> Any:
        if wrote and self._store is not None:
            self._store.write_bytes(pickle.dumps(self._objects))
        call = self.calls
        self.calls += 1
        self.on_call(call)
        if self.loses(call):
            raise lost or Unreachable("The API of Kubernetes does not respond.")
        return answer


class FakeTime:
    """A clock that advances when it is read, and by the time slept."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.01
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def install(cluster: FakeCluster, patch: pytest.MonkeyPatch) -> None:
    """Let rollouts go to a fake cluster, without waiting."""
    clock = FakeTime()
    patch.setattr(kubernetes, "Cluster", lambda *_: cluster)
    for module in (deployment, kubernetes, watch):
        patch.setattr(module, "time", clock)
    client = httpx.Client(transport=httpx.MockTransport(cluster.respond))
    patch.setattr(kubernetes.httpx, "Client", lambda **_: client)


def _merged(known: KubernetesObject, given: KubernetesObject) -> KubernetesObject:
    """Merge as server-side apply does: fields that are not given stay, lists are replaced."""
    merged = dict(known)
    for name, value in given.items():
        inner = merged.get(name)
        whole = name == "template" or not isinstance(value, dict) or not isinstance(inner, dict)
        merged[name] = value if whole else _merged(inner, value)
    return merged
