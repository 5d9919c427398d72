"""A tiny real bundle: an encoder fitted on drawn encounters and a logistic model in ONNX. Shared by serving and rollout."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from healthpredict.bundle.build import build_bundle
from healthpredict.bundle.explainer import Explainer, Linear
from healthpredict.bundle.manifest import Calibrator
from healthpredict.bundle.model import Bundle, GoldenRow, calibrate
from healthpredict.config import Settings
from healthpredict.data.contract import DEATH_OR_HOSPICE, DIAGNOSES, FEATURE_COLUMNS, Kind
from healthpredict.data.diagnosis import unambiguous
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.metrics import Evaluation
from healthpredict.evaluation.report import TestReport
from healthpredict.features.encoder import Encoder
from healthpredict.features.frame import N_FOLDS, encode_frame, fit_encoder
from healthpredict.operations.installation import Installation
from healthpredict.registry.models import BUNDLE_ARTIFACT, Registry

CODES = {
    "payer_code": ["MC", "HM", "BC"],
    "medical_specialty": ["Cardiology", "Surgery-General", "InternalMedicine"],
    "diag_1": ["250.83", "428", "414", "V57"],
    "diag_2": ["250.01", "276", "E888"],
    "diag_3": ["401", "250", "272"],
}
INTERVAL = Interval(value=0.66, low=0.64, high=0.68)


def draw_encounters(rows: int, seed: int = 0) -> pd.DataFrame:
    """An encounters frame of the cohort (no death, no hospice), every fifth nullable value missing."""
    rng = np.random.default_rng(seed)
    frame = {}
    for column in FEATURE_COLUMNS:
        if column.kind is Kind.COUNT:
            frame[column.field] = pd.Series(rng.integers(column.minimum, column.maximum + 1, rows))
            continue
        values = CODES.get(column.field) or [
            v for v in column.allowed if column.field != "discharge_disposition_id" or v not in DEATH_OR_HOSPICE
        ]
        drawn = rng.choice(np.array(values, dtype=object), rows)
        if column.nullable:
            drawn[rng.random(rows) < 0.2] = None
        dtype = pd.CategoricalDtype(list(column.allowed)) if column.kind is Kind.CATEGORY else "str"
        frame[column.field] = pd.Series(drawn).astype(dtype)
    return pd.DataFrame(frame)


def as_records(encounters: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain values by `Column.field`, None where missing."""
    rows = encounters.astype(object).to_dict("records")
    return [{field: None if pd.isna(value) else value for field, value in row.items()} for row in rows]


def build_tiny_bundle(path: Path, *, model_version: int = 1, seed: int = 0) -> Bundle:
    """Build a bundle; another seed gives another model, and so another digest."""
    encounters = draw_encounters(400)
    patients = np.arange(len(encounters))
    label = (encounters["number_inpatient"].to_numpy() + patients * 37 % 300) > 330
    encoder, features = fit_encoder(encounters, label, patients % N_FOLDS)
    mean = features.mean(axis=0, dtype=np.float64)
    weights = np.random.default_rng(seed).normal(0, 0.002, len(encoder.feature_names)).astype(np.float32)
    manifest: dict[str, Any] = {
        "model_name": "readmission",
        "model_version": model_version,
        "family": "logistic_regression",
        "outcome": "within_30_days",
        "trigger": "initial",
        "trained_on": ("initial",),
        "data_digest": "0" * 64,
        "git_commit": None,
        "run_id": "run",
        "created_at": datetime(2026, 11, 1, tzinfo=UTC),
        "threshold": 0.3,
        "calibrator": {"slope": 1.1, "intercept": -1.0},
        "test": TestReport(
            evaluation=Evaluation(
                rows=400,
                patients=400,
                prevalence=0.11,
                ece=0.01,
                **dict.fromkeys(("auroc", "auprc", "brier", "calibration_in_the_large", "calibration_slope"), INTERVAL),
            ),
            baseline_auroc=INTERVAL,
            threshold=0.3,
            alert_rate=0.2,
            sensitivity=0.4,
            subgroups=(),
        ),
    }
    golden = draw_encounters(20, seed=1)
    golden[[*DIAGNOSES]] = golden[[*DIAGNOSES]].map(unambiguous, na_action="ignore")  # as in a real bundle
    return build_bundle(
        path,
        manifest=manifest,
        encoder=encoder,
        onnx_model=_logistic_model(weights),
        reference={},
        golden=_golden_rows(encoder, weights, golden, manifest["calibrator"]),
        explainer=Explainer(Linear(weights.astype(np.float64), mean), float(mean @ weights), "log_odds"),
    )


def _golden_rows(
    encoder: Encoder, weights: np.ndarray, encounters: pd.DataFrame, calibrator: dict[str, float]
) -> list[GoldenRow]:
    log_odds = encode_frame(encoder, encounters).astype(np.float64) @ weights.astype(np.float64)
    risks = calibrate(Calibrator(**calibrator), 1 / (1 + np.exp(-log_odds)))
    return [GoldenRow(record, float(risk)) for record, risk in zip(as_records(encounters), risks, strict=True)]


def _logistic_model(weights: np.ndarray) -> bytes:
    n = len(weights)
    columns = np.stack([-weights, weights], axis=1)  # sigmoid(-z) is 1 - sigmoid(z)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "weights"], ["log_odds"]),
            helper.make_node("Sigmoid", ["log_odds"], ["probabilities"]),
        ],
        "logistic",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, n])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(columns.astype(np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def champion(settings: Settings) -> int | None:
    """The version that the alias `champion` names."""

    found = Installation(settings).registry.by_alias("champion")
    return found.version if found else None


def register_tiny_bundle(settings: Settings, folder: Path) -> int:
    """Register another tiny model, built below a folder, and return its version."""

    registry = Installation(settings).registry
    run_id = registry.open_run("tiny", {"trigger": str(len(registry.versions()))})
    version = registry.reserve_version(run_id)
    registry.complete_version(
        run_id, build_tiny_bundle(folder / f"built-{version}", model_version=version, seed=version), {}
    )
    registry.close_run(run_id)
    return version


def stored_bundle(registry: Registry, version: int) -> Path:
    """The folder in which MLflow keeps the bundle of a version. Its copy in the cache is removed."""
    found = registry.version(version)
    shutil.rmtree(registry.cache_path / found.bundle_digest, ignore_errors=True)
    uri = registry.client.get_run(found.run_id).info.artifact_uri
    return Path(uri.removeprefix("file://")) / BUNDLE_ARTIFACT
