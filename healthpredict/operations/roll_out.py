"""Put a version into service, verified, and only then make it the champion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.model import Bundle
from healthpredict.config import Settings
from healthpredict.errors import AlreadyRunning, RolloutError
from healthpredict.operations.context import Seconds, open_ledger, open_registry, timed
from healthpredict.operations.patient_key import ensure_patient_key
from healthpredict.operations.put_on_kubernetes import (
    alone,
    kubernetes_target,
    put_on_kubernetes,
    watch_on_kubernetes,
)
from healthpredict.rollout.local import LocalTarget
from healthpredict.rollout.manifests import Manifest
from healthpredict.rollout.objects import served
from healthpredict.storage.lock import exclusive
from healthpredict.storage.uris import read_bytes


class Rollout(BaseModel):
    """A version in service.

    Attributes:
        version: that answers now.
        previous: the champion before; None where there was none.
        bundle_digest: of its bundle.
        url: where it answers; None where it was only promoted.
        image: by digest; None where there is none.
        git_ref: of the code in the image, where one was named.
        reason: why, where it was not the gate that decided.
        seconds: wall time by stage.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    previous: int | None
    bundle_digest: str
    url: str | None
    image: str | None = None
    git_ref: str | None = None
    reason: str | None = None
    seconds: Seconds


def roll_out(
    settings: Settings, version: int, *, git_ref: str | None = None, image: str | None = None, reason: str | None = None
) -> Rollout:
    """Put a version where `rollout.target` says, check its golden rows there, and move the alias `champion`, in this order.

    Done again after an interruption at any step it goes on: a version that answers already is only verified. On Kubernetes it is
    watched then, and where it does not do well the version before is put back and is the champion again.

    Args:
        settings: where the API is.
        version: of the registry.
        git_ref: of the code in the image; None for the code that runs here. On Kubernetes only.
        image: that was built before, by digest; None to build one. On Kubernetes only.
        reason: for the ledger, where it is not the gate that decided.

    Raises:
        RolloutError: the version did not become ready, did not answer as trained, or did not do well. What ran before keeps
            running, the alias is where it was, and the ledger says why.
        BundleError: the bundle was altered; likewise.
        AlreadyRunning: another rollout is going on.
    """
    registry, ledger = open_registry(settings), open_ledger(settings)
    model_version = registry.version(version)
    seconds: Seconds = {}
    previous = before = None
    try:
        with _one_at_a_time(settings):
            promoted = ledger.last("promotion")
            previous = promoted["version"] if promoted else None
            bundle = registry.fetch_bundle(model_version)
            facts: dict[str, Any] = {"bundle_digest": bundle.digest, "url": None, "seconds": seconds}
            match settings.rollout.target:
                case "process":
                    with timed(seconds, "rollout"):
                        facts["url"] = _as_process(settings, bundle)
                case "kubernetes":
                    target = kubernetes_target(settings)
                    before = target.verified()
                    image = put_on_kubernetes(settings, bundle, seconds, git_ref=git_ref, image=image).image
                    facts |= {"url": target.url, "image": image, "git_ref": git_ref}
                case "none":
                    bundle.verify()
            registry.make_champion(version)
            rollout = Rollout(version=version, previous=previous, reason=reason, **facts)
            if previous != version:
                ledger.append("promotion", **rollout.model_dump(mode="json"))
            if settings.rollout.target == "kubernetes":
                _watch(settings, rollout, before)
    except AlreadyRunning:
        raise  # nothing was tried
    except Exception as error:
        # Whatever it was, the operator has to find it in the ledger; the caller decides what to do.
        ledger.append("rollout_failed", version=version, champion=previous, problem=str(error))
        raise
    return rollout


def _watch(settings: Settings, rollout: Rollout, before: Manifest | None) -> None:
    try:
        watch_on_kubernetes(settings, before, rollout.seconds)
    except RolloutError as error:
        if before is not None and served(before).version != rollout.version:
            back = served(before)
            open_registry(settings).make_champion(back.version)
            again = Rollout(
                version=back.version,
                previous=rollout.version,
                bundle_digest=back.bundle_digest,
                url=rollout.url,
                image=back.image,
                reason=str(error),
                seconds={},
            )
            open_ledger(settings).append("promotion", **again.model_dump(mode="json"))
        raise


@contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    # Two rollouts at once would end each other's candidate.
    with exclusive(settings.state_path / "rollout.lock", "A rollout"):
        if settings.rollout.target == "kubernetes":
            with alone(settings):
                yield
        else:
            yield


def _as_process(settings: Settings, bundle: Bundle) -> str:
    target = local_target(settings)
    target.recover()
    running = target.current()
    if running is None or running.bundle_digest != bundle.digest:
        ensure_patient_key(settings)
        candidate = target.start(bundle.path)
        try:
            target.verify(candidate)
        except RolloutError:
            target.abandon(candidate)
            raise
        running = target.switch(candidate)
    return running.url


def local_target(settings: Settings) -> LocalTarget:
    """The local API of these settings, with a prediction log, and with keys where the settings name one."""
    options = [f"--log={settings.prediction_log_path}", f"--patient-key={settings.patient_key_path}"]
    key = None
    if settings.api_key_path is not None:
        key = read_bytes(str(settings.api_key_path)).decode().strip()
        options.append(f"--keys={settings.api_keys_path}")
    return LocalTarget(settings.state_path, settings.api_host, settings.api_port, options, key)


def serving(settings: Settings) -> str | None:
    """What answers, and where, in words; None where nothing does."""
    match settings.rollout.target:
        case "process":
            running = local_target(settings).current()
            return f"version {running.model_version} on {running.url}" if running else None
        case "kubernetes":
            target = kubernetes_target(settings)
            found = target.verified()
            return f"version {served(found).version} on {target.url}" if found else None
        case "none":
            return None
