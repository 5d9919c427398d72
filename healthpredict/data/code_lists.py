"""Code lists of today, mapped to the values of the contract, which are those of 1999 to 2008.

A list is accepted where its column is read if none of its codes means something else in the data set. Discharge status 21, for
instance, is a transfer to law enforcement today and a death in the data set, so those codes must be mapped with `value_of`.

The tables hold codes and our own mapping; the texts of the lists belong to their publishers. This module imports only the standard
library, so that the API can use it without pandas.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class CodeList:
    """One code list, for one column of the contract.

    Attributes:
        column: name in the contract.
        systems: URIs by which FHIR names the list.
        source: publisher, document and version.
        values: code -> value of the contract, or None if the code says that nothing is known.
        hierarchical: whether a code that is not in `values` has the value of its longest beginning.
        accepted: whether the column accepts these codes.
    """

    column: str
    systems: tuple[str, ...]
    source: str
    values: Mapping[str, str | None]
    hierarchical: bool = False
    accepted: bool = False

    def contains(self, code: str) -> bool:
        """Return whether the list has a value, perhaps None, for a code."""
        return self._entry(code) is not None

    def value(self, code: str) -> str | None:
        """Return the contract's value. Raises: KeyError, the list does not contain the code."""
        entry = self._entry(code)
        if entry is None:
            raise KeyError(code)
        return self.values[entry]

    def _entry(self, code: str) -> str | None:
        if code in self.values:
            return code
        if not (self.hierarchical and code.isascii() and code.isdigit() and len(code) <= _LONGEST_SOPT):
            return None
        return next((code[:end] for end in range(len(code) - 1, 0, -1) if code[:end] in self.values), None)


_LONGEST_SOPT: Final = 5
LAST_UNPLANNED: Final = 80
"""NUBC's 81 to 95 repeat these codes, in order, for discharges with a planned readmission."""
_REPEATED: Final = ("01", "02", "03", "04", "05", "06", "21", "43", "61", "62", "63", "64", "65", "66", "70")
_NOT_MAPPED: Final = "25"
_DISCHARGE: Final = {
    "01": "1",
    "02": "2",
    "03": "3",
    "04": "4",
    "05": "5",
    "06": "6",
    "07": "7",
    "08": "8",
    "09": "9",
    "20": "11",
    "21": _NOT_MAPPED,  # law enforcement
    "30": "12",
    "40": "19",
    "41": "20",
    "42": "21",
    "43": "27",
    "50": "13",
    "51": "14",
    "61": "15",
    "62": "22",
    "63": "23",
    "64": "24",
    "65": "28",
    "66": "29",
    "69": "30",  # an alternative care site in a disaster
    "70": "30",
    # Discontinued, but still in old data.
    "71": "16",
    "72": "17",
}

CODE_LISTS: Final = (
    CodeList(
        "discharge_disposition_id",
        ("https://www.nubc.org/CodeSystem/PatDischargeStatus", "http://www.nubc.org/patient-discharge"),
        "NUBC, UB-04 Data Specifications Manual, form locator 17, patient discharge status, as in the list of CMS's contractor "
        "Noridian (article 10529); 69 from 2013-10-01; 71 and 72 as in ResDAC's table",
        _DISCHARGE | {str(LAST_UNPLANNED + i): _DISCHARGE[code] for i, code in enumerate(_REPEATED, start=1)},
    ),
    CodeList(
        "discharge_disposition_id",
        ("http://terminology.hl7.org/CodeSystem/discharge-disposition",),
        "HL7 Terminology, DischargeDisposition",
        {
            "home": "1",
            "alt-home": "1",
            "other-hcf": "30",
            "hosp": "14",  # hospice, at home or in a facility: neither is at risk of readmission
            "long": "23",
            "aadvice": "7",
            "exp": "11",
            "psy": "28",
            "rehab": "22",
            "snf": "3",
            "oth": _NOT_MAPPED,
        },
        accepted=True,
    ),
    CodeList(
        "admission_source_id",
        ("https://www.nubc.org/CodeSystem/PointOfOrigin", "https://www.nubc.org/CodeSystem/PointOfOriginNonnewborn"),
        "NUBC, UB-04 Data Specifications Manual, form locator 15, point of origin for admission or visit, with the codes that were "
        "discontinued in 2007 (A) and 2010 (7, B, C)",
        {
            **{code: code for code in "12345689"},
            "7": "7",  # emergency room: since 2010, such admissions have another code, mostly 1
            "A": "10",
            "B": "18",
            "C": "19",
            "D": "22",
            "E": "25",
            "F": "26",
            "G": "6",  # an alternative care site in a disaster
        },
        accepted=True,
    ),
    CodeList(
        "admission_source_id",
        ("https://www.nubc.org/CodeSystem/PointOfOriginNewborn",),
        "NUBC, UB-04 Data Specifications Manual, form locator 15, code structure for newborns",
        {"5": "23", "6": "24"},
    ),
    CodeList(
        "admission_source_id",
        ("http://terminology.hl7.org/CodeSystem/admit-source",),
        "HL7 Terminology, AdmitSource",
        {
            "hosp-trans": "4",
            "emd": "7",
            "outp": "2",
            "born": "23",
            "gp": "1",
            "mp": "1",
            "nursing": "5",
            "psych": "6",
            "rehab": "6",
            "other": "20",  # not mapped
        },
        accepted=True,
    ),
    CodeList(
        "admission_type_id",
        ("https://www.nubc.org/CodeSystem/PriorityTypeOfAdmitOrVisit",),
        "NUBC, UB-04 Data Specifications Manual, form locator 14, priority of admission or visit",
        {"1": "1", "2": "2", "3": "3", "4": "4", "5": "7", "9": "5"},
    ),
    CodeList(
        "payer_code",
        ("https://nahdo.org/sopt", "urn:oid:2.16.840.1.113883.3.221.5"),
        # The data set's codes are not documented, except MC, BC and SP in Strack et al. 2014; the others are read as abbreviations.
        "NAHDO and CDC/NCHS, Source of Payment Typology, as code system 2.0.0 of HL7 Terminology (2025-07-14)",
        {
            "1": "MC",
            "2": "MD",
            "3": "OG",
            "311": "CH",  # TRICARE, formerly CHAMPUS
            "4": "OG",  # corrections
            "5": "CM",
            "511": "HM",
            "512": "PO",
            "6": "BC",
            "7": "OT",
            "71": "HM",
            "72": "PO",
            "8": "OT",
            "81": "SP",
            "9": "OT",
            "95": "WC",
            "99": None,
        },
        hierarchical=True,
        accepted=True,
    ),
    CodeList(
        "race",
        ("urn:oid:2.16.840.1.113883.6.238",),
        "CDC Race and Ethnicity (HL7 Terminology, 2024-10-24), with the categories of OMB's Statistical Policy Directive 15 of "
        "1997-10-30 and 2024-03-29, as in HL7 US Core 8.0.1",
        {
            "1002-5": "Other",  # American Indian or Alaska Native
            "2028-9": "Asian",
            "2054-5": "AfricanAmerican",
            "2076-8": "Other",  # Native Hawaiian or Other Pacific Islander
            "2106-3": "Caucasian",
            "2118-8": "Caucasian",  # Middle Eastern or North African, which OMB counted as White in 1997
            "2131-1": "Other",
            "2135-2": "Hispanic",
            "ASKU": None,
            "UNK": None,
        },
        accepted=True,
    ),
    CodeList(
        "medical_specialty",
        ("http://nucc.org/provider-taxonomy",),
        "NUCC, Health Care Provider Taxonomy, 2025",
        {
            "103T00000X": "Psychology",
            "122300000X": "Dentistry",
            "204E00000X": "Surgery-Maxillofacial",
            "207K00000X": "AllergyandImmunology",
            "207L00000X": "Anesthesiology",
            "207LP3000X": "Anesthesiology-Pediatric",
            "207N00000X": "Dermatology",
            "207P00000X": "Emergency/Trauma",
            "207Q00000X": "Family/GeneralPractice",
            "207QS0010X": "SportsMedicine",
            "207R00000X": "InternalMedicine",
            "207RA0001X": "Cardiology",
            "207RA0201X": "AllergyandImmunology",
            "207RC0000X": "Cardiology",
            "207RC0001X": "Cardiology",
            "207RE0101X": "Endocrinology",
            "207RG0100X": "Gastroenterology",
            "207RH0000X": "Hematology",
            "207RH0003X": "Hematology/Oncology",
            "207RI0011X": "Cardiology",
            "207RI0200X": "InfectiousDiseases",
            "207RN0300X": "Nephrology",
            "207RP1001X": "Pulmonology",
            "207RR0500X": "Rheumatology",
            "207RX0202X": "Oncology",
            "207T00000X": "Surgery-Neuro",
            "207V00000X": "ObstetricsandGynecology",
            "207VG0400X": "Gynecology",
            "207VX0000X": "Obstetrics",
            "207VX0201X": "Obsterics&Gynecology-GynecologicOnco",
            "207W00000X": "Ophthalmology",
            "207X00000X": "Orthopedics",
            "207XS0114X": "Orthopedics-Reconstructive",
            "207Y00000X": "Otolaryngology",
            "207ZP0102X": "Pathology",
            "208000000X": "Pediatrics",
            "2080N0001X": "Perinatology",
            "2080P0201X": "Pediatrics-AllergyandImmunology",
            "2080P0202X": "Cardiology-Pediatric",
            "2080P0203X": "Pediatrics-CriticalCare",
            "2080P0204X": "Pediatrics-EmergencyMedicine",
            "2080P0205X": "Pediatrics-Endocrinology",
            "2080P0207X": "Pediatrics-Hematology-Oncology",
            "2080P0208X": "Pediatrics-InfectiousDiseases",
            "2080P0214X": "Pediatrics-Pulmonology",
            "208100000X": "PhysicalMedicineandRehabilitation",
            "208200000X": "Surgery-Plastic",
            "2084N0400X": "Neurology",
            "2084N0402X": "Pediatrics-Neurology",
            "2084N0600X": "Neurophysiology",
            "2084P0800X": "Psychiatry",
            "2084P0802X": "Psychiatry-Addictive",
            "2084P0804X": "Psychiatry-Child/Adolescent",
            "2085R0202X": "Radiologist",
            "208600000X": "Surgery-General",
            "2086S0120X": "Surgery-Pediatric",
            "2086S0129X": "Surgery-Vascular",
            "208800000X": "Urology",
            "208C00000X": "Surgery-Colon&Rectal",
            "208D00000X": "Family/GeneralPractice",
            "208G00000X": "Surgery-Cardiovascular/Thoracic",
            "208M00000X": "Hospitalist",
            "213E00000X": "Podiatry",
            "235Z00000X": "Speech",
            "390200000X": "Resident",
        },
        accepted=True,
    ),
)
"""Every list. A specialty that is not here has no counterpart in the data set, and is encoded as "other"."""

_BY_SYSTEM: Final = {system: codes for codes in CODE_LISTS for system in codes.systems}
_ACCEPTED: Final = {
    column: tuple(codes for codes in CODE_LISTS if codes.accepted and codes.column == column)
    for column in dict.fromkeys(codes.column for codes in CODE_LISTS)
}
_HISPANIC: Final = "Hispanic"


def value_of(system: str, code: str) -> str | None:
    """Return the contract's value for a code.

    Args:
        system: one of the URIs of `CODE_LISTS`.
        code: of this list.

    Returns:
        The value, or None if the code says that nothing is known.

    Raises:
        KeyError: the list, or the code in it, is unknown.
    """
    return _BY_SYSTEM[system].value(code)


def race_of(codes: Iterable[str]) -> str | None:
    """Return the contract's race for all codes of race and ethnicity of a person.

    The data set has one column for both. Hispanic or Latino ethnicity comes first, as in its `race`; several races are `Other`.
    Codes that are not OMB categories are ignored.

    Returns:
        The value, or None if nothing is known.
    """
    lists = _ACCEPTED["race"][0]
    races = {value for code in codes if lists.contains(code) and (value := lists.value(code)) is not None}
    if _HISPANIC in races:
        return _HISPANIC
    return "Other" if len(races) > 1 else next(iter(races), None)


def accepted_pattern(column: str, without: Collection[str]) -> str:
    """Return a regular expression of the codes that a column accepts from these lists, or "" if there are none.

    Args:
        column: name in the contract.
        without: values of the contract whose codes are left out.
    """
    patterns: list[str] = []
    for codes in _ACCEPTED.get(column, ()):
        if codes.hierarchical:
            patterns.append("[1-9][0-9]{0,4}")
        else:
            patterns += [re.escape(code) for code, value in codes.values.items() if value not in without]
    return "|".join(patterns)


def accepted_value(column: str, text: str) -> str | None:
    """Return the contract's value if a column accepts a text as a code of today's lists, otherwise the text."""
    for codes in _ACCEPTED.get(column, ()):
        if codes.contains(text):
            return codes.value(text)
    return text
