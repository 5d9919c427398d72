"""How often each value occurs in the published data set, for `healthpredict.data.synthetic`.

Counted in the 101,766 encounters of "Diabetes 130-US Hospitals for Years 1999-2008" (doi 10.24432/C5230J) and rounded; shares
are relative, so they need not add up to one. `None` is a missing value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Shares = Mapping[str | None, float]

PATIENT_SHARES: Final[Mapping[str, Shares]] = {
    "race": {"Caucasian": 748, "AfricanAmerican": 189, None: 22, "Hispanic": 20, "Other": 15, "Asian": 6},
    "gender": {"Female": 538, "Male": 462},
    "age": {
        "[0-10)": 2,
        "[10-20)": 7,
        "[20-30)": 16,
        "[30-40)": 37,
        "[40-50)": 95,
        "[50-60)": 170,
        "[60-70)": 221,
        "[70-80)": 256,
        "[80-90)": 169,
        "[90-100)": 27,
    },
}
"""Columns that are the same in all encounters of a patient."""

ENCOUNTER_SHARES: Final[Mapping[str, Shares]] = {
    "weight": {None: 969, "[75-100)": 13, "[50-75)": 9, "[100-125)": 6, "[125-150)": 2, "[25-50)": 1},
    "admission_type_id": {"1": 530, "3": 185, "2": 182, "6": 52, "5": 47, "8": 3},
    "discharge_disposition_id": {
        "1": 592,
        "3": 137,
        "6": 127,
        "18": 36,
        "2": 21,
        "22": 20,
        "11": 16,
        "5": 12,
        "25": 10,
        "4": 8,
        "7": 6,
        "23": 4,
        "13": 4,
        "14": 4,
        "28": 1,
        "8": 1,
    },
    "admission_source_id": {"7": 565, "1": 291, "17": 67, "4": 31, "6": 22, "2": 11, "5": 8, "3": 2, "20": 2, "9": 1},
    "payer_code": {
        None: 396,
        "MC": 319,
        "HM": 62,
        "SP": 49,
        "BC": 46,
        "MD": 35,
        "CP": 25,
        "UN": 24,
        "CM": 19,
        "OG": 10,
        "PO": 6,
        "DM": 5,
    },
    "medical_specialty": {
        None: 491,
        "InternalMedicine": 144,
        "Emergency/Trauma": 74,
        "Family/GeneralPractice": 73,
        "Cardiology": 53,
        "Surgery-General": 31,
        "Nephrology": 16,
        "Orthopedics": 14,
        "Orthopedics-Reconstructive": 12,
        "Radiologist": 11,
        "Pulmonology": 9,
        "Psychiatry": 8,
        "Urology": 7,
        "ObstetricsandGynecology": 7,
        "Gastroenterology": 6,
        "Oncology": 4,
        "Pediatrics": 3,
    },
    "diag_1": {
        "428": 67,
        "414": 65,
        "786": 39,
        "410": 36,
        "486": 34,
        "427": 27,
        "491": 22,
        "715": 21,
        "682": 20,
        "434": 20,
        "780": 20,
        "996": 19,
        "276": 19,
        "38": 17,
        "250.8": 17,
        "599": 16,
        "584": 15,
        "V57": 12,
        "250.6": 12,
        "820": 11,
        "577": 10,
        "578": 60,
        "295": 40,
        "197": 50,
        "285": 30,
    },
    "diag_2": {
        "276": 67,
        "428": 66,
        "250": 60,
        "427": 50,
        "401": 37,
        "496": 33,
        "599": 32,
        "403": 28,
        "414": 26,
        "411": 25,
        "250.02": 20,
        "707": 20,
        "585": 18,
        "584": 16,
        "491": 15,
        "285": 15,
        "780": 15,
        None: 4,
    },
    "diag_3": {
        "250": 115,
        "401": 83,
        "276": 52,
        "428": 46,
        "427": 39,
        "414": 37,
        "496": 26,
        "403": 23,
        "585": 20,
        "272": 20,
        "599": 19,
        "V45": 14,
        "250.02": 14,
        "E888": 8,
        None: 14,
    },
    "max_glu_serum": {"None": 948, "Norm": 25, ">200": 15, ">300": 12},
    "A1Cresult": {"None": 833, "Norm": 49, ">7": 37, ">8": 81},
}

DOSE_SHARES: Final[Mapping[str, tuple[float, float, float, float]]] = {
    "metformin": (0.8036, 0.1803, 0.0105, 0.0057),
    "repaglinide": (0.9849, 0.0136, 0.0011, 0.0004),
    "nateglinide": (0.9931, 0.0066, 0.0002, 0.0001),
    "chlorpropamide": (0.9992, 0.0007, 0.0001, 0.0),
    "glimepiride": (0.9490, 0.0459, 0.0032, 0.0019),
    "glipizide": (0.8753, 0.1116, 0.0076, 0.0055),
    "glyburide": (0.8953, 0.0911, 0.0080, 0.0055),
    "tolbutamide": (0.9998, 0.0002, 0.0, 0.0),
    "pioglitazone": (0.9280, 0.0685, 0.0023, 0.0012),
    "rosiglitazone": (0.9375, 0.0599, 0.0017, 0.0009),
    "acarbose": (0.9970, 0.0029, 0.0001, 0.0),
    "miglitol": (0.9996, 0.0004, 0.0, 0.0),
    "tolazamide": (0.9996, 0.0004, 0.0, 0.0),
    "insulin": (0.4656, 0.3031, 0.1112, 0.1201),
    "glyburide-metformin": (0.9931, 0.0067, 0.0001, 0.0001),
    "glipizide-metformin": (0.9999, 0.0001, 0.0, 0.0),
}
"""No, Steady, Up, Down. Other medications are given to (nearly) nobody."""

DAYS_SHARES: Final = (140, 169, 174, 137, 98, 74, 58, 43, 29, 23, 18, 14, 12, 10)
"""`time_in_hospital` of 1 to 14."""
PROCEDURES_SHARES: Final = (458, 204, 125, 93, 41, 30, 49)
"""`num_procedures` of 0 to 6."""
DIAGNOSES_SHARES: Final = (2, 10, 28, 54, 112, 100, 102, 104, 486)
"""`number_diagnoses` of 1 to 9."""

VISITS: Final[Mapping[str, tuple[float, float]]] = {
    "number_outpatient": (0.369, 1.606),
    "number_emergency": (0.198, 0.866),
    "number_inpatient": (0.636, 1.595),
}
"""Mean and variance of the visits in the year before."""
