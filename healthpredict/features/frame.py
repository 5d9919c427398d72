"""The encoder for whole frames: fit it, and evaluate it column by column."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.data.schema import codes_of
from healthpredict.features.encoder import Encoder, Value
from healthpredict.features.sources import (
    AGE_MIDPOINT,
    CHANGED,
    COUNTS,
    LEVEL_SOURCES,
    MEDICATION_FIELDS,
    PAIRS,
    PRIOR_VISITS,
    STEADY,
    LevelSource,
)

SMOOTHING = 50.0
"""Number of imaginary encounters with the mean rate that are added to each level. 20, 50 and 100 are equally good within noise. 50
is robust to rare levels."""
MIN_ROWS = 10
"""Levels and pairs with fewer training encounters count as "other", so that the encoder contains nothing about so few people."""
N_FOLDS = 5
_GRID = 1024.0
_SMALLEST_RATE = 1e-6
"""Smallest distance of a rate from 0 and 1. If all of a few readmissions are in one fold, the rate without that fold is 0, and some
model families reject infinite log-odds."""


def encode_frame(encoder: Encoder, encounters: pd.DataFrame) -> NDArray[np.float32]:
    """Encode encounters. Each row equals the result of `RecordEncoder.encode` for that encounter.

    Args:
        encoder: fitted.
        encounters: columns named by `Column.field`; missing is NaN.

    Returns:
        shape (n_encounters, n_features), in the order of `Encoder.feature_names`.
    """
    numbers = _numbers(encounters, encoder.fills)
    levels = {source.name: _Levels.of(encoder, source, encounters[source.column]) for source in encoder.sources}
    # Column-major, because it is filled and (by decision tables) read column by column.
    encoded = np.empty((len(encounters), len(encoder.feature_names)), dtype=np.float32, order="F")
    for i, number in enumerate(numbers):
        encoded[:, i] = number
    tables = ((levels[name], np.asarray(table, dtype=np.float32)) for name, table in encoder.statistics.items())
    for i, (level, table) in enumerate(tables, start=len(numbers)):
        table[level.position].take(level.code, out=encoded[:, i], mode="wrap")
    for i, ((a, b), values) in enumerate(encoder.pair_statistics.items(), start=len(numbers) + len(encoder.statistics)):
        at = levels[a].positions * encoder.size(b) + levels[b].positions
        np.asarray(values, dtype=np.float32).take(at, out=encoded[:, i], mode="clip")
    return encoded


def as_records(encounters: pd.DataFrame) -> list[dict[str, Value]]:
    """Return the rows of a frame as records for `RecordEncoder.encode`: values by column, None if missing."""
    plain = encounters.astype(object).where(encounters.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def fit_encoder(
    encounters: pd.DataFrame, label: NDArray[np.bool_], fold: NDArray[np.intp]
) -> tuple[Encoder, NDArray[np.float32]]:
    """Fit the encoder, and encode its training data so that no row depends on its own outcome.

    The statistics of each training row come from the other folds (cross-fitting, as in scikit-learn's TargetEncoder). A fold holds
    whole patients, so that no outcome of the same patient has an influence either.

    Args:
        encounters: training encounters.
        label: their outcomes, shape (n_encounters,).
        fold: the fold of each encounter, 0 to N_FOLDS - 1, the same for all encounters of a patient, shape (n_encounters,).

    Returns:
        The encoder, and the cross-fitted matrix, shape (n_encounters, n_features), to train a model on.
    """
    fills = {name: float(encounters[name].median()) for name in COUNTS}
    fills["age_years"] = float(np.nanmedian(_age_years(encounters["age"], np.nan)))
    levels = {source.name: _common_levels(source, encounters[source.column]) for source in LEVEL_SOURCES}
    # A column with one level carries no information.
    levels = {name: known for name, known in levels.items() if len(known) > 1}
    pairs = [(a, b) for a, b in PAIRS if a in levels and b in levels]
    bare = Encoder(fills, levels, statistics={}, pair_statistics={})
    at = {source.name: _Levels.of(bare, source, encounters[source.column]).positions for source in bare.sources}

    statistics, pair_statistics, crossed = {}, {}, []
    for name in levels:
        statistics[name], column = _log_odds(at[name], bare.size(name), label, fold)
        crossed.append(column)
    for a, b in pairs:
        cell = at[a] * bare.size(b) + at[b]
        pair_statistics[a, b], column = _log_odds(cell, bare.size(a) * bare.size(b), label, fold)
        crossed.append(column)
    encoder = Encoder(fills, levels, statistics, pair_statistics)
    return encoder, np.column_stack([*_numbers(encounters, fills), *crossed])


def _log_odds(
    cell: NDArray[np.intp], size: int, label: NDArray[np.bool_], fold: NDArray[np.intp]
) -> tuple[tuple[float, ...], NDArray[np.float32]]:
    """Return the statistic of each cell, shape (size,), and for each row that of its cell in the other folds, shape (n,)."""
    rows = np.bincount(fold * size + cell, minlength=N_FOLDS * size).reshape(N_FOLDS, size)
    readmitted = np.bincount(fold * size + cell, weights=label, minlength=N_FOLDS * size).reshape(N_FOLDS, size)
    table = _smoothed(readmitted.sum(axis=0), rows.sum(axis=0))
    without = _smoothed(readmitted.sum(axis=0) - readmitted, rows.sum(axis=0) - rows)
    return tuple(table.tolist()), without[fold, cell].astype(np.float32)


def _smoothed(readmitted: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    mean = readmitted.sum(axis=-1, keepdims=True) / rows.sum(axis=-1, keepdims=True)
    enough = rows >= MIN_ROWS
    rate = (readmitted * enough + SMOOTHING * mean) / (rows * enough + SMOOTHING)
    rate = np.clip(rate, _SMALLEST_RATE, 1 - _SMALLEST_RATE)
    return np.asarray(np.round(np.log(rate / (1 - rate)) * _GRID) / _GRID)


def _common_levels(source: LevelSource, column: pd.Series) -> tuple[str, ...]:
    counts = column.value_counts()
    if source.derive is not None:
        counts = counts.groupby([source.derive(value) for value in counts.index]).sum()
    return tuple(sorted(str(level) for level, count in counts.items() if count >= MIN_ROWS))


@dataclass(frozen=True)
class _Levels:
    """A column as levels of a source.

    Attributes:
        code: of each encounter, shape (n_encounters,); -1 if missing.
        position: of each code in the tables of the source; the last entry is that of code -1.
    """

    code: NDArray[np.integer[Any]]
    position: NDArray[np.intp]

    @classmethod
    def of(cls, encoder: Encoder, source: LevelSource, column: pd.Series) -> Self:
        """Look up the position of each distinct value."""
        code, values = codes_of(column)
        position = [*(encoder.position(source, value) for value in values), encoder.position(source, None)]
        return cls(code, np.array(position))

    @cached_property
    def positions(self) -> NDArray[np.intp]:
        """The position of each encounter in the tables of the source, shape (n_encounters,)."""
        return np.asarray(self.position[self.code])


def _numbers(encounters: pd.DataFrame, fills: dict[str, float]) -> list[NDArray[np.float32]]:
    counts = {
        name: np.nan_to_num(encounters[name].to_numpy(dtype=np.float32, na_value=np.nan), nan=fills[name])
        for name in COUNTS
    }
    visits = sum((counts[name] for name in PRIOR_VISITS), start=np.zeros(len(encounters), dtype=np.float32))
    changed, steady = _medications(encounters)
    return [*counts.values(), _age_years(encounters["age"], fills["age_years"]), visits, changed + steady, changed]


def _age_years(age: pd.Series, fill: float) -> NDArray[np.float32]:
    codes, bands = codes_of(age)
    years = np.array([*(AGE_MIDPOINT.get(band, fill) for band in bands), fill], dtype=np.float32)
    return np.asarray(years[codes])


def _medications(encounters: pd.DataFrame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Count the medications of each encounter with a changed and with a steady dose, each of shape (n_encounters,)."""
    changed = np.zeros(len(encounters), dtype=np.float32)
    steady = np.zeros(len(encounters), dtype=np.float32)
    for name in MEDICATION_FIELDS:
        codes, values = codes_of(encounters[name])
        # The code of a missing value is -1, which indexes the last entry.
        changed += np.array([*(value in CHANGED for value in values), False], dtype=np.float32)[codes]
        steady += np.array([*(value == STEADY for value in values), False], dtype=np.float32)[codes]
    return changed, steady
