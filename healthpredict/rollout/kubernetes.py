"""The API on Kubernetes: replaced pod by pod, verified from outside, and taken back when it is not what it should be.

Everything that is known is kept in the cluster. The template that was verified last is named in an annotation of the Deployment;
its ReplicaSet holds it whole, with image, arguments and keys, because ConfigMap and Secret have names of their content. So a
rollout that is killed at any step leaves behind what the next one needs to go on, or to go back.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from healthpredict.bundle.model import Bundle
from healthpredict.errors import HealthPredictError, RolloutError
from healthpredict.rollout.cluster import Cluster, Unreachable
from healthpredict.rollout.lease import hold
from healthpredict.rollout.manifests import Manifest, read_manifests, rename_reference, the_one, volumes
from healthpredict.rollout.params import RolloutParams
from healthpredict.rollout.progress import (
    TEMPLATE_HASH,
    Failure,
    failure_of,
    is_complete,
    is_observed,
    is_ready,
    newest_replica_set,
    owned,
)
from healthpredict.rollout.verify import golden_problem

_logger = logging.getLogger(__name__)
KEYS: Final = "healthpredict-keys"
"""Secret that the pods read; its name ends with a digest of its content."""
OWN_KEY: Final = "healthpredict-deployer-key"
"""Secret with the API key that rollouts verify with, in the clear; pods do not read it."""
VERSION: Final = "healthpredict/model-version"
DIGEST: Final = "healthpredict/bundle-digest"
VERIFIED: Final = "healthpredict/verified-template"
"""Annotations: of the pod template, what it serves; of the Deployment, the template that was verified last."""
PULL: Final = "healthpredict-pull"
"""Secret with the login of the registry, where it wants one."""
MANAGED: Final = {"app.kubernetes.io/managed-by": "healthpredict"}
PORT: Final = 8080
_PRUNED: Final = (
    "ConfigMap",
    "Secret",
    "Service",
    "ServiceAccount",
    "NetworkPolicy",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
)
"""Not the claim of the log: predictions are in it."""
_POLL_SECONDS: Final = 0.3
_SECONDS_TO_TAKE_BACK: Final = 120.0
_SECONDS_TO_SWITCH: Final = 10.0
"""In which the nodes stop sending requests to pods that are on their way out."""
_LOG_LINES_SHOWN: Final = 8
_EVENTS_SHOWN: Final = 4


class TakenBack(RolloutError):
    """The version was in service and is so no more; the one before answers again, verified."""


@dataclass(frozen=True)
class Served:
    """What a Deployment's verified template serves.

    Attributes:
        version: of the registry.
        bundle_digest: of its bundle.
        image: by digest.
    """

    version: int
    bundle_digest: str
    image: str


BundleOf = Callable[[int], Bundle]
"""The bundle of a version of the registry."""


class KubernetesTarget:
    """The API in one namespace. Rollouts must not run at the same time: the caller holds a lease."""

    def __init__(self, kubeconfig: Path, context: str, folder: Path, params: RolloutParams) -> None:
        """Say what is rolled out to.

        Args:
            kubeconfig: of the deployer.
            context: of it, by name.
            folder: of the overlay, which names the namespace.
            params: see `RolloutParams`.

        Raises:
            ConfigurationError: the files cannot be read, or there is no such context.
        """
        self._manifests = read_manifests(folder)
        self._params = params
        metadata = the_one(self._manifests, "Deployment")["metadata"]
        self._name = metadata["name"]
        self._cluster = Cluster(kubeconfig, context, metadata.get("namespace", "default"))
        self._http = httpx.Client(trust_env=False, timeout=10, headers={"Connection": "close"})

    @property
    def url(self) -> str:
        """Where callers reach the Service."""
        if self._params.service_url:
            return self._params.service_url.rstrip("/")
        port = the_one(self._manifests, "Service")["spec"]["ports"][0]["nodePort"]
        return f"http://{self._cluster.host}:{port}"

    def current(self) -> Served | None:
        """What was verified last and is in service; None where nothing is."""
        replica_set = self._verified(self._cluster.read("Deployment", self._name))
        return served(replica_set) if replica_set else None

    def roll_out(self, bundle: Bundle, image: str, files: Mapping[str, bytes], bundle_of: BundleOf) -> Served:
        """Replace what runs by an image, wait, verify; on any failure take it back, wait and verify that.

        Args:
            bundle: in the image.
            image: by digest.
            files: of the Secret that the pods read, by name.
            bundle_of: for the bundle that is verified after taking back.

        Raises:
            RolloutError: it failed. What was verified before answers again, unless the message says otherwise.
        """
        before = self._verified(self._cluster.read("Deployment", self._name))
        try:
            self._apply(self._wanted(bundle, image, files))
            self._await(self._params.seconds)
            self._verify(bundle)
        except HealthPredictError as error:
            raise TakenBack(f"{error}\n{self._take_back(before, bundle_of)}") from error
        self._mark_verified()
        self._prune()
        return Served(bundle.manifest.model_version, bundle.digest, image)

    def take_back(self, to: Manifest | None, why: str, bundle_of: BundleOf) -> TakenBack:
        """Go back to a template that was verified before.

        Args:
            to: its ReplicaSet, from `verified`; None where there was none.
            why: what happened.
            bundle_of: for the bundle that is verified then.
        """
        return TakenBack(f"{why}\n{self._take_back(to, bundle_of)}")

    def verified(self) -> Manifest | None:
        """The ReplicaSet of the template that was verified last; None where there is none."""
        return self._verified(self._cluster.read("Deployment", self._name))

    def own_key(self) -> tuple[str, datetime]:
        """The API key that rollouts verify with, and when it was made; made where there is none."""
        found = self._cluster.read("Secret", OWN_KEY)
        if found is None:
            made = {"key": f"hp_{secrets.token_urlsafe(32)}", "created-at": datetime.now(UTC).isoformat()}
            found = self._cluster.apply(_secret(OWN_KEY, {name: text.encode() for name, text in made.items()}))
        data = {name: base64.b64decode(value).decode() for name, value in found["data"].items()}
        return data["key"], datetime.fromisoformat(data["created-at"])

    def keep_login(self, repository: str, login: Mapping[str, str]) -> None:
        """Let the nodes pull with a login. Args: repository; login, `username` and `password`."""
        auth = base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
        config = {"auths": {repository.partition("/")[0]: {**login, "auth": auth}}}
        secret = _secret(PULL, {".dockerconfigjson": json.dumps(config).encode()})
        self._cluster.apply({**secret, "type": "kubernetes.io/dockerconfigjson"})

    @contextmanager
    def held(self, holder: str) -> Iterator[None]:
        """Keep others from rolling out here, see `hold`."""
        with hold(self._cluster, f"{self._name}-rollout", holder):
            yield

    def pods(self) -> list[Manifest]:
        """The pods of the present template."""
        deployment = self._cluster.read("Deployment", self._name)
        return [] if deployment is None else self._pods_of(deployment)

    def ask_pod(self, pod: Manifest, path: str) -> bytes:
        """The answer of a pod itself."""
        return self._cluster.ask_pod(pod["metadata"]["name"], PORT, path, self._headers())

    def _wanted(self, bundle: Bundle, image: str, files: Mapping[str, bytes]) -> list[Manifest]:
        """The objects, the Deployment last."""
        manifests = copy.deepcopy(self._manifests)
        deployment = the_one(manifests, "Deployment")
        digest = hashlib.sha256(json.dumps({k: v.hex() for k, v in sorted(files.items())}).encode()).hexdigest()
        keys = _secret(f"{KEYS}-{digest[:10]}", files)
        rename_reference(deployment, "secret", KEYS, keys["metadata"]["name"])
        template = deployment["spec"]["template"]
        template["metadata"]["annotations"] = {
            VERSION: str(bundle.manifest.model_version),
            DIGEST: bundle.digest,
        }
        template["spec"]["containers"][0]["image"] = image
        others = [manifest for manifest in manifests if manifest is not deployment]
        return [*others, keys, deployment]

    def _apply(self, wanted: list[Manifest]) -> None:
        for manifest in wanted:
            manifest["metadata"].setdefault("labels", {}).update(MANAGED)
            if not self._cluster.serves(manifest):
                _logger.warning("%s is left out: the cluster has no %s", manifest["kind"], manifest["apiVersion"])
                continue
            if manifest["kind"] == "Deployment" and self._cluster.find("HorizontalPodAutoscaler", MANAGED):
                running = self._cluster.read("Deployment", self._name)
                if running is not None:  # the autoscaler has the say
                    manifest["spec"]["replicas"] = running["spec"]["replicas"]
            self._cluster.apply(manifest)

    def _await(self, seconds: float) -> None:
        """Wait until every pod is of the present template and available.

        Raises:
            RolloutError: that cannot come to be, or has not in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                deployment = self._deployment()
                pods = self._pods_of(deployment) if is_observed(deployment) else []
                if is_complete(deployment):
                    return
                failure = failure_of(deployment, pods, self._params.unschedulable_seconds)
            except Unreachable as error:
                failure = None
                _logger.warning("%s", error)
            if failure is None and time.monotonic() > deadline:
                unready = next((pod["metadata"]["name"] for pod in pods if not is_ready(pod)), None)
                failure = Failure(f"it was not in service within {seconds:.0f} s", unready)
            if failure is not None:
                raise RolloutError(self._words(failure))
            time.sleep(_POLL_SECONDS)

    def _verify(self, bundle: Bundle) -> None:
        """Ask the Service for the golden rows, and each pod what it serves.

        Raises:
            RolloutError: something else answers, or answers otherwise, or slowly.
        """
        version = bundle.manifest.model_version
        problem, p50 = golden_problem(self._http, self.url, bundle, self._headers(), patience=_SECONDS_TO_SWITCH)
        if problem is not None:
            raise RolloutError(f"Version {version} at {self.url} {problem}")
        if p50 > self._params.p50_seconds:
            raise RolloutError(
                f"Version {version} at {self.url} takes {p50:.3f} s for a prediction, {self._params.p50_seconds} s are allowed."
            )
        pods = [pod for pod in self.pods() if is_ready(pod)]
        if not pods:
            raise RolloutError(f"Version {version} has no pod that is ready.")
        for pod in pods:
            digest = json.loads(self.ask_pod(pod, "/model"))["bundle_digest"]
            if digest != bundle.digest:
                raise RolloutError(f"Pod {pod['metadata']['name']} serves another bundle, {digest[:12]}.")

    def _take_back(self, before: Manifest | None, bundle_of: BundleOf) -> str:
        """Go back, and say what became of it."""
        if before is None:
            # Nothing was in service: nothing unverified stays there.
            self._cluster.delete("Deployment", self._name)
            return "It was removed. Nothing was in service before."
        version = served(before).version
        try:
            deployment = the_one(copy.deepcopy(self._manifests), "Deployment")
            deployment["metadata"].setdefault("labels", {}).update(MANAGED)
            deployment["spec"]["replicas"] = self._deployment()["spec"]["replicas"]
            deployment["spec"]["template"] = _template(before)
            self._cluster.apply(deployment)
            self._await(_SECONDS_TO_TAKE_BACK)
            self._verify(bundle_of(version))
        except HealthPredictError as error:
            return f"Going back to version {version} failed too, look at it by hand: {error}"
        return f"Version {version} was put back and verified."

    def _verified(self, deployment: Manifest | None) -> Manifest | None:
        if deployment is None:
            return None
        name = (deployment["metadata"].get("annotations") or {}).get(VERIFIED)
        found = owned(deployment, self._cluster.find("ReplicaSet"))
        return next((r for r in found if r["metadata"]["labels"][TEMPLATE_HASH] == name), None)

    def _mark_verified(self) -> None:
        deployment = self._deployment()
        newest = newest_replica_set(deployment, self._cluster.find("ReplicaSet"))
        assert newest is not None, "the rollout is complete"
        mark = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": self._name,
                "annotations": {VERIFIED: newest["metadata"]["labels"][TEMPLATE_HASH]},
            },
        }
        # Under another name: what is applied for a rollout says nothing of it, and must not remove it.
        self._cluster.apply(mark, manager="healthpredict-verified")

    def _prune(self) -> None:
        """Delete what earlier rollouts made and no template that is kept needs."""
        deployment = self._deployment()
        kept = {(m["kind"], m["metadata"]["name"]) for m in self._manifests} | {("Secret", OWN_KEY), ("Secret", PULL)}
        for template in (deployment, *owned(deployment, self._cluster.find("ReplicaSet"))):
            for volume in volumes(template):
                kept.add(("ConfigMap", volume.get("configMap", {}).get("name")))
                kept.add(("Secret", volume.get("secret", {}).get("secretName")))
        for kind in _PRUNED:
            for manifest in self._cluster.find(kind, MANAGED):
                name = manifest["metadata"]["name"]
                if (kind, name) not in kept:
                    _logger.info("%s %s is no longer needed and was deleted", kind, name)
                    self._cluster.delete(kind, name)

    def _deployment(self) -> Manifest:
        found = self._cluster.read("Deployment", self._name)
        if found is None:
            raise RolloutError(f"The Deployment {self._name} is gone. Someone deleted it: roll out again.")
        return found

    def _pods_of(self, deployment: Manifest) -> list[Manifest]:
        newest = newest_replica_set(deployment, self._cluster.find("ReplicaSet"))
        if newest is None:
            return []
        return owned(newest, self._cluster.find("Pod", {TEMPLATE_HASH: newest["metadata"]["labels"][TEMPLATE_HASH]}))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.own_key()[0]}"}

    def _words(self, failure: Failure) -> str:
        """A failure with what its pod wrote last and what Kubernetes noted about it."""
        lines = [f"The rollout of {self._name} failed: {failure.reason}."]
        if failure.pod is not None:
            lines[0] = f"The rollout of {self._name} failed at pod {failure.pod}: {failure.reason}."
            ended = self._cluster.log_lines(failure.pod, previous=True, lines=_LOG_LINES_SHOWN)
            written = ended or self._cluster.log_lines(failure.pod, previous=False, lines=_LOG_LINES_SHOWN)
            lines += [f"  log: {line}" for line in written]
            lines += [f"  event: {event}" for event in self._events(failure.pod)]
        return "\n".join(lines)

    def _events(self, pod: str) -> list[str]:
        events = self._cluster.find("Event", fields=f"involvedObject.name={pod},type=Warning")
        events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return [f"{event['reason']}: {event['message']}" for event in events][-_EVENTS_SHOWN:]


def served(replica_set: Manifest) -> Served:
    """What the pods of a ReplicaSet of ours serve."""
    template = replica_set["spec"]["template"]
    noted = template["metadata"]["annotations"]
    return Served(int(noted[VERSION]), noted[DIGEST], template["spec"]["containers"][0]["image"])


def _template(replica_set: Manifest) -> Manifest:
    """The template as the Deployment had it: the same one gives the same ReplicaSet, whose pods still run."""
    template: Manifest = copy.deepcopy(replica_set["spec"]["template"])
    del template["metadata"]["labels"][TEMPLATE_HASH]
    return template


def _secret(name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    data = {file: base64.b64encode(content).decode() for file, content in files.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": dict(MANAGED)},
        "type": "Opaque",
        "data": data,
    }
