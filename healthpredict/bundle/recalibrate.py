"""Build a bundle with another calibrator and threshold around the same model."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from healthpredict.bundle.build import MakeCard, build_bundle
from healthpredict.bundle.manifest import Calibrator, Recalibration
from healthpredict.bundle.model import MODEL, Bundle, GoldenRow, calibrate_one


def recalibrate_bundle(
    bundle: Bundle,
    path: Path,
    correction: Calibrator,
    *,
    version: int,
    run_id: str,
    trigger: str,
    batch: str | None,
    threshold: float,
    make_card: MakeCard | None = None,
) -> Bundle:
    """Build a bundle with the model of an existing one, and with its risks after a correction.

    The golden rows get the corrected risks, so that they still prove that the model is the one that was trained.

    Args:
        bundle: the existing one, which may be recalibrated itself.
        path: of the new folder. An existing bundle is replaced.
        correction: of the existing bundle's calibrated risks; its slope is above 0.
        version: of the new bundle, reserved in the registry.
        run_id: the MLflow run of the recalibration.
        trigger: the batch that led to it.
        batch: the newest batch whose outcomes were used; None if only the threshold changes.
        threshold: a risk at or above it is `high_risk`.
        make_card: makes the model card; None for a bundle without one.

    Raises:
        BundleError: the new bundle does not reproduce its golden rows. An existing bundle at `path` is unchanged.
    """
    old = bundle.manifest
    calibrator = Calibrator(
        slope=correction.slope * old.calibrator.slope,
        intercept=correction.slope * old.calibrator.intercept + correction.intercept,
    )
    recalibration = Recalibration(
        of=old.trained_version,
        calibrator=old.recalibration.calibrator if old.recalibration else old.calibrator,
        batch=batch or old.calibrated_on,
    )
    changed = {
        "model_version": version,
        "run_id": run_id,
        "trigger": trigger,
        "created_at": datetime.now(UTC),
        "threshold": threshold,
        "calibrator": calibrator,
        "recalibration": recalibration,
    }
    return build_bundle(
        path,
        manifest=old.model_dump(exclude={"code_systems", "files"}) | changed,
        encoder=bundle.encoder,
        onnx_model=(bundle.path / MODEL).read_bytes(),
        reference=bundle.reference(),
        golden=[GoldenRow(row.record, calibrate_one(correction, row.risk)) for row in bundle.golden],
        explainer=bundle.explainer,
        make_card=make_card,
    )
