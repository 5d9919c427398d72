"""Planned readmissions and the exclusions of CMS's measure.

Source: CMS, hospital-wide all-cause unplanned readmission measure with the Planned Readmission Algorithm 4.0 (Yale CORE);
validated in Horwitz et al. 2015 (doi 10.1002/jhm.2416). The algorithm names categories of AHRQ's Clinical Classifications
Software (CCS). The tables here hold the beginnings of the codes of ICD-10-CM, ICD-9-CM, ICD-10-PCS and ICD-9-CM volume 3 in these
categories:

- always planned procedures (CCS 64, 105, 134, 135, 176) and diagnoses (CCS 45, 194, 196, 254): all of them;
- potentially planned procedures: the frequent ones, see `_POTENTIALLY_PLANNED`; the algorithm has about 60 categories;
- acute diagnoses, with which such a procedure is not planned: see `_ACUTE`.

Procedures that are coded in SNOMED CT are recognized for transplantation only. CPT is not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from healthpredict.data.diagnosis import Coding
from healthpredict.fhir.resources import Procedure
from healthpredict.fhir.snomed import SNOMED
from healthpredict.fhir.terminology import Diagnosis

_PCS: Final = "ICD-10-PCS"
_VOLUME_3: Final = "ICD-9-CM volume 3"
_PROCEDURE_SYSTEMS: Final = {
    "http://www.cms.gov/Medicare/Coding/ICD10": _PCS,
    "http://hl7.org/fhir/sid/icd-10-pcs": _PCS,
    "urn:oid:2.16.840.1.113883.6.4": _PCS,
    "http://hl7.org/fhir/sid/icd-9-cm": _VOLUME_3,
    "urn:oid:2.16.840.1.113883.6.104": _VOLUME_3,
    SNOMED: SNOMED,
}

_ALWAYS_PLANNED_PROCEDURES: Final = {
    _PCS: (
        *(
            f"302{site}{approach}{kind}" for site in "34" for approach in ("0", "3") for kind in "GXY"
        ),  # bone marrow, stem cells
        *("0TY0", "0TY1"),  # kidney
        *(
            "02YA",
            "0BYC",
            "0BYD",
            "0BYF",
            "0BYG",
            "0BYH",
            "0BYJ",
            "0BYK",
            "0BYL",
            "0BYM",
            "0FY0",
            "0FYG",
            "0DY6",
            "0DY8",
            "0DYE",
        ),
        *("10D00Z0", "10D00Z1", "10D00Z2"),  # caesarean section
        *("10D07Z3", "10D07Z4", "10D07Z5", "10D07Z6"),  # forceps, vacuum
    ),
    _VOLUME_3: ("410", "556", "335", "336", "3751", "505", "528", "740", "741", "742", "744", "7499", "72"),
    SNOMED: ("70536003", "23719005", "32413006", "18027006", "77465005"),  # kidney, bone marrow, heart, liver, any
}
_ALWAYS_PLANNED_DIAGNOSES: Final = {
    Coding.ICD10: ("Z510", "Z511", "O80", "Z33", "Z34", "Z3A", "Z44", "Z5189"),
    Coding.ICD9: ("V580", "V581", "650", "V22", "V52", "V57"),
}
_POTENTIALLY_PLANNED: Final = {
    _PCS: (
        *("0210", "0211", "0212", "0213"),  # coronary bypass
        *("0270", "0271", "0272", "0273"),  # percutaneous coronary intervention
        *("02RF", "02RG", "02RH", "02RJ"),  # heart valves
        *("03CH", "03CJ", "03CK", "03CL"),  # carotid arteries
        *("0SR9", "0SRB", "0SRC", "0SRD"),  # hip and knee replacement
        *("0RG", "0SG"),  # spinal fusion
        *("0DTE", "0DTF", "0DTG", "0DTH", "0DTK", "0DTL", "0DTM", "0DTN"),  # colon
        *(
            "0FT4",
            "0VT0",
            "0UT9",
            "0HTT",
            "0HTU",
            "0HTV",
            "0TT0",
            "0TT1",
        ),  # gallbladder, prostate, uterus, breast, kidney
    ),
    _VOLUME_3: ("361", "0066", "360", "352", "3812", "8151", "8154", "810", "457", "512", "605", "684", "854", "555"),
}
_ACUTE: Final = {
    Coding.ICD10: (
        *(
            "A40",
            "A41",
            "I21",
            "I22",
            "I26",
            "I46",
            "I47",
            "I48",
            "I49",
            "I50",
            "I60",
            "I61",
            "I63",
            "J12",
            "J13",
            "J14",
            "J15",
        ),
        *(
            "J16",
            "J17",
            "J18",
            "J44",
            "J45",
            "J69",
            "J80",
            "J96",
            "K35",
            "K56",
            "K65",
            "K85",
            "K92",
            "L03",
            "N10",
            "N17",
            "N390",
        ),
        *("E10", "E11", "E86", "E87", "R57", "R65", "S", "T"),
    ),
    Coding.ICD9: (
        *(
            "038",
            "410",
            "415",
            "427",
            "428",
            "430",
            "431",
            "434",
            "480",
            "481",
            "482",
            "483",
            "484",
            "485",
            "486",
            "491",
            "493",
        ),
        *("507", "518", "540", "560", "567", "577", "578", "682", "584", "590", "599", "250", "276", "785", "8", "9"),
    ),
}
_PSYCHIATRIC: Final = {
    Coding.ICD10: ("F2", "F3", "F4", "F5", "F6", "F8", "F9", "R45851", "T1491"),
    Coding.ICD9: (
        *(str(category) for category in (*range(295, 303), *range(306, 320))),
        "V6284",
    ),
}
"""CCS 650 to 652, 654 to 659, 662 and 670: not dementia, delirium and disorders from alcohol and drugs."""
_REHABILITATION: Final = {Coding.ICD10: ("Z44", "Z5189"), Coding.ICD9: ("V52", "V57")}
"""CCS 254."""
_CANCER: Final = {
    Coding.ICD10: ("C", "Z510", "Z511"),
    Coding.ICD9: ("14", "15", "16", "17", "18", "19", "20", "V580", "V581"),
}
"""CCS 11 to 45 of malignant neoplasms and their maintenance treatment."""
_SURGERY: Final = "0"
"""First character of ICD-10-PCS codes of the section medical and surgical."""


def is_planned(principal: Diagnosis | None, procedures: Iterable[Procedure]) -> bool:
    """Return whether a readmission is planned. Args: principal diagnosis and procedures of the later stay."""
    codes = _codes(procedures)
    if _any_begins(codes, _ALWAYS_PLANNED_PROCEDURES) or _begins(principal, _ALWAYS_PLANNED_DIAGNOSES):
        return True
    return _any_begins(codes, _POTENTIALLY_PLANNED) and not _begins(principal, _ACUTE)


def is_psychiatric(principal: Diagnosis | None) -> bool:
    """Return whether a stay is one for a psychiatric disorder."""
    return _begins(principal, _PSYCHIATRIC)


def is_rehabilitation(principal: Diagnosis | None) -> bool:
    """Return whether a stay is one for rehabilitation."""
    return _begins(principal, _REHABILITATION)


def is_medical_cancer(principal: Diagnosis | None, procedures: Iterable[Procedure]) -> bool:
    """Return whether a stay is one for cancer, without an operation that is coded in ICD-10-PCS."""
    if not _begins(principal, _CANCER):
        return False
    return not any(system == _PCS and code.startswith(_SURGERY) for system, code in _codes(procedures))


def _codes(procedures: Iterable[Procedure]) -> list[tuple[str, str]]:
    """Return system and code, without points, of all codings that are known."""
    return [
        (system, code.code.replace(".", "").upper())
        for procedure in procedures
        if procedure.code is not None
        for code in procedure.code.coding
        if code.code and (system := _PROCEDURE_SYSTEMS.get(code.system or ""))
    ]


def _any_begins(codes: list[tuple[str, str]], table: Mapping[str, tuple[str, ...]]) -> bool:
    return any(code.startswith(table.get(system, ())) for system, code in codes)


def _begins(diagnosis: Diagnosis | None, table: Mapping[Coding, tuple[str, ...]]) -> bool:
    return diagnosis is not None and diagnosis.coding is not None and diagnosis.full.startswith(table[diagnosis.coding])
