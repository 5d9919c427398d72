"""Every rule by which FHIR R4 resources become a record, with its source. The documentation shows this table.

The code lists that the rules name are here, in `drugs`, in `snomed` and in `healthpredict.data.code_lists`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """How a field of the record is read.

    Attributes:
        field: `Column.field` of the contract, or several with a common rule.
        reads: the FHIR elements.
        rule: how the value follows from them.
        unknown: what stands for a value that cannot be known; the result lists the field.
        source: where codes and definitions come from.
    """

    field: str
    reads: str
    rule: str
    unknown: str
    source: str


RULES: Final = (
    Rule(
        "encounter_id",
        "Encounter.identifier, Encounter.id, Encounter.period",
        "The value of an identifier with the system `urn:healthpredict:encounter_id`; otherwise 28 bits of the "
        "minute in which the last encounter of the stay starts, counted from 1900, and 35 bits of the SHA-256 of its "
        "id, so that the order of ids is that of time.",
        "no prediction",
        "this project",
    ),
    Rule(
        "patient_id",
        "Patient.identifier, Patient.id, Patient.link",
        "The value of an identifier with the system `urn:healthpredict:patient_id`; otherwise 63 bits of the SHA-256 "
        "of the id. Linked Patient resources are one person.",
        "no prediction",
        "this project",
    ),
    Rule(
        "race",
        "Patient.extension us-core-race and us-core-ethnicity, ombCategory",
        "Hispanic or Latino ethnicity comes first, as in the data set; several races are Other.",
        "missing",
        "US Core; OMB Statistical Policy Directive 15; `data.code_lists`",
    ),
    Rule(
        "gender",
        "Patient.gender",
        "female and male; other and unknown are Unknown/Invalid.",
        "Unknown/Invalid",
        "FHIR AdministrativeGender",
    ),
    Rule(
        "age",
        "Patient.birthDate, Encounter.period.start",
        "Completed years at admission, in bands of ten. A birth date without day or month counts if every possible "
        "day gives the same band. From 100 years on, the last band.",
        "no prediction",
        "Strack et al. 2014, table 1",
    ),
    Rule(
        "weight",
        "Observation 29463-7, 3141-9 (LOINC)",
        "The last weight during the stay, in bands of 25 pounds; kg and g are converted.",
        "missing",
        "LOINC; UCUM",
    ),
    Rule(
        "admission_type_id",
        "Encounter.priority",
        "The codes of NUBC and of HL7's ActPriority.",
        "6 (NULL)",
        "NUBC form locator 14; HL7 v3 ActPriority",
    ),
    Rule(
        "discharge_disposition_id",
        "Encounter.hospitalization.dischargeDisposition, Patient.deceasedDateTime",
        "The disposition of the last encounter of the stay that has one. A patient who died during the stay: 11 (Expired).",
        "18 (NULL)",
        "NUBC form locator 17; HL7 DischargeDisposition; `data.code_lists`",
    ),
    Rule(
        "admission_source_id",
        "Encounter.hospitalization.admitSource, preceding Encounter of class EMER",
        "The source of the first encounter of the stay. Without one, an emergency encounter that ends at most 24 "
        "hours before the admission, or during it: 7 (Emergency Room).",
        "17 (NULL)",
        "NUBC form locator 15; HL7 AdmitSource; `data.code_lists`",
    ),
    Rule(
        "time_in_hospital",
        "Encounter.period",
        "Day of discharge minus day of admission, at least 1. Stays over 14 days count as 14, the most that the contract allows.",
        "no prediction",
        "CMS: length of stay in midnights; Strack et al. 2014",
    ),
    Rule(
        "payer_code",
        "Coverage.type, .period, .order, .status",
        "The active coverage with the lowest order at admission.",
        "missing",
        "NAHDO Source of Payment Typology (SOPT); `data.code_lists`",
    ),
    Rule(
        "medical_specialty",
        "Encounter.participant, PractitionerRole.specialty",
        "The specialty of the admitter, else the attender, else the primary performer.",
        "missing",
        "NUCC Health Care Provider Taxonomy; HL7 v3 ParticipationType; `data.code_lists`",
    ),
    Rule(
        "num_lab_procedures",
        "Observation of category laboratory",
        "Results of the stay, without panels (hasMember).",
        "0, listed if no laboratory result was delivered at all",
        "HL7 observation-category; US Core Laboratory Result",
    ),
    Rule(
        "num_procedures",
        "Procedure",
        "Procedures of the stay that were not cancelled.",
        "0, listed if no Procedure was delivered at all",
        "US Core Procedure",
    ),
    Rule(
        "num_medications",
        "MedicationAdministration, else MedicationRequest",
        "Distinct drugs administered during the stay; without any administration, distinct drugs ordered.",
        "0, listed if neither was delivered at all",
        "Strack et al. 2014, table 1; RxNorm",
    ),
    Rule(
        "number_outpatient",
        "Encounter of class AMB, VR, HH, FLD, SS, OBSENC",
        "Encounters that start in the 365 days before admission.",
        "0, listed if no other Encounter was delivered",
        "HL7 v3 ActEncounterCode; CMS counts observation as outpatient",
    ),
    Rule(
        "number_emergency",
        "Encounter of class EMER",
        "Encounters that start in the 365 days before admission, without the one that led to it.",
        "0, listed if no other Encounter was delivered",
        "HL7 v3 ActEncounterCode",
    ),
    Rule(
        "number_inpatient",
        "Encounter of class IMP, ACUTE, NONAC",
        "Stays that start in the 365 days before admission; transfers and overlapping encounters are one stay.",
        "0, listed if no other Encounter was delivered",
        "HL7 v3 ActEncounterCode",
    ),
    Rule(
        "diag_1, diag_2, diag_3",
        "Encounter.diagnosis, .reasonCode, .reasonReference; Condition",
        "Encounter.diagnosis by use (discharge, billing and comorbidity before admission, chief complaint and "
        "operation) and rank; a rank without a known code keeps its place. Without it: reasons of the encounter, as "
        "the principal diagnosis is what occasioned the admission; then Conditions recorded for the stay, by date; "
        "then Conditions active during it, the newest first. ICD-10-CM before ICD-9-CM before SNOMED CT, which is "
        "mapped.",
        "missing",
        "UHDDS; HL7 diagnosis-role; US Core Condition; NLM's map SNOMED CT to ICD-10-CM (`fhir.snomed`) or the hospital's own",
    ),
    Rule(
        "number_diagnoses",
        "as diag_1 to diag_3",
        "Entries of Encounter.diagnosis; without it, distinct codes of the other sources.",
        "no prediction",
        "Strack et al. 2014, table 1",
    ),
    Rule(
        "max_glu_serum",
        "Observation 2345-7, 2339-0, 14749-6, 15074-8 (LOINC)",
        "The highest glucose of the stay: over 300, over 200 mg/dL, or Norm. mmol/L are converted (times 18.0156).",
        "None (not measured), listed if a unit is unknown or no laboratory result was delivered at all",
        "LOINC; UCUM; molar mass of glucose",
    ),
    Rule(
        "A1Cresult",
        "Observation 4548-4, 17856-6, 59261-8 (LOINC)",
        "The last A1C of the stay: over 8, over 7 %, or Norm. mmol/mol are converted (0.09148 x + 2.152). Different "
        "results of the same time and status conflict.",
        "None (not measured), listed if a unit is unknown, results conflict, or no laboratory result was delivered at all",
        "LOINC; UCUM; NGSP's master equation",
    ),
    Rule(
        "the 23 drugs",
        "MedicationRequest, MedicationAdministration, Medication",
        "Orders and administrations of the stay, and orders of the 400 days before it that were not stopped by "
        "mistake: RxNorm code, else name. Up, Down or Steady by the first and last daily dose in the same unit.",
        "Steady, listed if doses are not given",
        "RxNorm (`fhir.drugs`); Strack et al. 2014, table 1",
    ),
    Rule(
        "change",
        "as the 23 drugs",
        "Ch if a dose went up or down, or if an antidiabetic of the stay was not among the earlier orders, if there are any.",
        "No",
        "Strack et al. 2014, table 1",
    ),
    Rule(
        "diabetesMed",
        "as the 23 drugs",
        "Yes with any antidiabetic, also one without a column.",
        "No",
        "as the 23 drugs",
    ),
)
"""One row for each field of the record, in the order of the contract."""

INPATIENT: Final = frozenset({"IMP", "ACUTE", "NONAC"})
ACUTE: Final = frozenset({"IMP", "ACUTE"})
OUTPATIENT: Final = frozenset({"AMB", "VR", "HH", "FLD", "SS", "OBSENC"})
EMERGENCY: Final = "EMER"
"""Codes of HL7 v3 ActEncounterCode."""
SKILLED_NURSING: Final = frozenset({"449411000124106"})
"""Encounter.type (SNOMED CT) of inpatient encounters that are not acute care: admission to a skilled nursing facility."""

NOT_HELD: Final = frozenset({"planned", "cancelled", "entered-in-error", "proposed", "draft"})
"""Statuses of encounters that did not take place."""
NOT_DONE: Final = frozenset(
    {"entered-in-error", "not-done", "cancelled", "draft", "unknown", "preparation", "registered"}
)
"""Statuses of observations, procedures, orders and administrations that do not count."""
NOT_CONFIRMED: Final = frozenset({"refuted", "entered-in-error"})
"""Condition.verificationStatus of conditions that do not count."""

MEASURED: Final = {
    **dict.fromkeys(("2345-7", "2339-0", "14749-6", "15074-8"), "max_glu_serum"),
    **dict.fromkeys(("4548-4", "17856-6", "59261-8"), "A1Cresult"),
    **dict.fromkeys(("29463-7", "3141-9"), "weight"),
}
"""LOINC code -> column of the contract."""
LOINC: Final = "http://loinc.org"

PERCENT: Final = frozenset({"%", "%{hb}", "%{hemoglobin}", "% of total hgb", "% of total hb"})
MMOL_PER_MOL: Final = frozenset({"mmol/mol", "mmol/mol{hb}"})
MG_PER_DL: Final = frozenset({"mg/dl"})
MMOL_PER_L: Final = frozenset({"mmol/l"})
POUNDS: Final = {"[lb_av]": 1.0, "lb": 1.0, "lbs": 1.0, "kg": 2.2046226, "g": 0.0022046226}
"""Units in lower case, as UCUM and as people write them."""
GLUCOSE_MG_PER_MMOL: Final = 18.0156
"""Molar mass of glucose, 180.156 g/mol, per decilitre."""
NGSP: Final = (0.09148, 2.152)
"""Slope and intercept from IFCC (mmol/mol) to NGSP (%)."""

PRIORITY: Final = {"EM": "1", "UR": "2", "EL": "3"}
"""HL7 v3 ActPriority -> `admission_type_id`."""
ACT_PRIORITY: Final = "http://terminology.hl7.org/CodeSystem/v3-ActPriority"
FIRST_USES: Final = frozenset({"DD", "billing", "CM"})
"""HL7 diagnosis-role of diagnoses that count first."""
ADMITTERS: Final = ("ADM", "ATND", "PPRF")
"""HL7 v3 ParticipationType, in order of preference."""
PARTICIPATION_TYPE: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"

YEAR_DAYS: Final = 365
EARLIER_ORDERS_DAYS: Final = 400
"""Chronic drugs are re-ordered about once a year."""
ADMISSION_HOURS: Final = 24

LOCAL: Final = "urn:healthpredict:"
"""Beginning of the code systems and identifier systems of `export-fhir`: `urn:healthpredict:payer_code` has the contract's
values."""
