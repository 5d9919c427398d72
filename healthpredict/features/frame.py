"""The encoder for whole frames: fit it, and evaluate it column by column."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.data.contract import DIAGNOSES
from healthpredict.data.equivalence import icd10_map
from healthpredict.data.schema import codes_of
from healthpredict.features.encoder import Encoder, Table, Value
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

SMOOTHING = 20.0
"""Number of imaginary encounters with the mean rate that are added to each level or pair. Compared with 50, it gains .001 to .002
AUPRC."""
MIN_ROWS = 10
"""Levels and pairs with fewer training encounters count as "other", so that the encoder contains nothing about so few people."""
N_FOLDS = 5
_GRID = 1024.0
"""Statistics are multiples of 1 / _GRID; see `features.encoder`."""
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
    columns = iter(range(len(numbers), encoded.shape[1]))
    for name, table in encoder.statistics.items():
        level = levels[name]
        for values in table:
            of_code = np.asarray(values, dtype=np.float32)[level.position_of_code]
            # Code -1 wraps to the last entry, that of a missing value. The default mode would also buffer `out`.
            of_code.take(level.code, out=encoded[:, next(columns)], mode="wrap")
    for (a, b), table in encoder.pair_statistics.items():
        at = levels[a].positions * encoder.size(b) + levels[b].positions
        for values in table:
            np.asarray(values, dtype=np.float32).take(at, out=encoded[:, next(columns)], mode="clip")
    return encoded


def unknown_diagnoses(encoder: Encoder, encounters: pd.DataFrame) -> dict[str, int]:
    """Count the diagnoses of which the encoder knows neither the code nor its category. At most their group has an effect.

    Args:
        encoder: fitted.
        encounters: as for `encode_frame`.

    Returns:
        Column -> number of encounters. A missing diagnosis does not count.
    """
    counts = {}
    for column in DIAGNOSES:
        code, values = codes_of(encounters[column])
        # Code -1, a missing value, indexes the last entry.
        unknown = [*(not encoder.knows(column, value) for value in values), False]
        counts[column] = int(np.array(unknown)[code].sum())
    return counts


def as_records(encounters: pd.DataFrame) -> list[dict[str, Value]]:
    """Return the rows of a frame as records for `RecordEncoder.encode`: values by column, None if missing."""
    plain = encounters.astype(object).where(encounters.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def fit_encoder(
    encounters: pd.DataFrame, label: NDArray[np.bool_], folds: NDArray[np.intp]
) -> tuple[Encoder, NDArray[np.float32]]:
    """Fit the encoder, and encode its training data so that no row depends on its own outcome.

    The statistics of each training row come from the other folds (cross-fitting, as in scikit-learn's TargetEncoder). A fold holds
    whole patients, so that no outcome of the same patient has an influence either. With several divisions into folds, the training
    data are encoded once with each, so that a model relies less on the noise of one of them.

    Args:
        encounters: training encounters.
        label: their outcomes, shape (n_encounters,).
        folds: the fold of each encounter, 0 to N_FOLDS - 1, the same for all encounters of a patient: one row for each division,
            shape (n_divisions, n_encounters), or of a single division, shape (n_encounters,).

    Returns:
        The encoder, and the cross-fitted matrix, shape (n_divisions * n_encounters, n_features), to train a model on: all
        encounters with the first division, then all with the second, and so on.
    """
    folds = np.atleast_2d(folds)
    fills = {name: float(encounters[name].median()) for name in COUNTS}
    fills["age_years"] = float(np.nanmedian(_age_years(encounters["age"], np.nan)))
    levels = {source.name: _common_levels(source, encounters[source.column]) for source in LEVEL_SOURCES}
    # A column with one level carries no information.
    levels = {name: known for name, known in levels.items() if len(known) > 1}
    bare = Encoder(fills, levels, statistics={}, pair_statistics={}, icd10=icd10_map())
    at = {source.name: _Levels.of(bare, source, encounters[source.column]).positions for source in bare.sources}
    pairs = {(a, b): at[a] * bare.size(b) + at[b] for a, b in PAIRS if a in levels and b in levels}

    of_levels = [
        _Statistics.of(at[source.name], bare.size(source.name), label, folds, counted=source.counted)
        for source in bare.sources
    ]
    of_pairs = [
        _Statistics.of(cell, bare.size(a) * bare.size(b), label, folds, counted=True) for (a, b), cell in pairs.items()
    ]
    encoder = Encoder(
        fills,
        levels,
        statistics={source.name: found.table for source, found in zip(bare.sources, of_levels, strict=True)},
        pair_statistics={pair: found.table for pair, found in zip(pairs, of_pairs, strict=True)},
        icd10=bare.icd10,
    )
    numbers = [np.tile(number, len(folds)) for number in _numbers(encounters, fills)]
    crossed = (column for found in (*of_levels, *of_pairs) for column in found.crossed)
    return encoder, np.column_stack([*numbers, *crossed])


@dataclass(frozen=True)
class _Statistics:
    """The statistics of a source or a pair.

    Attributes:
        table: for the encoder.
        crossed: the same for each training row, from other folds, shape (n_divisions * n_encounters,) each.
    """

    table: Table
    crossed: list[NDArray[np.float32]]

    @classmethod
    def of(
        cls, position: NDArray[np.intp], size: int, label: NDArray[np.bool_], folds: NDArray[np.intp], *, counted: bool
    ) -> Self:
        """Compute them from the position of each encounter, shape (n_encounters,), in tables of this size."""
        # One cell for each division, fold and position.
        cell = ((folds + N_FOLDS * np.arange(len(folds))[:, None]) * size + position).ravel()
        shape = (len(folds), N_FOLDS, size)
        rows_of_fold = np.bincount(cell, minlength=np.prod(shape)).reshape(shape)
        readmitted_of_fold = np.bincount(cell, np.tile(label, len(folds)), minlength=np.prod(shape)).reshape(shape)
        rows, readmitted = rows_of_fold[0].sum(axis=0), readmitted_of_fold[0].sum(axis=0)

        table = [_log_odds(readmitted, rows)]
        of_other_folds = _log_odds(readmitted - readmitted_of_fold, rows - rows_of_fold)
        crossed = [of_other_folds.astype(np.float32).ravel()[cell]]
        if counted:
            table.append(_on_grid(np.log(np.where(rows >= MIN_ROWS, rows, 1))))
            crossed.append(np.tile(table[1].astype(np.float32)[position], len(folds)))
        return cls(tuple(tuple(values.tolist()) for values in table), crossed)


def _log_odds(readmitted: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the smoothed log-odds of each position (last axis)."""
    mean = readmitted.sum(axis=-1, keepdims=True) / rows.sum(axis=-1, keepdims=True)
    enough = rows >= MIN_ROWS
    rate = (readmitted * enough + SMOOTHING * mean) / (rows * enough + SMOOTHING)
    rate = np.clip(rate, _SMALLEST_RATE, 1 - _SMALLEST_RATE)
    return _on_grid(np.log(rate / (1 - rate)))


def _on_grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.round(values * _GRID) / _GRID)


def _common_levels(source: LevelSource, column: pd.Series) -> tuple[str, ...]:
    counts = column.value_counts()
    by_level = counts.groupby([source.level(value, icd10_map()) for value in counts.index]).sum()
    return tuple(sorted(str(level) for level, count in by_level.items() if count >= MIN_ROWS))


@dataclass(frozen=True)
class _Levels:
    """A column as levels of a source.

    Attributes:
        code: of each encounter, shape (n_encounters,); -1 if missing.
        position_of_code: the position of each code in the tables of the source; the last entry is that of code -1.
    """

    code: NDArray[np.integer[Any]]
    position_of_code: NDArray[np.intp]

    @classmethod
    def of(cls, encoder: Encoder, source: LevelSource, column: pd.Series) -> Self:
        """Look up the position of each distinct value."""
        code, values = codes_of(column)
        position_of_code = [*(encoder.position(source, value) for value in values), encoder.position(source, None)]
        return cls(code, np.array(position_of_code))

    @cached_property
    def positions(self) -> NDArray[np.intp]:
        """The position of each encounter in the tables of the source, shape (n_encounters,)."""
        return np.asarray(self.position_of_code[self.code])


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
