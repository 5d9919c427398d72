"""From a bundle to verified pods: source, image, push, rollout; and what the pods may know."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from healthpredict.api_keys import hashed, to_json
from healthpredict.bundle.model import Bundle
from healthpredict.errors import ConfigurationError
from healthpredict.operations.installation import Installation
from healthpredict.operations.patient_key import ensure_patient_key
from healthpredict.operations.timing import Seconds, timed
from healthpredict.rollout.ecr import log_in
from healthpredict.rollout.image import SourceTree, build_image, push_image
from healthpredict.rollout.kubernetes import BundleOf, KubernetesTarget
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.results import InService, PutBack, RolloutResult, Unknown
from healthpredict.rollout.sbom import bill_name, bill_of_materials
from healthpredict.rollout.source import fetch_source
from healthpredict.storage.key_file import list_keys
from healthpredict.storage.uris import join, write_bytes

_logger = logging.getLogger(__name__)
_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_ROLLOUTS: Final = "rollout-on-kubernetes"
"""Whose key the rollouts' own is."""


def source_path(installation: Installation) -> Path:
    """The checkout that images and Kubernetes files come from."""
    return installation.settings.source_path or _CHECKOUT


def kubernetes_target(installation: Installation) -> KubernetesTarget:
    """The API on the cluster of these installation.settings.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """
    if installation.settings.kubeconfig is None or installation.settings.rollout.context is None:
        raise ConfigurationError(
            "Kubernetes is rolled out to by name only: set HEALTHPREDICT_KUBECONFIG and HEALTHPREDICT_ROLLOUT__CONTEXT."
        )
    folder = source_path(installation) / installation.settings.rollout.overlay
    return KubernetesTarget(
        installation.settings.kubeconfig, installation.settings.rollout.context, folder, installation.settings.rollout
    )


def put_on_kubernetes(
    installation: Installation,
    bundle: Bundle,
    seconds: Seconds,
    *,
    git_ref: str | None = None,
    image: str | None = None,
) -> RolloutResult:
    """Let a bundle answer on Kubernetes, verified.

    Args:
        installation: where.
        bundle: of the version.
        seconds: wall time by stage is added to it.
        git_ref: of the code around the bundle; None for the code that runs here.
        image: that was built before, by digest; None to build one.

    Raises:
        RolloutError: nothing was touched: the image could not be built or pushed, or the cluster does not respond.
        ConfigurationError: a setting is missing or wrong; nothing was touched.
    """
    target = kubernetes_target(installation)
    if installation.settings.image_repository is None:
        raise ConfigurationError("Say where images are pushed to: HEALTHPREDICT_IMAGE_REPOSITORY=HOST/NAME.")
    login = log_in(installation.settings.image_repository)
    if image is None:
        source = _source(installation, git_ref)
        with timed(seconds, "build"):
            built = build_image(
                bundle, installation.settings.image_repository, source, installation.settings.python_image
            )
        with timed(seconds, "push"):
            image = push_image(built, login)
        with timed(seconds, "bill of materials"):
            bill = bill_of_materials(image, built.id, bundle, source)
            write_bytes(join(installation.settings.reports_uri, "images", bill_name(image)), bill.encode())
    with timed(seconds, "rollout"):
        if login is not None:
            target.keep_login(installation.settings.image_repository, login)
        return target.roll_out(bundle, image, _pod_files(installation, target), _bundle_of(installation))


def watch_on_kubernetes(
    installation: Installation, result: InService, before: KubernetesObject | None, seconds: Seconds
) -> RolloutResult:
    """Watch what was put into service for as long as the settings say, and put back what served before if it is not good.

    Args:
        installation: where.
        result: what serves.
        before: what was in service before, from `KubernetesTarget.verified`; None if nothing was, or the same.
        seconds: wall time is added to it.
    """
    target = kubernetes_target(installation)
    try:
        with timed(seconds, "watch"):
            problem = target.watch(installation.settings.rollout.watch_seconds)
    except Exception as error:  # whatever it was, nobody knows how the pods are
        return Unknown(result.version, result.image, f"It was verified, but could not be watched: {error}")
    if problem is None:
        return result
    if before is None:
        # Still true, although it is not good: nobody else would answer.
        return PutBack(
            result.version,
            result.image,
            result.bundle_digest,
            result.url,
            f"{problem} There is nothing to go back to: it stays in service.",
        )
    return target.put_back(before, _bundle_of(installation), problem, (result.version, result.image))


def find_out_on_kubernetes(installation: Installation) -> RolloutResult | None:
    """Determine what serves on Kubernetes, see `KubernetesTarget.find_out`."""
    return kubernetes_target(installation).find_out(_bundle_of(installation))


@contextmanager
def alone(installation: Installation) -> Iterator[None]:
    """Keep other machines from rolling out to the same cluster. The caller holds the lock of this machine.

    Raises:
        AlreadyRunning: another one does.
    """
    with kubernetes_target(installation).held(f"{socket.gethostname()}, {installation.settings.state_path.resolve()}"):
        yield


def refresh_login(installation: Installation) -> bool:
    """Give the cluster a fresh login for its registry, which ECR's are good for 12 hours; whether it needs one.

    Raises:
        RolloutError: AWS gave none, or Kubernetes did not take it.
    """
    login = log_in(installation.settings.image_repository or "")
    if login is None:
        return False
    kubernetes_target(installation).keep_login(str(installation.settings.image_repository), login)
    return True


def _bundle_of(installation: Installation) -> BundleOf:
    registry = installation.registry
    return lambda version: registry.fetch_bundle(registry.version(version))


def _source(installation: Installation, git_ref: str | None) -> SourceTree:
    path = source_path(installation)
    if git_ref is None:
        return SourceTree(path, installation.git_commit)
    return fetch_source(
        installation.settings.source_repository or str(path),
        git_ref,
        installation.settings.state_path.resolve() / "sources",
    )


def _pod_files(installation: Installation, target: KubernetesTarget) -> dict[str, bytes]:
    """What only the pods may read: hashes of API keys, and the key for the pseudonyms of patients."""
    own, made_at = target.own_key()
    keys = [hashed(_ROLLOUTS, own, made_at)]
    if installation.settings.api_keys_path.exists():
        keys += list_keys(installation.settings.api_keys_path)
    if len(keys) == 1:
        _logger.warning("Nobody has an API key yet: `healthpredict keys add NAME`, then promote the version again")
    patient_key = ensure_patient_key(installation)
    return {"api-keys.json": to_json(keys), "patient-key": patient_key.hex().encode()}
