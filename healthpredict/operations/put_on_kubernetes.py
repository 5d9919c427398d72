"""Put a bundle into service on Kubernetes: source, image, push, rollout, watch."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from healthpredict.api_keys import stored_key, to_json
from healthpredict.bundle.model import Bundle
from healthpredict.cds_hooks_params import read_params
from healthpredict.errors import ConfigurationError
from healthpredict.operations.installation import Installation
from healthpredict.operations.patient_key import ensure_patient_key
from healthpredict.operations.timing import Seconds, timed
from healthpredict.rollout.ecr import ecr_login
from healthpredict.rollout.image import build_image, push_image
from healthpredict.rollout.kubernetes import BundleOf, KubernetesTarget
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.results import InService, PutBack, RolloutResult, Unknown
from healthpredict.rollout.sbom import bill_name, bill_of_materials
from healthpredict.rollout.source_tree import SourceTree, fetch_source
from healthpredict.storage.key_file import list_keys
from healthpredict.storage.uris import join, write_bytes

_logger = logging.getLogger(__name__)
_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_CDS_HOOKS: Final = "cds-hooks.toml"
_ROLLOUTS: Final = "rollout-on-kubernetes"
"""Name of the API key with which rollouts verify the API."""


def source_path(installation: Installation) -> Path:
    """Return the checkout with the Kubernetes manifests, from which images are built."""
    return installation.settings.source_path or _CHECKOUT


def kubernetes_target(installation: Installation) -> KubernetesTarget:
    """Return the cluster that the settings name.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """
    settings = installation.settings
    if settings.kubeconfig is None or settings.rollout.context is None:
        raise ConfigurationError(
            "A rollout needs the name of its cluster: set HEALTHPREDICT_KUBECONFIG and HEALTHPREDICT_ROLLOUT__CONTEXT."
        )
    folder = source_path(installation) / settings.rollout.overlay
    return KubernetesTarget(
        settings.kubeconfig, settings.rollout.context, folder, settings.rollout, settings.api_options
    )


def put_on_kubernetes(
    installation: Installation,
    bundle: Bundle,
    seconds: Seconds,
    *,
    git_ref: str | None = None,
    image: str | None = None,
) -> RolloutResult:
    """Roll out a bundle on Kubernetes and verify it.

    Args:
        installation: its settings name cluster and image repository.
        bundle: bundle of the version.
        seconds: the wall time of each stage is added here.
        git_ref: Git ref of the code in the image, or None for the code that runs here.
        image: digest of an existing image, or None to build one.

    Raises:
        RolloutError: the image could not be built or pushed, or the cluster does not respond. Nothing was changed in the cluster.
        ConfigurationError: a setting is missing or wrong. Nothing was changed.
    """
    settings, target = installation.settings, kubernetes_target(installation)
    if settings.image_repository is None:
        raise ConfigurationError("Name the repository for images: set HEALTHPREDICT_IMAGE_REPOSITORY=HOST/NAME.")
    login = ecr_login(settings.image_repository)
    if image is None:
        source = _source(installation, git_ref)
        with timed(seconds, "build"):
            built = build_image(bundle, settings.image_repository, source, settings.python_image)
        with timed(seconds, "push"):
            image = push_image(built, login)
        with timed(seconds, "bill of materials"):
            bill = bill_of_materials(image, built.id, bundle, source)
            write_bytes(join(settings.reports_uri, "images", bill_name(image)), bill.encode())
    with timed(seconds, "rollout"):
        if login is not None:
            target.keep_login(settings.image_repository, login)
        return target.roll_out(bundle, image, _pod_files(installation, target), _bundle_of(installation))


def watch_on_kubernetes(
    installation: Installation, result: InService, before: KubernetesObject | None, seconds: Seconds
) -> RolloutResult:
    """Watch a version for `watch_seconds`. If it fails, put back the previous one.

    Args:
        installation: its settings name the cluster, and how long to watch.
        result: result of the rollout.
        before: ReplicaSet of the previous version, from `KubernetesTarget.verified`; None if there was none, or if the same version
            and image was rolled out again.
        seconds: the wall time is added here.
    """
    target = kubernetes_target(installation)
    try:
        with timed(seconds, "watch"):
            problem = target.watch(installation.settings.rollout.watch_seconds)
    except Exception as error:  # the state of the pods is unknown
        return Unknown(result.version, result.image, f"It was verified, but could not be watched: {error}")
    if problem is None:
        return result
    if before is None:
        # It fails, but without it nothing would serve.
        return PutBack(
            result.version,
            result.image,
            result.bundle_digest,
            result.url,
            f"{problem} There is no other version to put back, so it stays in service.",
        )
    return target.put_back(before, _bundle_of(installation), problem, (result.version, result.image))


def serving_on_kubernetes(installation: Installation) -> RolloutResult | None:
    """Determine which version serves on Kubernetes, see `KubernetesTarget.find_out`."""
    return kubernetes_target(installation).find_out(_bundle_of(installation))


@contextmanager
def only_rollout(installation: Installation) -> Iterator[None]:
    """Prevent rollouts of other machines to the same cluster. The caller must hold the lock of this machine.

    Raises:
        AlreadyRunning: another machine is rolling out.
    """
    with kubernetes_target(installation).held(f"{socket.gethostname()}, {installation.settings.state_path.resolve()}"):
        yield


def refresh_login(installation: Installation) -> bool:
    """Renew the cluster's login for ECR, which expires after 12 hours. Pods that wait for an image are replaced.

    Returns:
        Whether the images are in ECR. Other registries need no login.

    Raises:
        RolloutError: AWS or Kubernetes refused.
    """
    login = ecr_login(installation.settings.image_repository or "")
    if login is None:
        return False
    target = kubernetes_target(installation)
    target.keep_login(str(installation.settings.image_repository), login)
    if waiting := target.retry_pulls():
        _logger.info("%d pods that waited for their image were replaced", waiting)
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
    """Return the files of the pods' Secret: hashes of API keys, the key for the pseudonyms of patients, and those for CDS Hooks."""
    own, created_at = target.own_key()
    keys = [stored_key(_ROLLOUTS, own, created_at)]
    if installation.settings.api_keys_path.exists():
        keys += list_keys(installation.settings.api_keys_path)
    if len(keys) == 1:
        _logger.warning(
            "There is no API key for callers yet: run `healthpredict keys add NAME`, then promote the version again"
        )
    patient_key = ensure_patient_key(installation)
    secrets = {"api-keys.json": to_json(keys), "patient-key": patient_key.hex().encode()}
    return secrets | cds_hooks_files(installation.settings.cds_hooks_path)


def cds_hooks_files(path: Path | None) -> dict[str, bytes]:
    """Return the file of parameters, and the files of keys that it names.

    Raises:
        ConfigurationError: see `read_params`; or a file of keys cannot be read, or is not beside the file of parameters.
    """
    if path is None:
        return {_CDS_HOOKS: b""}
    files = [client.jwks_file for client in read_params(path).clients if client.jwks_file is not None]
    if elsewhere := [file for file in files if file.parent != path.parent]:
        raise ConfigurationError(
            f"{path} names {os.path.relpath(elsewhere[0], path.parent)}. "
            "Pods have only files beside it: name one without a folder."
        )
    try:
        return {_CDS_HOOKS: path.read_bytes()} | {file.name: file.read_bytes() for file in files}
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be read ({error.strerror}). Correct {path}.") from error
