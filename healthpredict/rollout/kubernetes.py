"""Roll out the API on Kubernetes: replace it pod by pod, verify it over HTTP, and put the previous version back on failure.

All state is in the cluster. An annotation of the Deployment names the template that was verified last. Its ReplicaSet holds the
template with image, arguments and keys, because the names of ConfigMap and Secret depend on their content. So a rollout can be
killed at any step, and the next one completes or reverses it.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import httpx

from healthpredict.api_keys import new_api_key
from healthpredict.bundle.model import Bundle
from healthpredict.errors import RolloutError
from healthpredict.rollout.canary import DeployedBundle, judge_canary
from healthpredict.rollout.cluster import Cluster, Unfit
from healthpredict.rollout.deployment import LiveDeployment
from healthpredict.rollout.lease import hold
from healthpredict.rollout.manifests import KubernetesObject, only_manifest, read_manifests, volumes
from healthpredict.rollout.objects import (
    MANAGED,
    OWN_KEY,
    PULL,
    VERIFIED,
    canary_of,
    objects_to_apply,
    pull_secret,
    secret,
    served,
    with_template,
)
from healthpredict.rollout.params import RolloutParams
from healthpredict.rollout.progress import TEMPLATE_HASH, is_complete, scaling_problem, waits_for_image
from healthpredict.rollout.results import InService, PutBack, RolloutResult, Unknown
from healthpredict.rollout.verify import verify_golden_rows
from healthpredict.rollout.watch import watch_pods

_logger = logging.getLogger(__name__)
_PRUNED: Final = (
    "ConfigMap",
    "Secret",
    "Service",
    "ServiceAccount",
    "NetworkPolicy",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
)
"""Kinds whose unused objects are deleted. The claim of the log is not among them, because it contains predictions."""
_SECONDS_TO_PUT_BACK: Final = 120.0
_SECONDS_TO_SWITCH: Final = 10.0
"""For so long, nodes may still send requests to pods that are being deleted."""
_SECONDS_TO_BIND: Final = 30.0
_POLL_SECONDS: Final = 0.2
BundleOf = Callable[[int], Bundle]
"""Fetches the bundle of a version."""
_Result = TypeVar("_Result", InService, PutBack)


class KubernetesTarget:
    """The API in one namespace. Only one rollout may run at a time, so the caller must use `held`."""

    def __init__(
        self, kubeconfig: Path, context: str, folder: Path, params: RolloutParams, options: Sequence[str] = ()
    ) -> None:
        """Read the manifests and the kubeconfig. Nothing is sent to the cluster yet.

        Args:
            kubeconfig: of the deployer.
            context: name of a context in it.
            folder: of the overlay. Its Deployment names the namespace.
            params: see `RolloutParams`.
            options: of the API's command line, in addition to those in the manifests.

        Raises:
            ConfigurationError: a file cannot be read, or the context does not exist.
        """
        self._manifests = read_manifests(folder)
        self._params = params
        self._options = tuple(options)
        metadata = only_manifest(self._manifests, "Deployment")["metadata"]
        self._cluster = Cluster(kubeconfig, context, metadata.get("namespace", "default"))
        self._api = LiveDeployment(self._cluster, metadata["name"])
        self._http = httpx.Client(trust_env=False, timeout=10, headers={"Connection": "close"})

    @property
    def namespace(self) -> str:
        """Namespace of the Deployment."""
        return self._cluster.namespace

    def allows(self, right: Mapping[str, str]) -> bool:
        """Whether the cluster permits something to the user of the kubeconfig. Args: right, `resourceAttributes` of a review."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": dict(right)},
        }
        return bool(self._cluster.create(review)["status"]["allowed"])

    @property
    def url(self) -> str:
        """URL of the Service, as callers reach it."""
        if self._params.service_url:
            return self._params.service_url.rstrip("/")
        port = only_manifest(self._manifests, "Service")["spec"]["ports"][0]["nodePort"]
        return f"http://{self._cluster.api_host}:{port}"

    @contextmanager
    def held(self, holder: str) -> Iterator[None]:
        """Prevent other rollouts to this namespace for the time of a `with` block, see `hold`."""
        with hold(self._cluster, f"{self._api.name}-rollout", holder):
            yield

    def verified(self) -> KubernetesObject | None:
        """The ReplicaSet of the template that was verified last, or None. `served` returns what it serves."""
        found = self._cluster.read("Deployment", self._api.name)
        name = ((found or {}).get("metadata", {}).get("annotations") or {}).get(VERIFIED)
        return next((r for r in self._api.replica_sets() if r["metadata"]["labels"][TEMPLATE_HASH] == name), None)

    def own_key(self) -> tuple[str, datetime]:
        """Read the API key that rollouts use, and the time of its creation. Create it if it does not exist."""
        found = self._cluster.read("Secret", OWN_KEY)
        if found is None:
            new = {"key": new_api_key(), "created-at": datetime.now(UTC).isoformat()}
            found = self._cluster.apply(secret(OWN_KEY, {name: text.encode() for name, text in new.items()}))
        data = {name: base64.b64decode(value).decode() for name, value in found["data"].items()}
        return data["key"], datetime.fromisoformat(data["created-at"])

    def keep_login(self, repository: str, login: Mapping[str, str]) -> None:
        """Store the login with which nodes pull images. Args: repository; login, `username` and `password`."""
        self._cluster.apply(pull_secret(repository, login))

    def retry_pulls(self) -> int:
        """Replace the pods whose image cannot be pulled. Otherwise a node retries only after up to five minutes.

        Returns:
            The number of pods.
        """
        waiting = [pod["metadata"]["name"] for pod in self._api.pods() if waits_for_image(pod)]
        for name in waiting:
            self._cluster.delete("Pod", name)
        return len(waiting)

    def roll_out(self, bundle: Bundle, image: str, files: Mapping[str, bytes], bundle_of: BundleOf) -> RolloutResult:
        """Roll out an image, wait and verify it. On any failure, put back the version that was verified before.

        Args:
            bundle: in the image.
            image: by digest.
            files: content of the Secret that the pods read, by file name.
            bundle_of: fetches the bundle of the previous version.

        Raises:
            RolloutError: it could not be determined what was verified before. Nothing was changed.
        """
        before = self.verified()
        *others, deployment = objects_to_apply(self._manifests, bundle, image, files, self._options)
        try:
            for manifest in others:
                self._cluster.apply(manifest)
            self._wait_for_claims(others)
            if self._params.strategy == "canary" and before is not None:
                self._try_canary(deployment, bundle, bundle_of(served(before).version))
            self._keep_replicas(deployment)
            self._cluster.apply(deployment)
            self.wait()
            self._verify(bundle)
        except Exception as error:  # nothing unverified stays in service
            return self.put_back(before, bundle_of, str(error), (bundle.manifest.model_version, image))
        result = InService(bundle.manifest.model_version, image, bundle.digest, self.url)
        return self._marked(result)

    def put_back(
        self,
        before: KubernetesObject | None,
        bundle_of: BundleOf,
        problem: str,
        requested: tuple[int | None, str | None],
    ) -> PutBack | Unknown:
        """Apply an earlier template, wait and verify it.

        Args:
            before: ReplicaSet of that template. If None, nothing was in service, and the Deployment is deleted.
            bundle_of: fetches the bundle to verify.
            problem: why the requested version failed.
            requested: version and image that were requested.
        """
        try:
            if before is None:
                self._cluster.delete("Deployment", self._api.name)
                problem = f"{problem}\nThe Deployment was deleted, because nothing was in service before."
                return PutBack(None, None, None, None, problem)
            back = served(before)
            replicas = self._api.read()["spec"]["replicas"]
            self._cluster.apply(with_template(only_manifest(self._manifests, "Deployment"), before, replicas))
            self._api.wait(_SECONDS_TO_PUT_BACK, self._params.unschedulable_seconds)
            self._verify(bundle_of(back.version))
        except Exception as error:  # what serves now was not verified
            version = None if before is None else served(before).version
            return Unknown(*requested, f"{problem}\nPutting version {version} back failed too: {error}")
        problem = f"{problem}\nVersion {back.version} was put back and verified."
        return self._marked(PutBack(back.version, back.image, back.bundle_digest, self.url, problem))

    def find_out(self, bundle_of: BundleOf) -> RolloutResult | None:
        """Determine what serves. An interrupted rollout is completed if its pods pass verification, and reversed if they fail.

        Args:
            bundle_of: fetches the bundle to verify.

        Returns:
            The result, or None if there is no Deployment.
        """
        try:
            before = self.verified()
            deployment = self._cluster.read("Deployment", self._api.name)
            if deployment is None:
                return None
            newest = self._api.newest()
            if newest is None or before is None or newest["metadata"]["uid"] != before["metadata"]["uid"]:
                self.wait()
                newest = self._api.newest()
            elif is_complete(deployment):
                found = served(before)
                self._check_pods(found.bundle_digest)
                return InService(found.version, found.image, found.bundle_digest, self.url)
            assert newest is not None, "the rollout is complete"
            found = served(newest)
            self._verify(bundle_of(found.version))
        except Unfit as error:
            return self.put_back(before, bundle_of, f"A rollout was interrupted. {error}", (None, None))
        except Exception as error:  # it is unknown what serves
            return Unknown(None, None, str(error))
        return self._marked(InService(found.version, found.image, found.bundle_digest, self.url))

    def wait(self) -> None:
        """Wait until every pod is available. Raises: RolloutError, if a pod fails or it takes too long."""
        self._api.wait(self._params.seconds, self._params.unschedulable_seconds)

    def problems(self) -> list[str]:
        """Describe why a pod in service does not run, and why the autoscaler adds none. Empty if all is well."""
        failure = self._api.failure(self._params.unschedulable_seconds)
        scaling = filter(None, map(scaling_problem, self._cluster.find("HorizontalPodAutoscaler", MANAGED)))
        return [*([] if failure is None else [f"{failure.pod or self._api.name}: {failure.reason}"]), *scaling]

    def watch(self, seconds: float) -> str | None:
        """Watch the pods in service, see `watch_pods`."""
        return watch_pods(self._api, self.own_key()[0], self._params, seconds)

    def _wait_for_claims(self, manifests: Sequence[KubernetesObject]) -> None:
        """Wait until claims of named volumes are bound. A pod that is created earlier may stay unscheduled for a minute."""
        deadline = time.monotonic() + _SECONDS_TO_BIND
        for claim in (m for m in manifests if m["kind"] == "PersistentVolumeClaim" and m["spec"].get("volumeName")):
            name = claim["metadata"]["name"]
            while (phase := self._claim_phase(name)) != "Bound":
                if time.monotonic() > deadline:
                    raise RolloutError(
                        f"Claim {name} is {phase} instead of bound to volume {claim['spec']['volumeName']}. "
                        "`healthpredict cluster set-up` creates the volume."
                    )
                time.sleep(_POLL_SECONDS)

    def _claim_phase(self, claim: str) -> str | None:
        found = self._cluster.read("PersistentVolumeClaim", claim) or {}
        phase: str | None = found.get("status", {}).get("phase")
        return phase

    def _keep_replicas(self, deployment: KubernetesObject) -> None:
        """If there is an autoscaler, keep its number of replicas."""
        found = self._cluster.read("Deployment", self._api.name)
        if found is not None and self._cluster.find("HorizontalPodAutoscaler", MANAGED):
            deployment["spec"]["replicas"] = found["spec"]["replicas"]

    def _try_canary(self, deployment: KubernetesObject, bundle: Bundle, before: Bundle) -> None:
        manifest = canary_of(deployment)
        canary = LiveDeployment(self._cluster, manifest["metadata"]["name"])
        try:
            self._cluster.apply(manifest)
            judge_canary(
                DeployedBundle(canary, bundle), DeployedBundle(self._api, before), self.own_key()[0], self._params
            )
        finally:
            # Also if it passed: the rolling update then starts pods of the same template.
            self._cluster.delete("Deployment", canary.name)

    def _verify(self, bundle: Bundle) -> None:
        """Request the golden rows through the Service, and ask each pod which bundle it serves.

        Raises:
            Unfit: another bundle answers, a risk differs, or the responses are slow.
            RolloutError: there was no response.
        """
        version, (key, _) = bundle.manifest.model_version, self.own_key()
        headers = {"Authorization": f"Bearer {key}"}
        verification = verify_golden_rows(self._http, self.url, bundle, headers, patience=_SECONDS_TO_SWITCH)
        if verification.problem is not None:
            failure = Unfit if verification.answered else RolloutError
            raise failure(f"Version {version} at {self.url} {verification.problem}")
        if verification.p50_seconds > self._params.p50_seconds:
            raise Unfit(
                f"Version {version} at {self.url} takes {verification.p50_seconds:.3f} s for a prediction. "
                f"The limit is {self._params.p50_seconds} s."
            )
        self._check_pods(bundle.digest)

    def _check_pods(self, bundle_digest: str) -> None:
        """Ask each pod which bundle it serves.

        Raises:
            Unfit: a pod serves another bundle.
            RolloutError: no pod is ready, or one does not respond.
        """
        key, _ = self.own_key()
        for pod, response in self._api.ask_ready("/model", key):
            digest = json.loads(response)["bundle_digest"]
            if digest != bundle_digest:
                raise Unfit(f"Pod {pod['metadata']['name']} serves another bundle, {digest[:12]}.")

    def _marked(self, result: _Result) -> _Result | Unknown:
        """Mark the template in service as verified, for the next run. If that fails, the result is unknown."""
        try:
            self._mark_verified()
        except Exception as error:  # the pods serve nevertheless
            problem = f"{result.problem or 'It serves and was verified.'}\nIt could not be marked as verified: {error}"
            return Unknown(result.version, result.image, problem)
        if isinstance(result, InService):
            try:
                self._prune()
            except RolloutError as error:
                _logger.warning("Unused objects of earlier rollouts were not deleted: %s", error)
        return result

    def _mark_verified(self) -> None:
        newest = self._api.newest()
        assert newest is not None, "the rollout is complete"
        annotations = {VERIFIED: newest["metadata"]["labels"][TEMPLATE_HASH]}
        mark = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self._api.name, "annotations": annotations},
        }
        # A field manager of its own: an apply removes the fields that the same manager set before and no longer names.
        self._cluster.apply(mark, manager="healthpredict-verified")

    def _prune(self) -> None:
        """Delete objects of earlier rollouts that no template in the history needs."""
        kept = {(m["kind"], m["metadata"]["name"]) for m in self._manifests} | {("Secret", OWN_KEY), ("Secret", PULL)}
        for template in self._api.replica_sets():
            for volume in volumes(template):
                kept.add(("ConfigMap", volume.get("configMap", {}).get("name")))
                kept.add(("Secret", volume.get("secret", {}).get("secretName")))
        for kind in _PRUNED:
            for found in self._cluster.find(kind, MANAGED):
                name = found["metadata"]["name"]
                if (kind, name) not in kept:
                    self._cluster.delete(kind, name)
                    _logger.info("Deleted %s %s, which is no longer used", kind, name)
