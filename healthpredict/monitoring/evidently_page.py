"""Evidently's page about a batch: a distance and plots of every column, by Evidently, with our limits."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.monitoring.distances import OTHER, Method
from healthpredict.monitoring.profile import NUMBERS, ReferenceProfile, comparable

PAGE_ROWS: Final = 20_000
"""The page of a larger batch shows a sample of this many encounters. Decisions use all of them."""


def evidently_page(
    profile: ReferenceProfile, encounters: pd.DataFrame, risk: NDArray[np.float64]
) -> tuple[dict[str, float], bytes]:
    """Let Evidently measure and plot every column: Wasserstein distance for numbers, Jensen-Shannon distance for categories.

    Args:
        profile: of the reference.
        encounters: the batch, with every feature of the contract, shape (n_encounters, ...), not empty.
        risk: readmission risks (0-1) of the same encounters, shape (n_encounters,).

    Returns:
        column -> distance, and an HTML page (UTF-8, about 4 MB).
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    if len(encounters) > PAGE_ROWS:
        drawn = np.random.default_rng(0).choice(len(encounters), PAGE_ROWS, replace=False)
        encounters, risk = encounters.iloc[drawn], risk[drawn]
    current = comparable(encounters, risk)
    reference = _rebuild(profile)
    methods = {name: Method.WASSERSTEIN if name in NUMBERS else Method.JENSEN_SHANNON for name in profile.columns}
    for name in methods:
        if name not in NUMBERS:
            categories = reference[name].cat.categories
            current[name] = current[name].astype(object).where(current[name].isin(categories), OTHER)
            current[name] = current[name].astype(reference[name].dtype)
    # Constant columns are left out: their distance is 0, and their plots would take very long.
    varying = [name for name in methods if len({*reference[name].unique(), *current[name].unique()}) > 1]
    definition = DataDefinition(
        numerical_columns=[name for name in varying if name in NUMBERS],
        categorical_columns=[name for name in varying if name not in NUMBERS],
    )
    metrics = {
        name: ValueDrift(
            column=name, method=methods[name].value, threshold=_limit(profile, name, methods[name], len(current))
        )
        for name in varying
    }
    snapshot = Report(list(metrics.values()), include_tests=True).run(
        Dataset.from_pandas(current[varying], data_definition=definition),
        Dataset.from_pandas(reference[varying], data_definition=definition),
    )
    results = snapshot.metric_results
    distances = {name: float(results[metric.metric_id].value) for name, metric in metrics.items()}
    return dict.fromkeys(methods, 0.0) | distances, snapshot.get_html_str(as_iframe=False).encode()


def _limit(profile: ReferenceProfile, name: str, method: Method, rows: int) -> float | None:
    """Return our limit, or None if the column is compared by other methods. Evidently then uses its own."""
    return profile.limit(name, method, rows) if method in profile.columns[name].limits else None


def _rebuild(profile: ReferenceProfile) -> pd.DataFrame:
    """Build a frame with the profile's distribution in each column. Relations between its columns are meaningless."""
    rows = profile.columns[NUMBERS[0]].rows
    columns: dict[str, Any] = {}
    for name, column in profile.columns.items():
        values, repeats = list(column.counts), list(column.counts.values())
        if name in NUMBERS:
            columns[name] = _spread(np.repeat(np.array(values, dtype=np.float64), repeats), rows)
        else:
            dtype = pd.CategoricalDtype(list(dict.fromkeys([*values, OTHER])))
            columns[name] = pd.Categorical.from_codes(
                _spread(np.repeat(np.arange(len(values)), repeats), rows), dtype=dtype
            )
    return pd.DataFrame(columns)


def _spread(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """Resample ascending values to a number of rows, because all columns of Evidently's table have the same length."""
    return values[np.arange(rows) * len(values) // rows]
