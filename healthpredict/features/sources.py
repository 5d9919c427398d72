"""The sources of the features.

A *level source* turns one value of one column into a level, which is a string. The encoder has statistics of each level, and of
each pair of levels. A *number* is a count of the contract or is derived from several columns. Frames and single records are encoded
with the same functions, which take one value at a time, so the results agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from healthpredict.data.contract import AGE_BANDS, DIAGNOSES, FEATURE_COLUMNS, MEDICATIONS, Kind
from healthpredict.data.icd9 import diagnosis_group
from healthpredict.data.icd10 import Icd10Map


@dataclass(frozen=True, slots=True)
class LevelSource:
    """A source of levels: one column.

    Attributes:
        name: of the source, and of its features.
        column: of the contract.
        derive: maps a value to its level; without it, the value is the level. For a diagnosis, the value is its code of ICD-9-CM.
        counted: whether the number of training encounters of each level is a feature as well; only useful with many levels.
    """

    name: str
    column: str
    derive: Callable[[Any], str] | None = None
    counted: bool = False

    def level(self, value: Any, icd10: Icd10Map) -> str:
        """Return the level of a value that is not missing."""
        if self.column in DIAGNOSES:
            value = icd10.icd9(value)
        return value if self.derive is None else self.derive(value)


def _icd9_category(code: str) -> str:
    return code.partition(".")[0]


def _at_most(most: int, count: int) -> str:
    return str(min(int(count), most))


LEVEL_SOURCES: Final = (
    *(LevelSource(c.field, c.field, counted=c.kind is Kind.CODE) for c in FEATURE_COLUMNS if c.kind is not Kind.COUNT),
    *(LevelSource(f"diag_{i}.category", f"diag_{i}", _icd9_category, counted=True) for i in (1, 2, 3)),
    *(LevelSource(f"diag_{i}.group", f"diag_{i}", diagnosis_group) for i in (1, 2, 3)),
    # Counts as levels. At most 1 % of encounters have a larger count.
    LevelSource("prior_stays", "number_inpatient", partial(_at_most, 6)),
    LevelSource("prior_emergencies", "number_emergency", partial(_at_most, 4)),
    LevelSource("days", "time_in_hospital", partial(_at_most, 14)),
    LevelSource("diagnoses", "number_diagnoses", partial(_at_most, 9)),
)
"""Bundles store the names, and statistics of the levels. Sources can be added. Whoever changes or removes one, or changes
`DERIVED_NUMBERS`, raises `FORMAT` in `bundle.manifest`, so that older bundles are refused."""

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
    ("prior_stays", "diag_1.group"),
    ("prior_stays", "age"),
    ("prior_stays", "payer_code"),
    ("prior_stays", "medical_specialty"),
    ("discharge_disposition_id", "payer_code"),
    ("discharge_disposition_id", "admission_source_id"),
    ("discharge_disposition_id", "diag_2.group"),
    ("medical_specialty", "age"),
    ("payer_code", "medical_specialty"),
    ("diag_1.group", "diag_3.group"),
    ("diag_2.group", "diag_3.group"),
    ("diag_1.group", "payer_code"),
    ("discharge_disposition_id", "days"),
    ("discharge_disposition_id", "admission_type_id"),
    ("prior_stays", "prior_emergencies"),
    ("prior_stays", "days"),
    ("prior_stays", "diagnoses"),
    ("diagnoses", "age"),
    ("insulin", "diag_1.group"),
    ("race", "age"),
    ("diag_1.group", "days"),
    ("diag_1.group", "diagnoses"),
    ("diag_1.category", "prior_stays"),
    ("diag_1.category", "discharge_disposition_id"),
    ("medical_specialty", "days"),
    ("payer_code", "admission_type_id"),
    ("admission_source_id", "age"),
    ("age", "days"),
    ("insulin", "age"),
)
"""Pairs whose joint statistics help. The first ten add .002 AUROC and .009 AUPRC (five folds of patients). The others,
together with `counted` and the counts as levels, add .003 and .005, and .002 and .002 on later batches. These added nothing: a
second smoothing, ratios, flags of diagnoses, a table of diagnoses in any position."""

COUNTS: Final = tuple(c.field for c in FEATURE_COLUMNS if c.kind is Kind.COUNT)
AGE_MIDPOINT: Final = {band: 5.0 + 10.0 * i for i, band in enumerate(AGE_BANDS)}
MEDICATION_FIELDS: Final = tuple(name.replace("-", "_") for name in MEDICATIONS)
STEADY: Final = "Steady"
CHANGED: Final = ("Up", "Down")
"""Values of a medication that was given: with a steady dose, with a changed dose."""
DERIVED_NUMBERS: Final = ("age_years", "prior_visits", "medications_given", "medications_changed")
"""Midpoint of the age band; outpatient, emergency and inpatient visits of the year before; diabetes drugs given, changed."""
PRIOR_VISITS: Final = ("number_outpatient", "number_emergency", "number_inpatient")
