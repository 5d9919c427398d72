"""The encoder for whole frames: fitting it, and evaluating it column by column."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.features.encoder import Encoder
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
"""Encounters at the mean that each level is mixed with: the best of 20, 50, 100 within noise, and robust to rare levels."""
MIN_ROWS = 10
"""A level, or a pair of levels, seen in fewer training encounters counts as "other": nothing about so few people is kept."""
N_FOLDS = 5
_GRID = 1024.0
_SMALLEST_RATE = 1e-6
"""Rates are kept this far from 0 and 1: few outcomes can all be in one fold, and some families refuse an infinite log-odds."""

Positions = dict[str, NDArray[np.intp]]


def encode_frame(encoder: Encoder, encounters: pd.DataFrame) -> NDArray[np.float32]:
    """Encode encounters; row for row the same as `Encoder.encode_record`.

    Args:
        encoder: fitted.
        encounters: columns named by `Column.field`; missing is NaN.

    Returns:
        shape (n_encounters, n_features), in the order of `Encoder.feature_names`.
    """
    numbers = _numbers(encounters, encoder.fills)
    at = {source.name: _positions(encoder, source, encounters[source.column]) for source in encoder.sources}
    columns = [np.asarray(table, dtype=np.float32)[at[name]] for name, table in encoder.statistics.items()]
    for (a, b), table in encoder.pair_statistics.items():
        columns.append(np.asarray(table, dtype=np.float32)[at[a] * encoder.size(b) + at[b]])
    return np.column_stack([*numbers, *columns])


def fit_encoder(
    encounters: pd.DataFrame, label: NDArray[np.bool_], fold: NDArray[np.intp]
) -> tuple[Encoder, NDArray[np.float32]]:
    """Fit the encoder, and encode its own training data without letting a row see its own outcome.

    The statistics of each training row come from the other folds (cross-fitting, as scikit-learn's TargetEncoder does), and a
    fold holds whole patients: a patient's earlier encounter says nothing about the later one.

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
    # A column with one level says nothing.
    levels = {name: known for name, known in levels.items() if len(known) > 1}
    pairs = [(a, b) for a, b in PAIRS if a in levels and b in levels]
    bare = Encoder(fills, levels, statistics={}, pair_statistics={})
    at = {source.name: _positions(bare, source, encounters[source.column]) for source in bare.sources}

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
    """The statistic of every cell, shape (size,), and that of each row's cell without the row's own fold, shape (n,)."""
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


def _positions(encoder: Encoder, source: LevelSource, column: pd.Series) -> NDArray[np.intp]:
    """Positions by `Encoder.position`, called once for each distinct value, shape (n_encounters,)."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, values = column.cat.codes.to_numpy(), column.cat.categories
    else:
        codes, values = pd.factorize(column)
    # The code of a missing value is -1: the last entry.
    table = np.array([*(encoder.position(source, value) for value in values), encoder.position(source, None)])
    return table[codes]


def _numbers(encounters: pd.DataFrame, fills: dict[str, float]) -> list[NDArray[np.float32]]:
    counts = {
        name: np.nan_to_num(encounters[name].to_numpy(dtype=np.float32, na_value=np.nan), nan=fills[name])
        for name in COUNTS
    }
    visits = sum((counts[name] for name in PRIOR_VISITS), start=np.zeros(len(encounters), dtype=np.float32))
    changed = _doses_among(encounters, CHANGED)
    given = changed + _doses_among(encounters, (STEADY,))
    return [*counts.values(), _age_years(encounters["age"], fills["age_years"]), visits, given, changed]


def _age_years(age: pd.Series, fill: float) -> NDArray[np.float32]:
    return age.map(AGE_MIDPOINT).to_numpy(dtype=np.float32, na_value=fill)


def _doses_among(encounters: pd.DataFrame, doses: tuple[str, ...]) -> NDArray[np.float32]:
    total = np.zeros(len(encounters), dtype=np.float32)
    for name in MEDICATION_FIELDS:
        total += encounters[name].isin(doses).to_numpy()
    return total
