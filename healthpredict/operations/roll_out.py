"""Put a version into service, verified, and only then make it the champion."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from healthpredict.config import Settings
from healthpredict.errors import RolloutError
from healthpredict.operations.context import Seconds, open_ledger, open_registry, timed
from healthpredict.rollout.local import LocalTarget
from healthpredict.storage.lock import exclusive
from healthpredict.storage.patient_key import make_patient_key
from healthpredict.storage.uris import read_bytes


class Rollout(BaseModel):
    """A version in service.

    Attributes:
        version: that answers now.
        previous: the champion before; None where there was none.
        bundle_digest: of its bundle.
        url: where it answers.
        seconds: wall time by stage.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    previous: int | None
    bundle_digest: str
    url: str
    seconds: Seconds


def roll_out(settings: Settings, version: int) -> Rollout:
    """Start a version, check its golden rows over HTTP, switch to it and move the alias `champion`, in this order.

    Done again after an interruption at any step it goes on: a version that answers already is only verified.

    Args:
        settings: where the API listens.
        version: of the registry.

    Raises:
        RolloutError: the version did not become ready or did not answer as trained. What ran before keeps running, the alias
            has not moved, and the ledger says why.
        BundleError: the bundle was altered; likewise.
        AlreadyRunning: another rollout is going on.
    """
    registry, ledger = open_registry(settings), open_ledger(settings)
    model_version = registry.version(version)
    promoted = ledger.last("promotion")
    previous = promoted["version"] if promoted else None
    seconds: Seconds = {}
    try:
        # Two rollouts at once would end each other's candidate.
        with timed(seconds, "rollout"), exclusive(settings.state_path / "rollout.lock", "A rollout"):
            bundle = registry.fetch_bundle(model_version)
            target = local_target(settings)
            target.recover()
            running = target.current()
            if running is None or running.bundle_digest != bundle.digest:
                make_patient_key(settings.patient_key_path)
                candidate = target.start(bundle.path)
                try:
                    target.verify(candidate)
                except RolloutError:
                    target.abandon(candidate)
                    raise
                running = target.switch(candidate)
    except Exception as error:
        # Whatever it was, the operator has to find it in the ledger; the caller decides what to do.
        ledger.append("rollout_failed", version=version, champion=previous, problem=str(error))
        raise
    registry.make_champion(version)
    rollout = Rollout(version=version, previous=previous, bundle_digest=bundle.digest, url=running.url, seconds=seconds)
    if previous != version:
        ledger.append("promotion", **rollout.model_dump(mode="json"))
    return rollout


def local_target(settings: Settings) -> LocalTarget:
    """The local API of these settings, with a prediction log, and with keys where the settings name one."""
    options = [f"--log={settings.prediction_log_path}", f"--patient-key={settings.patient_key_path}"]
    key = None
    if settings.api_key_path is not None:
        key = read_bytes(str(settings.api_key_path)).decode().strip()
        options.append(f"--keys={settings.api_keys_path}")
    return LocalTarget(settings.state_path, settings.api_host, settings.api_port, options, key)
