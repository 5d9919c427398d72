"""The encoder for one encounter. It needs numpy only: the API evaluates it without pandas.

Everything that does not depend on the encounter is looked up beforehand, so that one costs a dozen microseconds. It gives the
same bits as the evaluation of whole frames; a property test holds that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from healthpredict.features.encoder import Encoder, Value
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
"""Columns whose values come first and in this order."""


class _Table(dict[Any, Any]):
    """What belongs to each level, None among them for missing, and to every other one."""

    def __init__(self, known: Mapping[Any, Any], other: Any) -> None:
        super().__init__(known)
        self.other = other

    def __missing__(self, _level: Any) -> Any:
        return self.other


@dataclass(frozen=True)
class RecordEncoder:
    """An encoder, arranged. A *slot* is a place in the list of levels: values first, derived levels after them.

    Attributes:
        columns: whose values are read.
        fills: of the counts, by position.
        ages: midpoint by band.
        derived: slot of the value and function, for each derived level.
        statistics: slot and table of each level source, in the order of the features.
        positions: slot and table for each source that is in a pair.
        pairs: statistics by joint position, place of the first in `positions`, size of the second, place of the second.
    """

    columns: tuple[str, ...]
    fills: tuple[float, ...]
    ages: _Table
    derived: tuple[tuple[int, Callable[[Any], str]], ...]
    statistics: tuple[tuple[int, _Table], ...]
    positions: tuple[tuple[int, _Table], ...]
    pairs: tuple[tuple[tuple[float, ...], int, int, int], ...]

    @classmethod
    def of(cls, encoder: Encoder) -> Self:
        """Arrange an encoder."""
        columns = (*_FIXED, *dict.fromkeys(s.column for s in encoder.sources if s.column not in _FIXED))
        derived = [source for source in encoder.sources if source.derive is not None]

        def slot(source: LevelSource) -> int:
            return len(columns) + derived.index(source) if source.derive else columns.index(source.column)

        sources = {source.name: source for source in encoder.sources}
        paired = list(dict.fromkeys(name for pair in encoder.pair_statistics for name in pair))
        return cls(
            columns=columns,
            fills=tuple(encoder.fills[name] for name in COUNTS),
            ages=_Table(AGE_MIDPOINT, encoder.fills["age_years"]),
            derived=tuple((columns.index(s.column), s.derive) for s in derived if s.derive is not None),
            statistics=tuple(
                (slot(sources[name]), _by_level(encoder, name, values)) for name, values in encoder.statistics.items()
            ),
            positions=tuple(
                (slot(sources[name]), _by_level(encoder, name, range(encoder.size(name)))) for name in paired
            ),
            pairs=tuple(
                (values, paired.index(a), encoder.size(b), paired.index(b))
                for (a, b), values in encoder.pair_statistics.items()
            ),
        )

    def encode(self, record: Mapping[str, Value]) -> NDArray[np.float32]:
        """Encode one encounter.

        Args:
            record: values by `Column.field`; None or an absent field is missing.

        Returns:
            shape (n_features,), in the order of `Encoder.feature_names`.
        """
        levels: list[Any] = [record.get(column) for column in self.columns]
        numbers = [fill if (value := levels[i]) is None else value for i, fill in enumerate(self.fills)]
        doses = levels[_DOSES]
        changed = sum(doses.count(dose) for dose in CHANGED)
        visits = sum(numbers[i] for i in _PRIOR_VISITS_AT)
        numbers += (self.ages[levels[_AGE_AT]], visits, changed + doses.count(STEADY), changed)
        levels += [None if (value := levels[i]) is None else derive(value) for i, derive in self.derived]
        numbers += [table[levels[slot]] for slot, table in self.statistics]
        at = [table[levels[slot]] for slot, table in self.positions]
        numbers += [values[at[a] * size + at[b]] for values, a, size, b in self.pairs]
        return np.array(numbers, dtype=np.float32)


def _by_level(encoder: Encoder, name: str, by_position: Any) -> _Table:
    """A table by level, from values by position."""
    missing, *known, other = by_position
    return _Table({None: missing, **dict(zip(encoder.levels[name], known, strict=True))}, other)
