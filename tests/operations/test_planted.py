"""What `prepare --plant` puts into the data arrives in training data and in the drift check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from accepting import accept
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.config import Settings
from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize
from healthpredict.errors import ConfigurationError
from healthpredict.monitoring.data_drift import detect_data_drift
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import build_profile
from healthpredict.operations.accept_outcomes import accept_outcomes
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import read_labelled

PLAN = """
seed: 3
shifts:
  - {kind: set, columns: [payer_code], value: ZZ, start: 0.5, strength: 0.3}
  - {kind: set, columns: [race], start: 0.5, strength: 0.3}
  - {kind: scale, columns: [num_lab_procedures], value: 1.5, start: 0.5, strength: 0.8}
  - {kind: exchange, columns: [readmitted], start: 0.5, strength: 1}
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HEALTHPREDICT_DATA_URI", str(tmp_path / "data"))
    monkeypatch.setenv("HEALTHPREDICT_STATE_PATH", str(tmp_path))
    monkeypatch.setenv("HEALTHPREDICT_INITIAL_SHARE", "0.5")
    monkeypatch.setenv("HEALTHPREDICT_N_BATCHES", "2")
    (tmp_path / "encounters.csv").write_bytes(format_raw(synthesize(6000, seed=1)))
    (tmp_path / "plan.yaml").write_text(PLAN)
    return Settings()


def test_planted_drift_survives_into_training_and_detection(settings: Settings, tmp_path: Path) -> None:
    arguments = ["prepare", "--source", str(tmp_path / "encounters.csv"), "--plant", str(tmp_path / "plan.yaml")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    accept(settings, "batch-01")
    accept_outcomes(Installation(settings))
    known, new = (read_labelled(Installation(settings), [name]).frame for name in ("initial", "batch-01"))
    assert (new["payer_code"] == "ZZ").mean() == pytest.approx(0.3, abs=0.05)
    assert new["race"].isna().mean() > 0.25
    risk = np.full(len(known), 0.1)
    patients = known["patient_id"].to_numpy()
    profile = build_profile(known, risk=risk, unseen_risk=risk, patient_id=patients, policy=DriftPolicy())
    drift = detect_data_drift(profile, new, np.full(len(new), 0.1))
    assert {"payer_code", "race", "num_lab_procedures"} <= {column.column for column in drift.drifted}


def test_a_plan_that_is_no_yaml_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("shifts: [")
    result = CliRunner().invoke(app, ["prepare", "--plant", str(tmp_path / "plan.yaml")])
    assert isinstance(result.exception, ConfigurationError)
    assert "cannot be read as YAML" in str(result.exception)
