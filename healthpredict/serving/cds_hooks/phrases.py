"""Plain English for the values of an encounter, for cards."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from healthpredict.data.contract import DISPOSITION, MEDICATIONS
from healthpredict.features.encoder import Value
from healthpredict.features.sources import MEDICATION_FIELDS

DRUGS: Final = "drugs"
"""Stands for the columns of all diabetes drugs, which share one phrase."""
_PHRASES: Final = {
    "race": "Race: {}",
    "gender": "Sex: {}",
    "age": "Age: {}",
    "weight": "Weight in pounds: {}",
    "admission_type_id": "Admission: {}",
    DISPOSITION: "Discharge: {}",
    "admission_source_id": "Admitted from: {}",
    "time_in_hospital": "Days in hospital: {}",
    "payer_code": "Payer: {}",
    "medical_specialty": "Specialty: {}",
    "num_lab_procedures": "Laboratory tests: {}",
    "num_procedures": "Procedures: {}",
    "num_medications": "Different drugs given: {}",
    "number_outpatient": "Outpatient visits in the year before: {}",
    "number_emergency": "Emergency visits in the year before: {}",
    "number_inpatient": "Inpatient stays in the year before: {}",
    "diag_1": "Principal diagnosis: {}",
    "diag_2": "Second diagnosis: {}",
    "diag_3": "Third diagnosis: {}",
    "number_diagnoses": "Number of diagnoses: {}",
    "max_glu_serum": "Highest glucose, mg/dL: {}",
    "A1Cresult": "Haemoglobin A1c, %: {}",
    "change": "Diabetes drugs changed: {}",
    "diabetesMed": "Diabetes drugs prescribed: {}",
}
_MEANINGS: Final = {
    "max_glu_serum": {"None": "not measured", "Norm": "normal"},
    "A1Cresult": {"None": "not measured", "Norm": "normal"},
    "change": {"No": "no", "Ch": "yes"},
    "diabetesMed": {"No": "no", "Yes": "yes"},
    "admission_type_id": {
        "1": "emergency",
        "2": "urgent",
        "3": "elective",
        "4": "newborn",
        "5": "not known",
        "6": "not known",
        "7": "trauma",
        "8": "not known",
    },
    DISPOSITION: {
        "1": "home",
        "2": "short-term hospital",
        "3": "skilled nursing facility",
        "4": "intermediate care facility",
        "5": "other inpatient care",
        "6": "home with home health service",
        "7": "against medical advice",
        "8": "home with intravenous therapy",
        "9": "admitted as an inpatient here",
        "10": "newborn to another hospital",
        "12": "still a patient",
        "15": "swing bed here",
        "16": "outpatient services elsewhere",
        "17": "outpatient services here",
        "18": "not known",
        "22": "rehabilitation facility",
        "23": "long-term care hospital",
        "24": "nursing facility under Medicaid only",
        "25": "not known",
        "26": "not known",
        "27": "federal health care facility",
        "28": "psychiatric hospital",
        "29": "critical access hospital",
        "30": "another health care institution",
    },
    "admission_source_id": {
        "1": "physician referral",
        "2": "clinic referral",
        "3": "referral of an HMO",
        "4": "another hospital",
        "5": "skilled nursing facility",
        "6": "another health care facility",
        "7": "emergency room",
        "8": "court or law enforcement",
        "9": "not known",
        "10": "critical access hospital",
        "11": "normal delivery",
        "12": "premature delivery",
        "13": "sick baby",
        "14": "birth outside a hospital",
        "15": "not known",
        "17": "not known",
        "18": "another home health agency",
        "19": "readmission to home health care",
        "20": "not known",
        "21": "not known",
        "22": "this hospital",
        "23": "born here",
        "24": "born elsewhere",
        "25": "ambulatory surgery",
        "26": "hospice",
    },
}
"""What values mean: those of `IDS_mapping.csv` of the data set, reworded, and some others. The rest is shown as it is."""


@lru_cache(maxsize=1024)
def columns_of(fields: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns that a card shows for fields: the field itself, or once `DRUGS` for diabetes drugs."""
    return tuple(dict.fromkeys(DRUGS if field in MEDICATION_FIELDS else field for field in fields))


def phrase_of(column: str, record: Mapping[str, Value]) -> str:
    """Return what a record says about a column, such as "Days in hospital: 4".

    Args:
        column: as `columns_of` returns it.
        record: values by `Column.field`.
    """
    if column == DRUGS:
        fields = zip(MEDICATIONS, MEDICATION_FIELDS, strict=True)
        given = [name for name, field in fields if record.get(field) not in (None, "No")]
        return f"Diabetes drugs: {', '.join(given) or 'none'}"
    value = record.get(column)
    shown = "not known" if value is None else _MEANINGS.get(column, {}).get(str(value), str(value))
    if column in ("age", "weight") and shown[0] == "[":
        low, high = shown.strip("[)").split("-")
        shown = f"{low} to {int(high) - 1}"
    return _PHRASES[column].format(shown)


def name_of(column: str) -> str:
    """Return the name of a column."""
    if column == DRUGS:
        return "Changes of diabetes drugs"
    return _PHRASES[column].removesuffix(": {}")
