"""Data and prediction drift of a batch, measured and drawn by Evidently."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, computed_field

from healthpredict.errors import NotEnoughData
from healthpredict.monitoring.distances import Method
from healthpredict.monitoring.profile import METHODS, ReferenceProfile, comparable


class ColumnDrift(BaseModel):
    """How far one column of a batch is from the reference.

    Attributes:
        column: field name of a feature, or `readmission_risk`.
        method: how the distance is measured.
        distance: standard deviations of the reference (Wasserstein), or 0 to .83 (Jensen-Shannon).
        limit: the distance that counts as drift.
        drifted: whether the distance reaches the limit.
    """

    model_config = ConfigDict(frozen=True)

    column: str
    method: Method
    distance: float
    limit: float
    drifted: bool


class DataDrift(BaseModel):
    """How far a batch is from the reference.

    Attributes:
        rows: encounters of the batch.
        columns: the features, in the contract's order.
        prediction: the readmission risk.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    columns: tuple[ColumnDrift, ...]
    prediction: ColumnDrift

    @property
    def drifted(self) -> list[ColumnDrift]:
        """The features that drifted, the farthest over its limit first."""
        drifted = (column for column in self.columns if column.drifted)
        return sorted(drifted, key=lambda column: column.distance / column.limit, reverse=True)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def drifted_share(self) -> float:
        """Share (0-1) of the features that drifted."""
        return len(self.drifted) / len(self.columns)


def detect_data_drift(
    profile: ReferenceProfile, encounters: pd.DataFrame, risk: NDArray[np.float64]
) -> tuple[DataDrift, bytes]:
    """Compare a batch with the reference.

    Args:
        profile: of the reference.
        encounters: the batch, with every feature of the contract, shape (n_encounters, ...).
        risk: readmission risks (0-1) of the same encounters, shape (n_encounters,).

    Returns:
        The result, and Evidently's report of the same numbers as an HTML page (UTF-8, about 4 MB).

    Raises:
        NotEnoughData: the batch has no encounters.
    """
    if encounters.empty:
        raise NotEnoughData("Drift needs encounters; this batch has none.")
    reference = _rebuild(profile)
    current = profile.recognise(comparable(encounters, risk))
    limits = {name: profile.limit(name, len(current)) for name in METHODS}
    distances, html = _run_evidently(reference, current, limits)
    *columns, prediction = (
        ColumnDrift(
            column=name,
            method=method,
            distance=distances[name],
            limit=limits[name],
            drifted=distances[name] >= limits[name],
        )
        for name, method in METHODS.items()
    )
    return DataDrift(rows=len(current), columns=tuple(columns), prediction=prediction), html


def _rebuild(profile: ReferenceProfile) -> pd.DataFrame:
    """Rows with the profile's counts: right within every column, meaningless across columns."""
    columns: dict[str, Any] = {}
    for name, column in profile.columns.items():
        values, repeats = list(column.counts), list(column.counts.values())
        if column.method is Method.WASSERSTEIN:
            columns[name] = np.repeat(np.array(values, dtype=np.float64), repeats)
        else:
            columns[name] = pd.Categorical.from_codes(
                np.repeat(np.arange(len(values)), repeats), dtype=column.categories
            )
    return pd.DataFrame(columns)


def _run_evidently(
    reference: pd.DataFrame, current: pd.DataFrame, limits: dict[str, float]
) -> tuple[dict[str, float], bytes]:
    """Have Evidently measure every column: column -> distance, and its HTML page."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    # A column that is one and the same value everywhere has distance 0, and its plots cost as much as any other's.
    varying = [name for name in limits if len({*reference[name].unique(), *current[name].unique()}) > 1]
    definition = DataDefinition(
        numerical_columns=[name for name in varying if METHODS[name] is Method.WASSERSTEIN],
        categorical_columns=[name for name in varying if METHODS[name] is Method.JENSEN_SHANNON],
    )
    metrics = {name: ValueDrift(column=name, method=METHODS[name].value, threshold=limits[name]) for name in varying}
    snapshot = Report(list(metrics.values()), include_tests=True).run(
        Dataset.from_pandas(current[varying], data_definition=definition),
        Dataset.from_pandas(reference[varying], data_definition=definition),
    )
    results = snapshot.metric_results
    distances = {name: float(results[metric.metric_id].value) for name, metric in metrics.items()}
    return dict.fromkeys(limits, 0.0) | distances, snapshot.get_html_str(as_iframe=False).encode()
