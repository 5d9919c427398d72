"""Shifts to plant into batches without drift."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

STRENGTHS = (0.1, 0.25, 0.5)
"""Share of the encounters that a shift changes, or what corresponds to it."""
Shift = Callable[[pd.DataFrame, float, np.random.Generator], pd.DataFrame]


def _some(batch: pd.DataFrame, strength: float, rng: np.random.Generator) -> np.ndarray:
    return rng.random(len(batch)) < strength


def _add(column: str, amount: int, highest: int) -> Shift:
    def shift(batch: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
        moved = (batch[column] + amount).clip(upper=highest)
        return batch.assign(**{column: batch[column].where(~_some(batch, strength, rng), moved)})

    return shift


def _become(column: str, value: str | None) -> Shift:
    def shift(batch: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
        changed = batch[column].mask(_some(batch, strength, rng), value)
        return batch.assign(**{column: changed.astype(batch[column].dtype)})

    return shift


def _scale(column: str, factor: float, highest: int) -> Shift:
    def shift(batch: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
        scaled = (batch[column] * factor).round().clip(upper=highest).astype(batch[column].dtype)
        return batch.assign(**{column: batch[column].where(~_some(batch, strength, rng), scaled)})

    return shift


def _more_of(chosen: Callable[[pd.DataFrame], pd.Series]) -> Shift:
    """Replace encounters by copies of others that have something in common: a shift of many columns at once."""

    def shift(batch: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
        source = np.flatnonzero(chosen(batch))
        replaced = _some(batch, strength / 2, rng)
        rows = np.where(replaced, rng.choice(source, len(batch)), np.arange(len(batch)))
        return batch.iloc[rows].reset_index(drop=True)

    return shift


def _permute(*columns: str) -> Shift:
    """Exchange columns between encounters: every column on its own stays as it is, what they say together does not."""

    def shift(batch: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
        rows = np.flatnonzero(_some(batch, min(1.0, 2 * strength), rng))
        other = rng.permutation(rows)
        changed = batch.copy()
        for column in columns:
            values = changed[column].array.copy()
            values[rows] = batch[column].array[other]
            changed[column] = values
        return changed

    return shift


SHIFTS: dict[str, Shift] = {
    "more inpatient visits": _add("number_inpatient", 1, 366),
    "longer stays": _add("time_in_hospital", 2, 14),
    "laboratory tests in other units": _scale("num_lab_procedures", 1.5, 500),
    "more drugs": _scale("num_medications", 1.3, 250),
    "payer not entered": _become("payer_code", None),
    "new payer": _become("payer_code", "ZZ"),
    "specialty not entered": _become("medical_specialty", None),
    "A1C measured": _become("A1Cresult", ">8"),
    "insulin stopped": _become("insulin", "No"),
    "other diagnosis": _become("diag_1", "428"),
    "older patients": _more_of(lambda batch: batch["age"].isin(["[80-90)", "[90-100)"])),
    "sent to nursing homes": _more_of(lambda batch: batch["discharge_disposition_id"] == "3"),
    "joint: age and visits": _permute("age", "number_inpatient"),
    "joint: disposition and diagnosis": _permute("discharge_disposition_id", "diag_1"),
    "joint: days and drugs": _permute("time_in_hospital", "num_medications", "num_lab_procedures"),
}
