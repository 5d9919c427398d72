"""Predict in your own Python program: `load_bundle`, `predict` and `explain`, also importable from `healthpredict` itself.

From version 1.0 on, these functions, their arguments and the fields of their results stay the same within a major version. They
predict as the API and `healthpredict score` do, with the same checks. What the API does besides (log, silent mode, hold-outs)
does not happen here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
import pandas as pd

from healthpredict.bundle import model
from healthpredict.bundle.model import Bundle
from healthpredict.data.columns import CODING_COLUMN, ENCOUNTER_COLUMNS
from healthpredict.data.contract import MISSING
from healthpredict.data.raw import raw_chunks
from healthpredict.data.table import ROWS_AT_ONCE, open_table
from healthpredict.errors import BundleError, EncounterRefused
from healthpredict.features.encoder import Value
from healthpredict.operations.score_chunk import score_chunk
from healthpredict.serving import reasons
from healthpredict.serving.encounter import read_encounter
from healthpredict.serving.predictions import model_of, predict_one
from healthpredict.serving.problems import ProblemError
from healthpredict.serving.reasons import Reason
from healthpredict.serving.request import read_json
from healthpredict.storage.bundle_uris import fetch_bundle

_CACHE: Final = Path.home() / ".cache" / "healthpredict" / "bundles"


@dataclass(frozen=True)
class Prediction:
    """The risk of one encounter.

    Attributes:
        readmission_risk: calibrated probability (0-1) of the outcome that the manifest names: a readmission within 30 days, or any.
        high_risk: whether the risk is at or above the threshold.
        threshold: risk (0-1) from which the model version calls a risk high.
        model_version: in the registry.
        bundle_digest: SHA-256 that identifies the content of the bundle.
    """

    readmission_risk: float
    high_risk: bool
    threshold: float
    model_version: int
    bundle_digest: str


@dataclass(frozen=True)
class Explanation(Prediction):
    """The risk of one encounter and its reasons: `expected_log_odds` and all contributions add up to `log_odds`.

    Attributes:
        log_odds: the sum of the explanation. The risk that follows from it differs from `readmission_risk` by at most 1e-4.
        expected_log_odds: log-odds of an encounter about which nothing is known.
        expected_risk: the same as a probability (0-1).
        reasons: exact Shapley values, the strongest first.
    """

    log_odds: float
    expected_log_odds: float
    expected_risk: float
    reasons: tuple[Reason, ...]


def load_bundle(source: str | Path, *, tracking_uri: str | None = None, cache: Path = _CACHE) -> Bundle:
    """Load a model with everything that a prediction needs, and check that it predicts here as it did after training.

    Args:
        source: a folder, `s3://bucket/prefix`, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracking_uri: of the MLflow server, `http(s)://[user:password@]host`; needed for `models:/` only.
        cache: local folder for what is fetched.

    Raises:
        BundleError: it is incomplete, altered, or of another version of this package, or it predicts something else here.
        ConfigurationError: the source has none of these forms, or the server has no usable address.
        RegistryError: MLflow does not answer, or has no such version.
        StorageError: S3 failed, or the cache cannot be written.
    """
    bundle = model.load_bundle(fetch_bundle(str(source), cache, tracking_uri))
    bundle.verify()
    return bundle


@overload
def predict(bundle: Bundle, encounters: Mapping[str, Any]) -> Prediction: ...
@overload
def predict(bundle: Bundle, encounters: pd.DataFrame) -> pd.DataFrame: ...
def predict(bundle: Bundle, encounters: Mapping[str, Any] | pd.DataFrame) -> Prediction | pd.DataFrame:
    """Predict for one encounter or for a frame of them.

    Args:
        bundle: from `load_bundle`.
        encounters: one encounter as `POST /predict` takes it; None, NaN and words such as NA mean missing. Or a frame with the
            columns of a file of encounters and perhaps `diagnosis_coding`, as texts or numbers; all other columns are ignored.

    Returns:
        For one encounter its `Prediction`. For a frame, a frame with its index and the columns `readmission_risk` (0-1),
        `high_risk` (nullable boolean) and `reason`: why a row was not predicted, "" if it was. Such a row has no risk and no flag.

    Raises:
        EncounterRefused: the one encounter breaks the contract, has an unknown field, or ended in death or hospice. All problems
            are listed.
        MissingColumns: the frame lacks a column of the contract.
    """
    if isinstance(encounters, pd.DataFrame):
        return _predict_frame(bundle, encounters)
    return Prediction(**predict_one(bundle, _record(encounters)), **model_of(bundle))


def explain(bundle: Bundle, encounter: Mapping[str, Any]) -> Explanation:
    """Predict for one encounter and explain the risk.

    Args:
        bundle: from `load_bundle`.
        encounter: one encounter, as for `predict`.

    Raises:
        EncounterRefused: as `predict`.
        BundleError: the bundle was built without an explainer.
    """
    record = _record(encounter)
    if bundle.explainer is None:
        raise BundleError(f"Bundle {bundle.digest[:12]} was built without explanations. Train a new one.")
    explained = reasons.explain(bundle, record)
    found = tuple(Reason(**reason) for reason in explained.pop("reasons"))
    return Explanation(**explained, **model_of(bundle), reasons=found)


def _record(encounter: Mapping[str, Any]) -> dict[str, Value]:
    """Check an encounter as the API does: it is written as JSON and read again."""
    sent = json.dumps({name: _plain(value) for name, value in encounter.items()}, default=str)
    try:
        return read_encounter(read_json(sent.encode()))
    except ProblemError as error:
        problems = {problem.field: problem.problem for problem in error.problem.errors}
        raise EncounterRefused(error.problem.detail, problems) from None


def _plain(value: Any) -> Any:
    """Return a value of numpy or pandas as plain Python has it, and None if it is missing."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if plain is pd.NA or (isinstance(plain, float) and math.isnan(plain)) else plain


def _predict_frame(bundle: Bundle, encounters: pd.DataFrame) -> pd.DataFrame:
    csv = encounters.to_csv(index=False, na_rep=MISSING).encode()
    with open_table(csv, "the frame", ENCOUNTER_COLUMNS, (CODING_COLUMN,)) as table:
        chunks = [score_chunk(bundle, chunk) for chunk in raw_chunks(table, ROWS_AT_ONCE)]
    risk = np.concatenate([chunk.risk for chunk in chunks])
    reason = np.concatenate([chunk.reason for chunk in chunks])
    flags = pd.array(risk >= bundle.manifest.threshold, dtype="boolean")
    flags[reason != ""] = pd.NA
    columns = {"readmission_risk": risk, "high_risk": flags, "reason": pd.array(reason, dtype="str")}
    return pd.DataFrame(columns, index=encounters.index)
