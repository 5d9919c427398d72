"""The sources of the features.

A *level source* turns one value of one column into a level, which is a string. The encoder has a statistic of readmission for each
level, and for each pair of levels. A *number* is a count of the contract or is derived from several columns. Frames and single
records are encoded with the same functions, which take one value at a time, so the results agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from healthpredict.data.contract import AGE_BANDS, FEATURE_COLUMNS, MEDICATIONS, Kind
from healthpredict.data.icd9 import diagnosis_group

_MOST_PRIOR_STAYS: Final = 6
"""Inpatient visits in the year before are distinguished up to this number; 1.1 % of encounters have more."""


@dataclass(frozen=True, slots=True)
class LevelSource:
    """A source of levels: one column. `derive` maps a value to its level; without it, the value is the level."""

    name: str
    column: str
    derive: Callable[[Any], str] | None = None


def _category_root(code: str) -> str:
    return code.partition(".")[0]


def _prior_stays(count: int) -> str:
    return str(min(int(count), _MOST_PRIOR_STAYS))


LEVEL_SOURCES: Final = (
    *(LevelSource(c.field, c.field) for c in FEATURE_COLUMNS if c.kind is not Kind.COUNT),
    *(LevelSource(f"diag_{i}.category", f"diag_{i}", _category_root) for i in (1, 2, 3)),
    *(LevelSource(f"diag_{i}.group", f"diag_{i}", diagnosis_group) for i in (1, 2, 3)),
    LevelSource("prior_stays", "number_inpatient", _prior_stays),
)

PAIRS: Final = (
    ("discharge_disposition_id", "age"),
    ("discharge_disposition_id", "diag_1.group"),
    ("discharge_disposition_id", "medical_specialty"),
    ("discharge_disposition_id", "prior_stays"),
    ("admission_type_id", "admission_source_id"),
    ("medical_specialty", "diag_1.group"),
    ("diag_1.group", "diag_2.group"),
    ("diag_1.group", "age"),
    ("payer_code", "age"),
    ("insulin", "A1Cresult"),
)
"""Pairs whose joint statistic adds information: together .002 AUROC and .009 AUPRC (five folds of patients)."""

COUNTS: Final = tuple(c.field for c in FEATURE_COLUMNS if c.kind is Kind.COUNT)
AGE_MIDPOINT: Final = {band: 5.0 + 10.0 * i for i, band in enumerate(AGE_BANDS)}
MEDICATION_FIELDS: Final = tuple(name.replace("-", "_") for name in MEDICATIONS)
STEADY: Final = "Steady"
CHANGED: Final = ("Up", "Down")
DERIVED_NUMBERS: Final = ("age_years", "prior_visits", "medications_given", "medications_changed")
"""Midpoint of the age band; outpatient, emergency and inpatient visits of the year before; diabetes drugs given, changed."""
PRIOR_VISITS: Final = ("number_outpatient", "number_emergency", "number_inpatient")
