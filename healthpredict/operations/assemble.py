"""Build the bundle of a fitted model under a new version number."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd

from healthpredict.bundle.build import build_bundle
from healthpredict.bundle.model import Bundle, GoldenRow
from healthpredict.evaluation.report import TestReport
from healthpredict.features.frame import as_records, encode_frame
from healthpredict.monitoring.profile import build_profile
from healthpredict.operations.built_card import make_card
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import FOR_TRAINING
from healthpredict.operations.search import Search
from healthpredict.training.explain import explainer_of
from healthpredict.training.export import export_onnx
from healthpredict.training.fit import FittedModel
from healthpredict.training.golden import golden_encounters

N_GOLDEN = 64


def assemble(
    installation: Installation,
    search: Search,
    fitted: FittedModel,
    *,
    training: pd.DataFrame,
    test: pd.DataFrame,
    report: TestReport,
) -> Bundle:
    """Reserve a version and build its bundle on this machine.

    Args:
        installation: where the registry is.
        search: the search that found the model.
        fitted: the model.
        training: the encounters of training patients; they are the reference for drift.
        test: encounters of the same period, of patients that the model was not fitted on.
        report: the evaluation on `test`.

    Raises:
        BundleError: the bundle does not reproduce the training pipeline.
        RegistryError: MLflow failed.
    """
    registry, settings = installation.registry, installation.settings
    family, seed = fitted.candidate.family, settings.search.seed
    onnx_model = export_onnx(family, fitted.model, len(fitted.encoder.feature_names))
    registry.log_onnx(search.run_id, family, onnx_model)
    profile = build_profile(
        training,
        risk=fitted.out_of_fold_risk,
        unseen_risk=fitted.risks(test),
        patient_id=training["patient_id"].to_numpy(),
        policy=settings.drift,
        seed=seed,
    )
    version = registry.reserve_version(search.run_id)
    return build_bundle(
        registry.cache_path / "building" / str(version),
        manifest={
            "model_name": registry.model_name,
            "model_version": version,
            "family": family,
            "outcome": settings.outcome,
            "trigger": search.training.trigger,
            "trained_on": search.trained_on,
            "data_digest": search.data_digest,
            "git_commit": installation.git_commit,
            "run_id": search.run_id,
            "created_at": datetime.now(UTC),
            "threshold": report.threshold,
            "calibrator": fitted.calibrator,
            "not_learned": int((~training[FOR_TRAINING]).sum()),
            "test": report,
        },
        encoder=fitted.encoder,
        onnx_model=onnx_model,
        reference=profile.model_dump(mode="json"),
        golden=_golden(fitted, training, seed),
        explainer=explainer_of(family, fitted.model, encode_frame(fitted.encoder, training.head(1))),
        make_card=make_card(installation, fitted.encoder, profile),
    )


def _golden(fitted: FittedModel, training: pd.DataFrame, seed: int) -> list[GoldenRow]:
    encounters = golden_encounters(training, N_GOLDEN, seed)
    rows = zip(as_records(encounters), fitted.risks(encounters), strict=True)
    return [GoldenRow(record, float(risk)) for record, risk in rows]
