"""A random share of the flags just above the threshold is held back, and the log has the probability."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import as_records, draw_encounters
from in_a_thread import Serve
from logged import lines_of

from healthpredict.bundle.model import Bundle
from healthpredict.cds_hooks_params import CdsHooksParams
from healthpredict.config import Settings
from healthpredict.errors import ConfigurationError
from healthpredict.prediction_log.patient_key import make_patient_key, read_patient_key
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.app import create_app
from healthpredict.serving.encounter import as_sent
from healthpredict.serving.hold_out import HoldOut
from healthpredict.serving.server import ServiceParams, serve

ONLY_FLAGGED = CdsHooksParams(only_high_risk=True)
CALL = json.loads((Path(__file__).parents[1] / "hook.json").read_text())


@pytest.fixture
def flagging(bundle: Bundle) -> Bundle:
    """The bundle with a threshold that half of the encounters reach."""
    risks = [bundle.risk(record) for record in as_records(draw_encounters(40))]
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"threshold": float(np.median(risks))}))


def test_the_share_is_kept_and_the_same_encounter_has_the_same_answer() -> None:
    one, other = HoldOut(0.2, 0.05, b"one"), HoldOut(0.2, 0.05, b"other")
    held = [one.holds_back(0.31, 0.3, number) for number in range(10_000)]
    assert held == [one.holds_back(0.34, 0.3, number) for number in range(10_000)]
    # Within four standard errors; the same numbers each time.
    assert abs(np.mean(held) - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 10_000)
    assert (
        abs(np.mean(np.array(held) == [other.holds_back(0.31, 0.3, number) for number in range(10_000)]) - 0.68) < 0.02
    )


@pytest.mark.parametrize(
    ("risk", "encounter_id", "probability"),
    [(0.299, 7, None), (0.3, 7, 0.2), (0.349, 7, 0.2), (0.35, 7, None), (0.9, 7, None), (0.31, None, None)],
)
def test_only_flags_just_above_the_threshold_are_held_back(
    risk: float, encounter_id: int | None, probability: float | None
) -> None:
    hold_out = HoldOut(0.2, 0.05, b"key")
    assert hold_out.probability(risk, 0.3, encounter_id) == probability
    if probability is None:
        assert not any(HoldOut(1.0, 0.05, bytes([k])).holds_back(risk, 0.3, encounter_id) for k in range(9))


def test_answers_and_log_agree(flagging: Bundle, serve_app: Serve, tmp_path: Path) -> None:
    """For single encounters, batches and cards."""
    make_patient_key(tmp_path / "key")
    log = PredictionLog(tmp_path / "log", read_patient_key(tmp_path / "key"))
    hold_out = HoldOut(0.5, 1.0, b"key")
    client = serve_app(create_app(flagging, log=log, hold_out=hold_out, cds_hooks=ONLY_FLAGGED))
    records = [as_sent(record) | {"encounter_id": k + 1} for k, record in enumerate(as_records(draw_encounters(40)))]
    single = [client.post("/predict", json=record).json() for record in records]
    batch = client.post("/predict/batch", json={"encounters": records}).json()["results"]
    cards = client.post("/cds-services/readmission-risk", json=CALL).json()["cards"]
    log.close()
    assert [answer["high_risk"] for answer in single] == [answer["high_risk"] for answer in batch]
    threshold = flagging.manifest.threshold
    above = [answer["readmission_risk"] >= threshold for answer in single]
    held = [reached and not answer["high_risk"] for reached, answer in zip(above, single, strict=True)]
    assert 0 < sum(held) < sum(above)
    lines = lines_of(tmp_path / "log")
    assert len(lines) == 81
    assert {line["hold_out_probability"] for line in lines if line["readmission_risk"] >= threshold} == {0.5}
    assert {line["hold_out_probability"] for line in lines if line["readmission_risk"] < threshold} == {None}
    assert [line["high_risk"] for line in lines[:40]] == [answer["high_risk"] for answer in single]
    assert len(cards) == lines[-1]["high_risk"]


def test_a_card_is_held_back_with_its_flag(flagging: Bundle, serve_app: Serve) -> None:
    low = replace(flagging, manifest=flagging.manifest.model_copy(update={"threshold": 0.0}))
    for share, cards in ((1.0, 0), (0.0, 1)):
        client = serve_app(create_app(low, hold_out=HoldOut(share, 1.0, b"key"), cds_hooks=ONLY_FLAGGED))
        answer = client.post("/cds-services/readmission-risk", json=CALL).json()
        assert len(answer["cards"]) == cards
        if not cards:  # The EHR gets the same answer as for a risk below the threshold.
            because = answer["extension"]["healthpredict.no-card-because"]
            assert because == "The encounter is not flagged, and the hospital shows only flagged ones."


def test_without_a_log_nothing_is_held_back(bundle: Bundle) -> None:
    with pytest.raises(ConfigurationError, match="Flags can only be held back with a prediction log"):
        serve(ServiceParams(bundle=str(bundle.path), port=0, hold_out=0.1))


def test_where_everybody_has_a_card_nothing_is_held_back(bundle: Bundle, tmp_path: Path) -> None:
    make_patient_key(tmp_path / "key")
    given = {"log": tmp_path / "log", "patient_key": tmp_path / "key"}
    with pytest.raises(ConfigurationError, match="say only_high_risk = true: otherwise every encounter has a card"):
        serve(ServiceParams(bundle=str(bundle.path), port=0, hold_out=0.1, **given))


def test_a_critical_risk_is_never_held_back() -> None:
    assert HoldOut(0.2, 0.05, b"key", below=0.32).probability(0.33, 0.3, 7) is None


def test_by_default_nothing_is_held_back() -> None:
    assert Settings().api_options == []
    assert Settings(hold_out=0.1).api_options == ["--hold-out=0.1", "--hold-out-width=0.05"]
