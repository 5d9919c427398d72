"""What clinicians did with cards is in the store and in the ledger, each once."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from logged import feedback, prediction, write_log

from healthpredict.config import Settings
from healthpredict.errors import StorageError
from healthpredict.operations.installation import Installation
from healthpredict.operations.ship_log import Shipped, ship_log
from healthpredict.prediction_log.rolled_file import FEEDBACK, closed_files
from healthpredict.storage.uris import list_uris, read_bytes

CARD, OTHER = "0a" * 16, "0b" * 16
NOW, LONG_AGO = time.time_ns() // 1000, 1_700_000_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def events(settings: Settings) -> list[dict[str, Any]]:
    return [card for event in Installation(settings).ledger.events("interventions") for card in event["cards"]]


def test_feedback_is_recorded_with_the_prediction_that_the_card_showed(settings: Settings, folder: Path) -> None:
    shown = prediction(17, request_id=CARD, readmission_risk=0.31, high_risk=True, model_version=4)
    said = feedback(CARD, NOW, outcome="accepted", accepted=["185317003"], comment="call Mr SECRET")
    write_log(folder, [shown], [said])
    assert ship_log(Installation(settings), folder) == Shipped(files=2, predictions=1, outcomes=0, feedback=1, broken=0)
    (card,) = events(settings)
    assert card == {
        "request_id": CARD,
        "encounter_id": 17,
        "model_version": 4,
        "readmission_risk": 0.31,
        "high_risk": True,
        "dry_run": False,
        "outcome": "accepted",
        "acted_at": card["acted_at"],
        "accepted": ["185317003"],
        "reason": None,
    }
    assert "SECRET" not in str(card)
    (uri,) = list_uris(f"{settings.data_uri}/interventions/log")
    (row,) = pq.read_table(BytesIO(read_bytes(uri))).to_pylist()
    assert (row["request_id"], row["comment"]) == (CARD, "call Mr SECRET")


def test_recent_feedback_waits_for_its_prediction(settings: Settings, folder: Path) -> None:
    write_log(folder, [feedback(CARD, NOW, reason="no-capacity")])
    assert ship_log(Installation(settings), folder).feedback == 0
    assert len(closed_files(folder, FEEDBACK)) == 1
    write_log(folder, [prediction(17, request_id=CARD)])
    assert ship_log(Installation(settings), folder).feedback == 1
    assert [(card["encounter_id"], card["reason"]) for card in events(settings)] == [(17, "no-capacity")]


def test_old_feedback_for_a_card_that_nobody_knows_is_recorded_as_such(settings: Settings, folder: Path) -> None:
    write_log(folder, [prediction(17, request_id=CARD)], [feedback(OTHER, LONG_AGO), feedback(CARD, LONG_AGO)])
    ship_log(Installation(settings), folder)
    assert [(card["request_id"], card["encounter_id"]) for card in events(settings)] == [(OTHER, None), (CARD, 17)]


def test_feedback_is_recorded_once_if_shipping_fails_on_the_way(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(folder, [prediction(17, request_id=CARD)], [feedback(CARD, NOW)])

    def fails(*_: object) -> None:
        raise StorageError("the store is gone")

    with monkeypatch.context() as patch:
        patch.setattr("healthpredict.operations.ship_log.delete", fails)
        for _ in range(2):
            with pytest.raises(StorageError):
                ship_log(Installation(settings), folder)
    ship_log(Installation(settings), folder)
    assert closed_files(folder, FEEDBACK) == []
    assert len(events(settings)) == 1
