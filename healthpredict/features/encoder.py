"""The fitted encoder, as data. `record` evaluates it for one encounter, `frame` fits it and evaluates it for whole frames.

The features, in order, are the counts, the derived numbers, the statistics of each level source, and those of each pair. A
statistic is the smoothed log-odds of readmission in the training data (Micci-Barreca 2001, doi 10.1145/507533.507538), or the
logarithm of the number of training encounters. It is rounded to a multiple of 1/1024: such numbers, and the thresholds half-way
between them, are exact in 32-bit floats, so a tree takes the same branch in every runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import chain
from typing import Any, Final, Self

from healthpredict.data.icd10 import Icd10Map
from healthpredict.features.sources import (
    COUNTS,
    DERIVED_NUMBERS,
    LEVEL_SOURCES,
    MEDICATION_FIELDS,
    PRIOR_VISITS,
    LevelSource,
)

Table = tuple[tuple[float, ...], ...]
"""Statistics by position: the log-odds, and for some sources the logarithm of the number of rows; shape (1 or 2, n_positions)."""
Value = str | int | float | None
ROWS = "@rows"
"""Suffix of the name of a feature that is the logarithm of a number of training encounters."""
MISSING_LEVEL = 0
"""Position of a missing value in every table of statistics. Known levels follow; the last position is "other" (rare or unseen)."""
_COLUMNS_OF: Final = {
    "age_years": ("age",),
    "prior_visits": PRIOR_VISITS,
    "medications_given": MEDICATION_FIELDS,
    "medications_changed": MEDICATION_FIELDS,
    **{source.name: (source.column,) for source in LEVEL_SOURCES},
}


@cache
def columns_of(feature: str) -> tuple[str, ...]:
    """Return the columns of the contract that a feature is made from."""
    parts = feature.removesuffix(ROWS).split(" x ")
    return tuple(dict.fromkeys(column for part in parts for column in _COLUMNS_OF.get(part, (part,))))


@dataclass(frozen=True)
class Encoder:
    """A fitted encoder.

    Attributes:
        fills: the median of each count and of the age in years, used if the value is missing.
        levels: for each level source, the known levels. Level `levels[name][i]` has position `i + 1`.
        statistics: for each level source its table; n_positions is n_levels + 2.
        pair_statistics: for each pair its table; n_positions is (n_levels_a + 2) * (n_levels_b + 2), row-major.
        icd10: maps a diagnosis of ICD-10-CM to ICD-9-CM, from which the levels of diagnoses come.
    """

    fills: dict[str, float]
    levels: dict[str, tuple[str, ...]]
    statistics: dict[str, Table]
    pair_statistics: dict[tuple[str, str], Table]
    icd10: Icd10Map
    positions: dict[str, dict[str, int]] = field(init=False, repr=False, compare=False)
    sources: tuple[LevelSource, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions = {name: {level: i + 1 for i, level in enumerate(known)} for name, known in self.levels.items()}
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "sources", tuple(s for s in LEVEL_SOURCES if s.name in self.levels))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of the encoded matrix, shape (n_features,)."""
        pairs = {f"{a} x {b}": table for (a, b), table in self.pair_statistics.items()}
        of_tables = ((name, f"{name}{ROWS}")[: len(table)] for name, table in (self.statistics | pairs).items())
        return (*COUNTS, *DERIVED_NUMBERS, *chain.from_iterable(of_tables))

    def size(self, source: str) -> int:
        """Return the number of positions of a level source: its known levels, missing, and other."""
        return len(self.levels[source]) + 2

    def knows(self, diagnosis: str, code: str) -> bool:
        """Return whether a code of a column of diagnoses, or its category, is among the levels."""
        # The third source of a diagnosis, its group, is not counted. Every code has a group.
        of_codes = (source for source in self.sources if source.column == diagnosis and source.counted)
        return any(source.level(code, self.icd10) in self.positions[source.name] for source in of_codes)

    def position(self, source: LevelSource, value: Value) -> int:
        """Return the position of a value in the tables of its source. A missing value is None."""
        if value is None:
            return MISSING_LEVEL
        known = self.positions[source.name]
        return known.get(source.level(value, self.icd10), len(known) + 1)

    def to_json(self) -> dict[str, Any]:
        """Return the encoder without `icd10` as plain data, for `from_json`."""
        return {
            "fills": self.fills,
            "levels": self.levels,
            "statistics": self.statistics,
            "pair_statistics": [{"of": pair, "values": values} for pair, values in self.pair_statistics.items()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], icd10: Icd10Map) -> Self:
        """Rebuild an encoder from `to_json`.

        Raises:
            KeyError: a part is absent.
        """
        return cls(
            fills=dict(data["fills"]),
            levels={name: tuple(known) for name, known in data["levels"].items()},
            statistics={name: _table(values) for name, values in data["statistics"].items()},
            pair_statistics={(p["of"][0], p["of"][1]): _table(p["values"]) for p in data["pair_statistics"]},
            icd10=icd10,
        )


def _table(data: Any) -> Table:
    return tuple(tuple(values) for values in data)
