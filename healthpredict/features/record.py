"""The encoder for one encounter. It needs only numpy, so the API can encode without pandas.

Everything that does not depend on the encounter is looked up beforehand, so encoding one takes a dozen microseconds. The result has
the same bits as for whole frames, which a property test checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from healthpredict.data.contract import DIAGNOSES
from healthpredict.features.encoder import Encoder, Table, Value
from healthpredict.features.sources import (
    AGE_MIDPOINT,
    CHANGED,
    COUNTS,
    MEDICATION_FIELDS,
    PRIOR_VISITS,
    STEADY,
    LevelSource,
)

_PRIOR_VISITS_AT = tuple(COUNTS.index(name) for name in PRIOR_VISITS)
_AGE_AT = len(COUNTS)
_DOSES = slice(_AGE_AT + 1, _AGE_AT + 1 + len(MEDICATION_FIELDS))
_FIXED = (*COUNTS, "age", *MEDICATION_FIELDS)
"""The columns with the first slots, in this order."""
_KNOWN_CODES: Final = 65536
"""Diagnosis codes whose mapping to ICD-9-CM is kept, so that most are mapped once."""


class _Lookup(dict[Any, Any]):
    """A value for each known level (None is the level of a missing value), and one for all others."""

    def __init__(self, known: Mapping[Any, Any], other: Any) -> None:
        super().__init__(known)
        self.other = other

    def __missing__(self, _level: Any) -> Any:
        return self.other


@dataclass(frozen=True)
class RecordEncoder:
    """An encoder with its lookups prepared. A *slot* is an index in the list of levels: values first, then derived levels.

    Attributes:
        columns: fields of a record that are read, in the order of their slots.
        fills: of the counts, in the order of `COUNTS`.
        ages: age band -> midpoint in years.
        diagnoses: the slots of diagnoses.
        icd9: maps a diagnosis to ICD-9-CM, see `Icd10Map`.
        derived: for each derived level, the slot of its value and the function that derives it.
        statistics: for each level source, its slot, and its statistics by level, in the order of the features.
        positions: for each source that is in a pair, its slot, and its position by level.
        pairs: for each pair, its statistics by joint position, the index of the first source in `positions`, the size of the second
            source, and the index of the second source in `positions`.
    """

    columns: tuple[str, ...]
    fills: tuple[float, ...]
    ages: _Lookup
    diagnoses: tuple[int, ...]
    icd9: Callable[[Any], str]
    derived: tuple[tuple[int, Callable[[Any], str]], ...]
    statistics: tuple[tuple[int, _Lookup], ...]
    positions: tuple[tuple[int, _Lookup], ...]
    pairs: tuple[tuple[tuple[tuple[float, ...], ...], int, int, int], ...]

    @classmethod
    def of(cls, encoder: Encoder) -> Self:
        """Prepare the lookups of an encoder."""
        columns = (*_FIXED, *dict.fromkeys(s.column for s in encoder.sources if s.column not in _FIXED))
        derived = [source for source in encoder.sources if source.derive is not None]

        def slot(source: LevelSource) -> int:
            return len(columns) + derived.index(source) if source.derive else columns.index(source.column)

        sources = {source.name: source for source in encoder.sources}
        paired = list(dict.fromkeys(name for pair in encoder.pair_statistics for name in pair))
        return cls(
            columns=columns,
            fills=tuple(encoder.fills[name] for name in COUNTS),
            ages=_Lookup(AGE_MIDPOINT, encoder.fills["age_years"]),
            diagnoses=tuple(columns.index(column) for column in columns if column in DIAGNOSES),
            icd9=lru_cache(_KNOWN_CODES)(encoder.icd10.icd9),
            derived=tuple((columns.index(s.column), s.derive) for s in derived if s.derive is not None),
            statistics=tuple(
                (slot(sources[name]), _by_level(encoder, name, _by_position(table)))
                for name, table in encoder.statistics.items()
            ),
            positions=tuple(
                (slot(sources[name]), _by_level(encoder, name, range(encoder.size(name)))) for name in paired
            ),
            pairs=tuple(
                (_by_position(table), paired.index(a), encoder.size(b), paired.index(b))
                for (a, b), table in encoder.pair_statistics.items()
            ),
        )

    def encode(self, record: Mapping[str, Value]) -> NDArray[np.float32]:
        """Encode one encounter.

        Args:
            record: values by `Column.field`. None and an absent field both mean missing.

        Returns:
            shape (n_features,), in the order of `Encoder.feature_names`.
        """
        levels: list[Any] = [record.get(column) for column in self.columns]
        numbers = [fill if (value := levels[i]) is None else value for i, fill in enumerate(self.fills)]
        for i in self.diagnoses:
            if (code := levels[i]) is not None:
                levels[i] = self.icd9(code)
        doses = levels[_DOSES]
        changed = sum(doses.count(dose) for dose in CHANGED)
        visits = sum(numbers[i] for i in _PRIOR_VISITS_AT)
        numbers += (self.ages[levels[_AGE_AT]], visits, changed + doses.count(STEADY), changed)
        levels += [None if (value := levels[i]) is None else derive(value) for i, derive in self.derived]
        for slot, table in self.statistics:
            numbers += table[levels[slot]]
        at = [table[levels[slot]] for slot, table in self.positions]
        for rows, a, size, b in self.pairs:
            numbers += rows[at[a] * size + at[b]]
        return np.array(numbers, dtype=np.float32)


def _by_position(table: Table) -> tuple[tuple[float, ...], ...]:
    """Return the statistics of each position."""
    return tuple(zip(*table, strict=True))


def _by_level(encoder: Encoder, name: str, by_position: Any) -> _Lookup:
    missing, *known, other = by_position
    return _Lookup({None: missing, **dict(zip(encoder.levels[name], known, strict=True))}, other)
