"""Real encounters over HTTP get the risks of the training pipeline."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from in_a_thread import served
from labelled import LABEL

from healthpredict.bundle.build import build_bundle
from healthpredict.bundle.model import TOLERANCE, Bundle, GoldenRow
from healthpredict.data.cohort import add_label, select_cohort
from healthpredict.data.contract import COLUMNS, Kind
from healthpredict.data.outcomes import check_outcomes
from healthpredict.data.params import ContractParams
from healthpredict.data.raw import read_history
from healthpredict.data.schema import check_encounters
from healthpredict.evaluation.metrics import threshold_for
from healthpredict.serving.app import create_app
from healthpredict.training.candidates import Candidate
from healthpredict.training.export import export_onnx
from healthpredict.training.families import FAMILIES
from healthpredict.training.fit import fit_model
from healthpredict.training.golden import golden_encounters

REAL = os.environ.get("HEALTHPREDICT_TEST_DATA", "")
N_SENT = 10_000
N_ALONE = 300
N_FITTED = 6_000
NUMBERS = {column.name for column in COLUMNS if column.kind in (Kind.ID, Kind.COUNT)}

pytestmark = pytest.mark.skipif(not REAL, reason="HEALTHPREDICT_TEST_DATA does not name a local diabetic_data.csv")


@dataclass(frozen=True)
class Sample:
    """Encounters as in the file, ready to be sent, and their risks by the training pipeline."""

    sent: list[dict[str, Any]]
    risks: np.ndarray
    threshold: float
    api: httpx.Client


@pytest.fixture(scope="module")
def sample(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """LightGBM with its first parameters, fitted on a part of the file. About every tenth encounter is sent."""
    raw = read_history(Path(REAL).read_bytes(), "real").frame
    encounters = check_encounters(raw.drop(columns="readmitted"), "real", ContractParams()).encounters
    cohort = select_cohort(encounters)
    chosen = cohort.iloc[np.linspace(0, len(cohort) - 1, N_SENT).astype(int)].reset_index(drop=True)
    part = cohort.iloc[:: len(cohort) // N_FITTED]
    outcomes = check_outcomes(raw[["encounter_id", "readmitted"]]).usable
    labelled = add_label(part, outcomes, "within_30_days")
    candidate = Candidate(family="lightgbm", params=dict(FAMILIES["lightgbm"].first), validation_auroc=0.6, steps=1)
    fitted = fit_model(candidate, labelled, labelled[LABEL].to_numpy(), seed=0)
    golden = golden_encounters(labelled, 8, seed=0)
    built = build_bundle(
        tmp_path_factory.mktemp("parity") / "bundle",
        manifest=bundle.manifest.model_dump(exclude={"code_systems", "files"})
        | {
            "family": "lightgbm",
            "calibrator": fitted.calibrator,
            "threshold": threshold_for(fitted.out_of_fold_risk, 0.2),
        },
        encoder=fitted.encoder,
        onnx_model=export_onnx("lightgbm", fitted.model, len(fitted.encoder.feature_names)),
        reference={},
        golden=[
            GoldenRow({str(k): None if pd.isna(v) else v for k, v in row.items()}, float(risk))
            for row, risk in zip(golden.astype(object).to_dict("records"), fitted.risks(golden), strict=True)
        ],
    )
    with served(create_app(built)) as api:
        yield Sample(rows_of_file(chosen["encounter_id"]), fitted.risks(chosen), built.manifest.threshold, api)


def rows_of_file(encounter_ids: pd.Series) -> list[dict[str, Any]]:
    """Return the rows in the order of the ids, as text except for numbers. The reader of the training is not used."""
    place = {str(encounter_id): i for i, encounter_id in enumerate(encounter_ids)}
    rows: list[dict[str, Any]] = [{}] * len(place)
    with Path(REAL).open(newline="") as file:
        for row in csv.DictReader(file):
            if row["encounter_id"] in place:
                del row["readmitted"]
                values = {name: int(value) if name in NUMBERS else value for name, value in row.items()}
                rows[place[row["encounter_id"]]] = values | {"diagnosis_coding": "ICD-9-CM"}
    return rows


def test_ten_thousand_encounters_in_one_request(sample: Sample) -> None:
    answer = sample.api.post("/predict/batch", json={"encounters": sample.sent}, timeout=60).raise_for_status().json()
    assert (answer["predicted"], answer["refused"]) == (N_SENT, 0)
    risks = np.array([row["readmission_risk"] for row in answer["results"]])
    assert float(np.abs(risks - sample.risks).max()) <= TOLERANCE
    assert len(np.unique(risks)) > N_SENT / 2, "a model that says little would agree by chance"
    clear = np.abs(sample.risks - sample.threshold) > TOLERANCE
    high = np.array([row["high_risk"] for row in answer["results"]])
    assert (high == (sample.risks >= sample.threshold))[clear].all()


@pytest.mark.parametrize("underscores", [False, True])
def test_some_hundred_encounters_one_by_one(sample: Sample, underscores: bool) -> None:
    """With the names of the file, and with underscores."""
    differences = []
    for i in range(0, N_SENT, N_SENT // N_ALONE):
        row = {name.replace("-", "_") if underscores else name: value for name, value in sample.sent[i].items()}
        answer = sample.api.post("/predict", json=row).raise_for_status().json()
        differences.append(abs(answer["readmission_risk"] - sample.risks[i]))
    assert len(differences) >= N_ALONE
    assert max(differences) <= TOLERANCE
