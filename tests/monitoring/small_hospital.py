"""A small hospital: frames with every feature of the contract, drawn from fixed marginals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from healthpredict.data.contract import FEATURE_COLUMNS, Kind

CODES = {
    "payer_code": ["MC", "HM", "BC", "SP", "UN"],
    "medical_specialty": ["Cardiology", "Surgery-General", "InternalMedicine"],
    "diag_1": ["250", "428", "414", "786", "V57"],
    "diag_2": ["250.01", "276", "427", "E888"],
    "diag_3": ["401", "250", "272"],
}


def draw(patients: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw the encounters of some patients, one or two each and alike within a patient, and their risks."""
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = {}
    for column in FEATURE_COLUMNS:
        if column.kind is Kind.COUNT:
            columns[column.field] = rng.poisson(3, patients) + column.minimum
            continue
        values = list(column.allowed or CODES[column.field])
        shares = 0.5 ** np.arange(1, len(values) + 1)
        drawn = rng.choice(np.array(values, dtype=object), patients, p=shares / shares.sum())
        if column.nullable:
            drawn[rng.random(patients) < 0.2] = np.nan
        dtype = pd.CategoricalDtype(list(column.allowed)) if column.kind is Kind.CATEGORY else "str"
        columns[column.field] = pd.Series(drawn).astype(dtype)
    people = pd.DataFrame(columns).assign(patient_id=np.arange(patients) + 1_000_000 * seed)
    encounters = people.loc[np.repeat(people.index, rng.integers(1, 3, patients))].reset_index(drop=True)
    return encounters, rng.beta(2, 14, len(encounters))
