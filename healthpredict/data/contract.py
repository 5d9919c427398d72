"""The data contract: one table of columns.

It is the single source of the Pandera schema, the encoder's inputs, the API's request model and the documentation.
Names and code lists are those of the UCI data set "Diabetes 130-US Hospitals for Years 1999-2008"
(doi 10.24432/C5230J; Strack et al. 2014, doi 10.1155/2014/781670, table 1) and of its `IDS_mapping.csv`.

This module needs only the standard library, so that the API can use it without pandas.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from healthpredict.data.code_lists import accepted_value
from healthpredict.data.diagnosis import DIAGNOSIS_PATTERN, Coding


class Kind(StrEnum):
    """What a column holds."""

    ID = "id"
    """A positive integer that identifies an encounter or a patient. Never a feature."""
    COUNT = "count"
    """A whole number within a range."""
    CATEGORY = "category"
    """A value from a closed list. Any other value breaks the contract."""
    CODE = "code"
    """A value that matches a pattern. A value that training has not seen is encoded as "other"."""
    OUTCOME = "outcome"
    """The outcome of the encounter, which becomes known later. Never a feature."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the contract.

    Attributes:
        name: the name in the data set, as in the raw file.
        kind: see `Kind`.
        description: a phrase for people, shown in the API's documentation.
        allowed: for CATEGORY and OUTCOME, every value in a meaningful order.
        minimum: for COUNT, the smallest plausible value, inclusive.
        maximum: for COUNT, the largest plausible value, inclusive.
        pattern: for CODE, the regular expression that the whole value matches.
        nullable: whether the value may be missing (`?` in the raw file, null in the API).
    """

    name: str
    kind: Kind
    description: str
    allowed: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None
    nullable: bool = False

    @property
    def field(self) -> str:
        """The name as an identifier: `glyburide-metformin` is `glyburide_metformin`; `patient_nbr` is `patient_id`."""
        return RENAMED.get(self.name, self.name).replace("-", "_")

    @property
    def values(self) -> str:
        """A description of the allowed values, for people."""
        match self.kind:
            case Kind.ID:
                return "a positive whole number"
            case Kind.COUNT:
                return f"{self.minimum} to {self.maximum}"
            case Kind.CODE:
                return f"text that matches {self.pattern}"
            case _:
                return ", ".join(self.allowed)

    def is_missing(self, text: str) -> bool:
        """Return whether a text is one of `MISSING_WORDS` and not an allowed value. Surrounding blanks do not matter."""
        text = text.strip()
        return text not in self.allowed and text.casefold() in MISSING_WORDS

    def read(self, text: str) -> str | int | None:
        """Convert a text to a value. `problem` says whether the contract allows the value.

        A code of a list that the column accepts becomes the contract's value; see `data.code_lists`.

        Returns:
            None if it is missing. For ID and COUNT, an int (`007` and `5.0` are whole numbers), or the text itself if it is not a
            whole number, or has a decimal point and is above 2^53. For all others, the text without surrounding blanks; a numeric
            category, such as `admission_type_id`, in its shortest form.
        """
        text = text.strip()
        if self.is_missing(text):
            return None
        number = _WHOLE_NUMBER.fullmatch(text)
        if self.kind in (Kind.ID, Kind.COUNT):
            if number is None or (number["point"] and abs(int(number["digits"])) > _LARGEST_EXACT):
                return text
            return int(number["digits"])
        if self.kind is Kind.CATEGORY and number is not None and self.allowed[0].isdigit():
            return str(int(number["digits"]))
        return accepted_value(self.name, text)

    def problem(self, value: str | int | None) -> str | None:
        """Describe why the contract does not allow a value.

        Args:
            value: None if missing; an int for ID and COUNT, otherwise a string.

        Returns:
            The rest of a sentence that begins with the column's name, or None if the value is allowed.
        """
        if value is None:
            if self.nullable:
                return None
            return (
                f"is missing ({NOT_MEASURED} stands for not measured)" if NOT_MEASURED in self.allowed else "is missing"
            )
        if self.kind in (Kind.ID, Kind.COUNT):
            if isinstance(value, bool) or not isinstance(value, int):
                return "is not a whole number"
            if self.kind is Kind.ID:
                return None if 0 < value <= LARGEST_ID else "is not a positive 64-bit whole number"
            assert self.minimum is not None and self.maximum is not None
            if not self.minimum <= value <= self.maximum:
                return f"is outside {self.minimum} to {self.maximum}"
            return None
        if not isinstance(value, str):
            return "is not text"
        if self.kind is Kind.CODE:
            assert self.pattern is not None
            return None if re.fullmatch(self.pattern, value) else f"does not match {self.pattern}"
        return None if value in self.allowed else f"is not one of {', '.join(self.allowed)}"


_WHOLE_NUMBER: Final = re.compile(r"(?P<digits>-?[0-9]{1,30})(?P<point>\.0*)?")
"""A whole number, perhaps with leading zeros or with `.0`, as databases and spreadsheets write it."""
_LARGEST_EXACT: Final = 2**53
"""Floating-point numbers above it skip whole numbers (IEEE 754)."""
LARGEST_ID: Final = 2**63 - 1
RENAMED: Final = {"patient_nbr": "patient_id"}
NOT_MEASURED: Final = "None"
"""A value of `max_glu_serum` and `A1Cresult`."""
MISSING_WORDS: Final = frozenset({"", "?", "nan", "na", "n/a", "none", "null", "unknown"})
"""What programs write for a missing value, in lower case and without surrounding blanks; see `Column.is_missing`."""
MISSING: Final = "?"
"""How the raw file writes a missing value. `None` in `max_glu_serum` and `A1Cresult` is a value: "not measured"."""

AGE_BANDS: Final = tuple(f"[{low}-{low + 10})" for low in range(0, 100, 10))
_WEIGHT_BANDS: Final = (*(f"[{low}-{low + 25})" for low in range(0, 200, 25)), ">200")
_DOSES: Final = ("No", "Steady", "Up", "Down")
_CODES_OF: Final = {"admission_type": 8, "discharge_disposition": 30, "admission_source": 26}

MEDICATIONS: Final = (
    "metformin",
    "repaglinide",
    "nateglinide",
    "chlorpropamide",
    "glimepiride",
    "acetohexamide",
    "glipizide",
    "glyburide",
    "tolbutamide",
    "pioglitazone",
    "rosiglitazone",
    "acarbose",
    "miglitol",
    "troglitazone",
    "tolazamide",
    "examide",
    "citoglipton",
    "insulin",
    "glyburide-metformin",
    "glipizide-metformin",
    "glimepiride-pioglitazone",
    "metformin-rosiglitazone",
    "metformin-pioglitazone",
)

DISPOSITION: Final = "discharge_disposition_id"
DEATH_OR_HOSPICE: Final = ("11", "13", "14", "19", "20", "21")
"""Values of `DISPOSITION` of encounters that ended in death or hospice: not at risk of readmission."""


def _count(name: str, minimum: int, maximum: int, description: str) -> Column:
    return Column(name, Kind.COUNT, description, minimum=minimum, maximum=maximum)


def _category(name: str, allowed: tuple[str, ...], description: str, *, nullable: bool = False) -> Column:
    return Column(name, Kind.CATEGORY, description, allowed=allowed, nullable=nullable)


def _coded(name: str) -> Column:
    codes = tuple(str(code) for code in range(1, _CODES_OF[name] + 1))
    return _category(f"{name}_id", codes, f"{name.replace('_', ' ').capitalize()} as coded in IDS_mapping.csv")


def _diagnosis(name: str, description: str) -> Column:
    return Column(name, Kind.CODE, f"{description}, ICD-9-CM or ICD-10-CM", pattern=DIAGNOSIS_PATTERN, nullable=True)


COLUMNS: Final[tuple[Column, ...]] = (
    Column("encounter_id", Kind.ID, "The hospital stay"),
    Column("patient_nbr", Kind.ID, "The person"),
    _category("race", ("AfricanAmerican", "Asian", "Caucasian", "Hispanic", "Other"), "Race", nullable=True),
    _category("gender", ("Female", "Male", "Unknown/Invalid"), "Sex"),
    _category("age", AGE_BANDS, "Age in bands of ten years"),
    _category("weight", _WEIGHT_BANDS, "Weight in bands of 25 pounds", nullable=True),
    _coded("admission_type"),
    _coded("discharge_disposition"),
    _coded("admission_source"),
    _count("time_in_hospital", 1, 14, "Days between admission and discharge"),
    Column("payer_code", Kind.CODE, "Who pays, such as MC (Medicare)", pattern=r"[A-Z]{2}", nullable=True),
    Column(
        "medical_specialty",
        Kind.CODE,
        "Specialty of the admitting physician",
        pattern=r"[A-Za-z][A-Za-z/&-]{1,63}",
        nullable=True,
    ),
    _count("num_lab_procedures", 0, 500, "Laboratory tests during the encounter"),
    _count("num_procedures", 0, 50, "Procedures other than laboratory tests during the encounter"),
    _count("num_medications", 0, 250, "Distinct generic drugs administered during the encounter"),
    _count("number_outpatient", 0, 366, "Outpatient visits in the year before the encounter"),
    _count("number_emergency", 0, 366, "Emergency visits in the year before the encounter"),
    _count("number_inpatient", 0, 366, "Inpatient visits in the year before the encounter"),
    _diagnosis("diag_1", "Primary diagnosis"),
    _diagnosis("diag_2", "Second diagnosis"),
    _diagnosis("diag_3", "Third diagnosis"),
    _count("number_diagnoses", 1, 50, "Diagnoses entered for the encounter"),
    _category("max_glu_serum", ("None", "Norm", ">200", ">300"), "Highest serum glucose; None is not measured"),
    _category("A1Cresult", ("None", "Norm", ">7", ">8"), "Haemoglobin A1c; None is not measured"),
    *(_category(name, _DOSES, f"Dosage change of {name} during the encounter") for name in MEDICATIONS),
    _category("change", ("No", "Ch"), "Whether diabetes medication was changed"),
    _category("diabetesMed", ("No", "Yes"), "Whether diabetes medication was prescribed"),
    Column("readmitted", Kind.OUTCOME, "Days to readmission", allowed=("NO", ">30", "<30")),
)
"""The contract, in the order of the raw file."""

RECORD_COLUMNS: Final = tuple(c for c in COLUMNS if c.kind is not Kind.OUTCOME)
"""What is known about an encounter at discharge, in the order in which records and the prediction log hold it."""

FEATURE_COLUMNS: Final = tuple(c for c in COLUMNS if c.kind in (Kind.COUNT, Kind.CATEGORY, Kind.CODE))
"""The inputs of a prediction: every column except identifiers and the outcome."""

DIAGNOSES: Final = ("diag_1", "diag_2", "diag_3")
"""The columns of diagnosis codes. Records, frames and the prediction log hold them in the canonical form of `data.diagnosis`."""

DIAGNOSIS_CODING: Final = _category(
    "diagnosis_coding",
    tuple(Coding),
    "Code system of the diagnoses; only needed for codes that exist in both systems",
    nullable=True,
)
"""An optional column of files and field of requests, which says how the diagnoses are read. It is not part of an encounter."""

INTERVENTION_WORD: Final = r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}"
_ISO_TIME: Final = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)

INTERVENTION_COLUMNS: Final[tuple[Column, ...]] = (
    COLUMNS[0],
    Column(
        "kind",
        Kind.CODE,
        "What was offered, in a word of your own, such as call",
        pattern=INTERVENTION_WORD,
        nullable=True,
    ),
    _category(
        "response",
        ("none", "offered", "accepted", "overridden"),
        "What became of it; none means that nothing was offered, and offered that it is not known yet",
    ),
    Column("reason", Kind.CODE, "Why it was overridden, as a word or a code", pattern=INTERVENTION_WORD, nullable=True),
    Column("acted_at", Kind.CODE, "When, in ISO 8601; without a zone in UTC", pattern=_ISO_TIME, nullable=True),
)
"""The contract of a file of interventions, one row for each kind of intervention in an encounter. `kind` and `acted_at` may be
missing only if `response` is none. No column takes free text, which may name a patient."""

BY_FIELD: Final = {column.field: column for column in COLUMNS}
