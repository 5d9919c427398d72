"""Recalibrate the champion: register a version with the same model, whose risks and threshold fit the newest batches."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.manifest import Calibrator
from healthpredict.bundle.model import Bundle, calibrate, calibrate_one
from healthpredict.bundle.recalibrate import recalibrate_bundle
from healthpredict.evaluation.metrics import threshold_for
from healthpredict.monitoring.calibration import Correction
from healthpredict.operations.built_card import log_card, make_card, profile_of
from healthpredict.operations.detect_drift import DriftCheck, read_check
from healthpredict.operations.installation import Installation
from healthpredict.operations.risks import risks_of
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.registry.models import ModelVersion
from healthpredict.storage.tables import read_frame


class Recalibrated(BaseModel):
    """A registered recalibration. The ledger contains it: never rename a field.

    Attributes:
        version: in the registry.
        of: the version that was recalibrated.
        arriving: the batch that led to it.
        correction: of the risks.
        intercept: the new log-odds are intercept + slope x the old ones.
        slope: see `intercept`.
        threshold: that flags the promised share of the batch, if the batch is large enough.
        bundle_digest: of its bundle.
        reasons: of the decision.
        seconds: wall time by stage.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    of: int
    arriving: str
    correction: Correction
    intercept: float
    slope: float
    threshold: float
    bundle_digest: str
    reasons: tuple[str, ...]
    seconds: Seconds


def recalibrate(installation: Installation, name: str, tags: Mapping[str, str] | None = None) -> Recalibrated | None:
    """Register a recalibration of the champion, once for each batch.

    The correction of the risks is the one that the check of the batch found on matured outcomes. The threshold flags the promised
    share of the batch itself, for which no outcomes are needed. A batch that is too small does not change who is flagged.

    Args:
        installation: where data and models are.
        name: a batch that was checked.
        tags: for the MLflow run, for instance the id of the flow run.

    Returns:
        The recalibration, or None if another version has become the champion since the check.

    Raises:
        BundleError: the new bundle does not reproduce its golden rows; nothing was registered.
        RegistryError: there is no champion, or MLflow failed.
        StorageError: something cannot be read or written.
    """
    registry, ledger = installation.registry, installation.ledger
    check, champion = read_check(installation, name), registry.champion()
    recorded = ledger.last("recalibration", arriving=name)
    if recorded is not None:
        earlier = Recalibrated.model_validate({field: recorded[field] for field in Recalibrated.model_fields})
        was_promoted = ledger.last("promotion", version=earlier.version) is not None
        current = {earlier.version} if was_promoted else {earlier.version, earlier.of}
        return earlier if champion.version in current else None
    if check.champion != champion.version:
        return None
    correction = Calibrator(slope=1, intercept=0)
    if (found := check.calibration) is not None:
        correction = Calibrator(slope=found.slope, intercept=found.intercept)
    identity = {"trigger": name, "recalibrates": str(champion.version)}
    seconds: Seconds = {}
    with timed(seconds, "recalibrate"):
        known = next((v for v in registry.versions() if identity.items() <= v.tags.items()), None)
        if known is not None:  # an earlier call was killed before it was recorded
            bundle = registry.fetch_bundle(known)
        else:
            run_id = registry.open_run(f"recalibrate {name}", identity)
            registry.tag_run(run_id, tags or {})
            bundle = _build(installation, check, champion, correction, run_id)
            manifest = bundle.manifest
            log_card(registry, run_id, bundle)
            registry.log(run_id, params=identity | {"family": manifest.family, "calibrated_on": manifest.calibrated_on})
            registry.log(run_id, metrics={"threshold": manifest.threshold, **manifest.calibrator.model_dump()})
            known = registry.complete_version(run_id, bundle, champion.tags | identity)
        registry.close_run(known.run_id)
    recalibrated = Recalibrated(
        version=known.version,
        of=champion.version,
        arriving=name,
        correction=found.correction if found else "none",
        **correction.model_dump(),
        threshold=bundle.manifest.threshold,
        bundle_digest=known.bundle_digest,
        reasons=check.decision.reasons,
        seconds=seconds,
    )
    ledger.append(
        "recalibration", key=f"recalibration {name} {champion.version}", **recalibrated.model_dump(mode="json")
    )
    log_step(name, "calibrate", seconds["recalibrate"], f"version {known.version}: {_in_words(recalibrated)}")
    return recalibrated


def _build(
    installation: Installation, check: DriftCheck, champion: ModelVersion, correction: Calibrator, run_id: str
) -> Bundle:
    registry, found = installation.registry, check.calibration
    bundle = registry.fetch_bundle(champion)
    if check.rows < installation.settings.drift.min_rows:
        threshold = calibrate_one(correction, bundle.manifest.threshold)
    else:
        risk = calibrate(correction, risks_of(bundle, read_frame(installation.layout.processed(check.batch))))
        threshold = threshold_for(risk, installation.settings.model.alert_rate)
    version = registry.reserve_version(run_id)
    return recalibrate_bundle(
        bundle,
        registry.cache_path / "building" / str(version),
        correction,
        version=version,
        run_id=run_id,
        trigger=check.batch,
        batch=check.newest_matured if found and found.correction != "none" else None,
        threshold=threshold,
        make_card=make_card(installation, bundle.encoder, profile_of(bundle)),
    )


def _in_words(recalibrated: Recalibrated) -> str:
    correction = {
        "none": "the same risks",
        "intercept": f"log-odds {recalibrated.intercept:+.3f}",
        "intercept and slope": f"log-odds {recalibrated.intercept:+.3f} {recalibrated.slope:+.3f} x",
    }[recalibrated.correction]
    return f"{correction}, threshold {recalibrated.threshold:.3f}"
