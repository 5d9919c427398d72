"""The loop on what the API was asked and told: predictions become batches, and batches become models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from installation import environment

from healthpredict.config import Settings
from healthpredict.data.columns import OUTCOME_COLUMN
from healthpredict.data.contract import COLUMNS, DEATH_OR_HOSPICE, MISSING, Kind
from healthpredict.data.raw import format_raw
from healthpredict.data.split import side_of
from healthpredict.data.synthetic import synthesize
from healthpredict.operations.detect_drift import DriftCheck, detect_drift
from healthpredict.operations.drift_loop import Steps, drift_loop
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare
from healthpredict.operations.roll_out import local_target, roll_out
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame

pytestmark = pytest.mark.slow

ENCOUNTERS = synthesize(3000, 5)
AT_RISK = ENCOUNTERS[~ENCOUNTERS["discharge_disposition_id"].isin(DEATH_OR_HOSPICE)]
HISTORY, FIRST, SECOND = ENCOUNTERS[:2400], AT_RISK[-400:-200], AT_RISK[-200:]
NUMBERS = [column.name for column in COLUMNS if column.kind in (Kind.ID, Kind.COUNT)]


@pytest.fixture
def settings(tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """All data are history; 200 live encounters make a batch."""
    small = {"N_BATCHES": "0", "LIVE__MIN_ROWS": "200", "SEARCH__N_TRIALS": "2", "SEARCH__RETRAIN_N_TRIALS": "1"}
    small["SEARCH__FAMILIES"] = '["logistic_regression"]'
    for name, value in (environment(tmp_path) | {f"HEALTHPREDICT_{k}": v for k, v in small.items()}).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    yield settings
    local_target(Installation(settings)).stop()


def as_json(raw: pd.DataFrame) -> list[dict[str, Any]]:
    """What a hospital sends."""
    texts = raw.drop(columns=OUTCOME_COLUMN).fillna(MISSING)
    numbers = {name: texts[name].astype(int) for name in NUMBERS}
    return texts.assign(diagnosis_coding="ICD-9-CM", **numbers).to_dict("records")


def test_live_predictions_and_outcomes_become_batches_and_a_challenger(settings: Settings, tmp_path: Path) -> None:
    source = tmp_path / "history.csv"
    source.write_bytes(format_raw(HISTORY))
    assert prepare(Installation(settings), str(source)).batches == ["initial"]
    assert drift_loop(Installation(settings), source="live").done == []
    assert [event["version"] for event in Installation(settings).ledger.events("promotion")] == [1]

    with httpx.Client(base_url=f"http://127.0.0.1:{settings.api_port}", trust_env=False, timeout=30) as api:
        for encounter in as_json(FIRST[:20]):
            api.post("/predict", json=encounter).raise_for_status()
        api.post("/predict/batch", json={"encounters": as_json(FIRST[20:])}).raise_for_status()
    local_target(Installation(settings)).stop()  # closes its files, as a minute would
    roll_out(Installation(settings), 1)
    with httpx.Client(base_url=f"http://127.0.0.1:{settings.api_port}", trust_env=False, timeout=30) as api:
        answer = api.post("/predict/batch", json={"encounters": as_json(SECOND)}).raise_for_status().json()
        outcomes = FIRST[["encounter_id", OUTCOME_COLUMN]].assign(encounter_id=FIRST["encounter_id"].astype(int))
        api.post("/outcomes", json={"outcomes": outcomes.to_dict("records")}).raise_for_status()
    local_target(Installation(settings)).stop()

    checks: dict[str, DriftCheck] = {}

    def detect(installation: Installation, name: str) -> DriftCheck:
        check = checks[name] = detect_drift(installation, name)
        state = "retrain" if name == "live-000002" else "stable"
        return check.model_copy(update={"decision": check.decision.model_copy(update={"state": state})})

    assert drift_loop(Installation(settings), Steps(detect=detect), "live").done == [
        "live-000001",
        "live-000002",
    ]
    layout = Layout(settings.data_uri)
    for name, sent in (("live-000001", FIRST), ("live-000002", SECOND)):
        batch = read_frame(layout.processed(name)).set_index("encounter_id").loc[sent["encounter_id"].astype(int)]
        patients = sent["patient_nbr"].astype(int).to_numpy()
        assert not set(batch["patient_id"]) & set(patients)
        np.testing.assert_array_equal(side_of(batch["patient_id"].to_numpy()), side_of(patients))
    predicted = read_frame(layout.predictions("live-000002")).set_index("encounter_id")["readmission_risk"]
    np.testing.assert_allclose(
        predicted[SECOND["encounter_id"].astype(int)], [row["readmission_risk"] for row in answer["results"]], atol=1e-6
    )
    assert checks["live-000001"].concept is None
    assert checks["live-000002"].concept is not None, "the outcomes of the first batch are known by then"
    registry = Installation(settings).registry
    trained_on = [registry.fetch_bundle(version).manifest.trained_on for version in registry.versions()]
    assert trained_on == [("initial",), ("initial", "live-000001")]
    assert Installation(settings).ledger.last("gate", version=2, arriving="live-000002") is not None
    assert drift_loop(Installation(settings), source="live").done == [], "nothing is done twice"
