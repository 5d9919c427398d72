"""Synthetic encounters that match the contract, for demonstrations without the data set, for tests and for load.

Values occur as often as in the published data set (`healthpredict.data.marginals`), patients return as often (1.42 encounters
each), and readmission follows a logistic model that a good learner fits with an AUROC of about .67. No row is a real patient's. The
columns do not depend on each other as real ones do, so measure the quality of predictions on real data only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from healthpredict.data.contract import BY_FIELD, COLUMNS, DEATH_OR_HOSPICE, MEDICATIONS, Column, Kind
from healthpredict.data.icd9 import diagnosis_group
from healthpredict.data.marginals import (
    DAYS_SHARES,
    DIAGNOSES_SHARES,
    DOSE_SHARES,
    ENCOUNTER_SHARES,
    PATIENT_SHARES,
    PROCEDURES_SHARES,
    VISITS,
    Shares,
)

DriftKind = Literal["covariate", "new_category", "missing", "concept"]


class DriftPlan(BaseModel):
    """Drift to plant.

    Attributes:
        start: share of the encounters (0-1), in order of time, before the drift begins.
        strength: 0 is no drift; 1 is obvious drift.
        kinds: "covariate", more earlier visits and more drugs; "new_category", payers and specialties that never occurred before;
            "missing", values that are no longer entered; "concept", the risk depends differently on the features.
    """

    model_config = ConfigDict(frozen=True)

    start: float = Field(0.5, ge=0, le=1)
    strength: float = Field(1.0, ge=0, le=1)
    kinds: tuple[DriftKind, ...] = ("covariate", "new_category", "missing", "concept")


_NO_DRIFT: Final = DriftPlan(strength=0)
_POOL: Final = 1 / 0.75
"""Patients in the pool per encounter. Some are never drawn. Those that are drawn have 1.42 encounters on average."""
_INTERCEPT: Final = -2.77
_DISPOSITION_EFFECT: Final = {"28": 1.8, "22": 1.5, "5": 1.1, "2": 0.7, "3": 0.5, "6": 0.35, "18": 0.3}
_GROUP_EFFECT: Final = {"V": 0.6, "diabetes": 0.4, "blood": 0.3, "injury": 0.2, "respiratory": -0.3}
_INSULIN_EFFECT: Final = {"Down": 0.25, "Up": 0.15}
_REPLACED_SHARE: Final = 0.38
_NEW_CODE: Final = {"payer_code": "ZZ", "medical_specialty": "Telemedicine"}
_MISSING: Final = -1
_LATER_SHARE: Final = 0.4
"""Share of the encounters without readmission within 30 days that have one later."""


def synthesize(n_encounters: int, seed: int, plant: DriftPlan | None = None) -> pd.DataFrame:
    """Generate encounters.

    Args:
        n_encounters: how many.
        seed: the same seed gives the same encounters.
        plant: drift to plant, or None.

    Returns:
        A raw frame with `readmitted`, in order of time.
    """
    plan = plant or _NO_DRIFT
    drifted = np.arange(n_encounters) >= plan.start * n_encounters
    frame = _generate(np.random.default_rng(seed), drifted, plan)
    return pd.DataFrame({column.name: frame[column.field].astype("str") for column in COLUMNS})


def synthesize_to_parquet(path: Path, n_encounters: int, seed: int, chunk: int = 100_000) -> None:
    """Write any number of synthetic encounters to Parquet, with one chunk in memory at a time.

    Args:
        path: local file. It holds an encounters frame with one row group per chunk. No patient is in two chunks.
        n_encounters: how many.
        seed: the same seed and chunk give the same encounters.
        chunk: encounters in memory at a time.
    """
    rng = np.random.default_rng(seed)
    writer = None
    for start in range(0, n_encounters, chunk):
        size = min(chunk, n_encounters - start)
        frame = _generate(rng, np.zeros(size, dtype=bool), _NO_DRIFT, first_id=start * 1000).drop(columns="readmitted")
        table = pa.Table.from_pandas(frame, preserve_index=False)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()


def _generate(rng: np.random.Generator, drifted: NDArray[np.bool_], plan: DriftPlan, first_id: int = 0) -> pd.DataFrame:
    """Return an encounters frame with `readmitted`. The ids lie between `first_id` and `first_id + 1000 * n`."""
    n = len(drifted)
    effect = {kind: drifted * (plan.strength if kind in plan.kinds else 0.0) for kind in get_args(DriftKind)}
    pool = max(1, round(n * _POOL))
    patient = rng.integers(0, pool, n)
    values: dict[str, NDArray[Any]] = {
        "encounter_id": first_id + np.cumsum(rng.integers(1, 1001, n)),
        "patient_id": first_id + 1 + patient,
        **{field: _draw(rng, field, shares, pool)[patient] for field, shares in PATIENT_SHARES.items()},
        **{field: _draw(rng, field, shares, n) for field, shares in ENCOUNTER_SHARES.items()},
        **_doses(rng, n),
        **_counts(rng, patient, pool, effect["covariate"]),
    }
    for field in ("payer_code", "medical_specialty"):
        values[field][rng.random(n) < 0.3 * effect["new_category"]] = _vocabulary(field).index(_NEW_CODE[field])
    for field in ("race", "payer_code", "diag_3"):
        values[field][rng.random(n) < 0.5 * effect["missing"]] = _MISSING
    values["readmitted"] = _outcomes(rng, values, effect["concept"])
    return pd.DataFrame({column.field: _typed(values[column.field], column) for column in COLUMNS})


def _vocabulary(field: str) -> tuple[str, ...]:
    column = BY_FIELD[field]
    if column.kind is not Kind.CODE:
        return column.allowed
    return tuple(value for value in (*ENCOUNTER_SHARES[field], _NEW_CODE.get(field)) if value)


def _draw(rng: np.random.Generator, field: str, shares: Shares, n: int) -> NDArray[Any]:
    vocabulary = _vocabulary(field)
    positions = np.array([_MISSING if value is None else vocabulary.index(value) for value in shares], dtype=np.int16)
    return positions[_choose(rng, tuple(shares.values()), n)]


def _choose(rng: np.random.Generator, shares: Sequence[float], n: int) -> NDArray[np.int64]:
    return rng.choice(len(shares), n, p=np.array(shares) / sum(shares))


def _doses(rng: np.random.Generator, n: int) -> dict[str, NDArray[Any]]:
    nobody = np.zeros(n, dtype=np.int16)
    doses = {
        name.replace("-", "_"): _choose(rng, DOSE_SHARES[name], n).astype(np.int16) if name in DOSE_SHARES else nobody
        for name in MEDICATIONS
    }
    highest = np.maximum.reduce(list(doses.values()))
    # No, Steady, Up, Down are 0 to 3; a drug that is replaced by another is a change too.
    changed = (highest > 1) | ((highest == 1) & (rng.random(n) < _REPLACED_SHARE))
    return {**doses, "change": changed.astype(np.int16), "diabetesMed": (highest > 0).astype(np.int16)}


def _counts(
    rng: np.random.Generator, patient: NDArray[np.int64], pool: int, shift: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    n = len(patient)
    days = 1 + _choose(rng, DAYS_SHARES, n)
    # Each patient has a rate of visits, drawn from a gamma distribution, so that all visits are negative binomial.
    visits = {}
    for field, (mean, variance) in VISITS.items():
        frailty = rng.gamma(mean**2 / (variance - mean), (variance - mean) / mean, pool)
        visits[field] = rng.poisson(frailty[patient] * (1 + shift))
    return {
        "time_in_hospital": days,
        "num_lab_procedures": np.clip(rng.normal(43, 20, n).round(), 1, 132),
        "num_procedures": _choose(rng, PROCEDURES_SHARES, n),
        "num_medications": np.clip(rng.normal(10.5 + 1.25 * days + 4 * shift, 7).round(), 1, 81),
        "number_diagnoses": 1 + _choose(rng, DIAGNOSES_SHARES, n),
        **{field: np.minimum(count, 76) for field, count in visits.items()},
    }


def _outcomes(rng: np.random.Generator, values: dict[str, NDArray[Any]], change: NDArray[Any]) -> NDArray[Any]:
    def of(field: str, effects: Mapping[str, float]) -> NDArray[Any]:
        # The position of a missing value is -1, which indexes the last entry.
        by_position = np.array([*(effects.get(value, 0.0) for value in _vocabulary(field)), 0.0])
        return by_position.take(values[field], mode="wrap")

    groups = {code: _GROUP_EFFECT.get(diagnosis_group(code), 0.0) for code in _vocabulary("diag_1")}
    band = values["age"] - 6
    logit = (
        _INTERCEPT
        + (1 - change) * 0.85 * np.log1p(values["number_inpatient"])
        + 0.25 * np.log1p(values["number_emergency"])
        + 0.03 * (values["number_diagnoses"] - 7)
        + 0.02 * (values["time_in_hospital"] - 4)
        + (0.06 + 0.25 * change) * band
        + of("discharge_disposition_id", _DISPOSITION_EFFECT)
        + of("insulin", _INSULIN_EFFECT)
        + of("diag_1", groups)
    )
    within_30_days = rng.random(len(logit)) < 1 / (1 + np.exp(-logit))
    later = rng.random(len(logit)) < _LATER_SHARE
    at_risk = of("discharge_disposition_id", dict.fromkeys(DEATH_OR_HOSPICE, 1.0)) == 0
    return np.where(at_risk, np.where(within_30_days, 2, later), 0)


def _typed(values: NDArray[Any], column: Column) -> Any:
    match column.kind:
        case Kind.ID | Kind.COUNT:
            return values.astype(np.int64)
        case Kind.CODE:
            dtype = pd.CategoricalDtype(list(_vocabulary(column.field)))
            return pd.Series(pd.Categorical.from_codes(values, dtype=dtype)).astype("str")
        case _:
            return pd.Categorical.from_codes(values, dtype=pd.CategoricalDtype(list(column.allowed)))
