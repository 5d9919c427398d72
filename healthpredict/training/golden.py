"""Golden rows: synthetic encounters whose risks every copy of a bundle must reproduce."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from healthpredict.data.contract import DIAGNOSES, FEATURE_COLUMNS, Column, Kind
from healthpredict.data.diagnosis import unambiguous

_UNSEEN = {"payer_code": "ZZ", "medical_specialty": "Unseen", "diag_1": "V99", "diag_2": "V99", "diag_3": "E999"}
"""Codes whose categories do not occur in the data set. Any unused numeric category could occur in a later batch."""
_COMMON = 10
"""Values rarer than this in the training data are not used: a rare one could identify a person."""


def golden_encounters(training: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    """Generate encounters that match the contract.

    Each column is drawn independently from the common values of the training data, so no row belongs to a patient. The first rows
    are edge cases: all nullable values missing, all codes unseen, all counts at their minimum, all at their maximum.

    Args:
        training: encounters, shape (n, ...).
        n_rows: number of rows, at least 8.
        seed: of the draws.

    Returns:
        shape (n_rows, n_feature_columns), dtypes as in `training`.
    """
    rng = np.random.default_rng(seed)
    columns = {}
    for column in FEATURE_COLUMNS:
        values = _drawn(training[column.field], column, n_rows, rng)
        if column.nullable:
            values[0] = None
            values[4::7] = None
        if column.field in _UNSEEN:
            values[1] = _UNSEEN[column.field]
        if column.kind is Kind.COUNT:
            values[2], values[3] = column.minimum, column.maximum
        if column.field in DIAGNOSES:  # rollouts send these rows to the API
            values = np.array([code if code is None else unambiguous(code) for code in values], dtype=object)
        columns[column.field] = pd.Series(values).astype(training[column.field].dtype)
    return pd.DataFrame(columns)


def _drawn(series: pd.Series, column: Column, n_rows: int, rng: np.random.Generator) -> Any:
    counts = series.value_counts()
    common = [value for value, count in counts.items() if count >= _COMMON]
    # A column has no common value only in a tiny training set.
    fallback = column.allowed[0] if column.allowed else column.minimum
    return np.array(common or [fallback], dtype=object)[rng.integers(0, max(len(common), 1), n_rows)]
