"""Labelled encounters for tests: synthetic ones, through the same steps that real ones take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from healthpredict.data.cohort import add_label, select_cohort
from healthpredict.data.contract import FEATURE_COLUMNS, Kind
from healthpredict.data.outcomes import check_outcomes
from healthpredict.data.params import ContractParams
from healthpredict.data.schema import check_encounters
from healthpredict.data.synthetic import synthesize
from healthpredict.training.fit import folds

LABEL = "readmitted_within_30_days"


def labelled_encounters(n_encounters: int, seed: int) -> pd.DataFrame:
    """The cohort of some synthetic encounters with its label."""
    raw = synthesize(n_encounters, seed)
    checked = check_encounters(raw, "synthetic", ContractParams())
    outcomes = check_outcomes(raw[["encounter_id", "readmitted"]])
    return add_label(select_cohort(checked.encounters), outcomes.usable, "within_30_days")


def label_and_fold(labelled: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The outcome and the fold of each encounter, shape (n_encounters,) each."""
    return labelled[LABEL].to_numpy(), folds(labelled["patient_id"].to_numpy())


def as_frame(records: list[dict[str, Any]], missing_count: str = "float64") -> pd.DataFrame:
    """Records by `Column.field` as an encounters frame; a count column with a missing value has dtype `missing_count`."""
    columns = {}
    for column in FEATURE_COLUMNS:
        values = [record[column.field] for record in records]
        match column.kind:
            case Kind.COUNT:
                dtype: Any = missing_count if None in values else "int64"
            case Kind.CATEGORY:
                dtype = pd.CategoricalDtype(list(column.allowed))
            case _:
                dtype = "str"
        columns[column.field] = pd.Series(values, dtype=dtype)
    return pd.DataFrame(columns)
