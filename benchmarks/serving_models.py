"""The models of the serving benchmark: one as our bundle, and a similar one as a pipeline that a project would log in MLflow."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from healthpredict.bundle.build import build_bundle
from healthpredict.bundle.model import Bundle, GoldenRow
from healthpredict.data.contract import FEATURE_COLUMNS, Kind
from healthpredict.evaluation.metrics import threshold_for
from healthpredict.evaluation.report import report_on
from healthpredict.features.frame import as_records, encode_frame
from healthpredict.training.candidates import Candidate
from healthpredict.training.explain import explainer_of
from healthpredict.training.export import export_onnx
from healthpredict.training.families import FAMILIES
from healthpredict.training.fit import fit_model
from healthpredict.training.golden import golden_encounters
from healthpredict.training.params import FamilyName

FAMILY: FamilyName = "lightgbm"
LABEL = "readmitted_within_30_days"
_COUNTS = [c.field for c in FEATURE_COLUMNS if c.kind is Kind.COUNT]
_LEVELS = [c.field for c in FEATURE_COLUMNS if c.kind is not Kind.COUNT]


def build_served_bundle(path: Path, encounters: pd.DataFrame, family: FamilyName = FAMILY) -> Bundle:
    """Fit, calibrate and export a model with the parameters that a search starts from."""
    params = FAMILIES[family].first
    candidate = Candidate(family=family, params=dict(params), validation_auroc=0.5, steps=1)
    label = encounters[LABEL].to_numpy(dtype=np.bool_)
    fitted = fit_model(candidate, encounters, label, seed=0)
    risk = fitted.out_of_fold_risk
    threshold = threshold_for(fitted.out_of_fold_risk, 0.2)
    golden = golden_encounters(encounters, 64, 0)
    return build_bundle(
        path,
        manifest={
            "model_name": "readmission",
            "model_version": 1,
            "family": family,
            "outcome": "within_30_days",
            "trigger": "initial",
            "trained_on": ("synthetic",),
            "data_digest": "0" * 64,
            "git_commit": None,
            "run_id": "benchmark",
            "created_at": datetime.now(UTC),
            "threshold": threshold,
            "calibrator": fitted.calibrator,
            "test": report_on(encounters, label, risk, threshold=threshold, min_subgroup_rows=10**9, n_bootstrap=20),
        },
        encoder=fitted.encoder,
        onnx_model=export_onnx(family, fitted.model, len(fitted.encoder.feature_names)),
        reference={},
        golden=[
            GoldenRow(record, float(risk))
            for record, risk in zip(as_records(golden), fitted.risks(golden), strict=True)
        ],
        explainer=explainer_of(family, fitted.model, encode_frame(fitted.encoder, encounters.head(1))),
    )


def log_pipeline(path: Path, encounters: pd.DataFrame) -> None:
    """The usual pipeline with a model of the same family and parameters: one-hot levels, counts as they are."""
    import lightgbm
    import mlflow.sklearn
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    one_hot = OneHotEncoder(handle_unknown="ignore", min_frequency=20, sparse_output=False)
    columns = ColumnTransformer([("counts", "passthrough", _COUNTS), ("levels", one_hot, _LEVELS)])
    model = lightgbm.LGBMClassifier(**FAMILIES[FAMILY].first, n_jobs=1, verbose=-1)
    pipeline = make_pipeline(columns, model).fit(as_pipeline_input(encounters), encounters[LABEL])
    mlflow.sklearn.save_model(pipeline, path, pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle")


def as_pipeline_input(encounters: pd.DataFrame) -> pd.DataFrame:
    """Plain strings and numbers, as JSON carries them; missing levels are a level of their own."""
    levels = encounters[_LEVELS].astype(object).fillna("?")
    return pd.concat([encounters[_COUNTS].astype(float), levels], axis=1)


def mlflow_body(encounters: pd.DataFrame) -> bytes:
    """A request to `mlflow models serve`."""
    frame: dict[str, Any] = as_pipeline_input(encounters).to_dict("split")
    return json.dumps({"dataframe_split": {"columns": frame["columns"], "data": frame["data"]}}).encode()
