"""The gain of the champion is measured on outcomes that neither it nor the champion before it was trained on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from healthpredict.operations import champion_gain as module
from healthpredict.operations.champion_gain import champion_gain
from healthpredict.operations.read_labelled import UNTREATED
from healthpredict.operations.unseen_outcomes import UnseenOutcomes

TRAINED_ON = {1: ("initial",), 2: ("initial", "batch-01"), 3: ("initial", "batch-02")}
ROWS = 200


class _Ledger:
    """Versions 1 and 2 were promoted."""

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [{"version": 1}, {"version": 2}] if kind == "promotion" else []


class _Registry:
    def version(self, number: int) -> int:
        return number

    def fetch_bundle(self, version: int) -> Any:
        return SimpleNamespace(manifest=SimpleNamespace(trained_version=version, trained_on=TRAINED_ON[version]))


INSTALLATION: Any = SimpleNamespace(registry=_Registry(), ledger=_Ledger())


def unseen(*names: str) -> UnseenOutcomes:
    """Outcomes that the champion's risks separate completely."""
    rows = ROWS * len(names)
    batch = np.repeat(np.arange(len(names)), ROWS)
    label = np.arange(rows) % 10 == 0
    labelled = pd.DataFrame(
        {"patient_id": np.arange(rows), UNTREATED: label.astype(float), "batch": np.array(names)[batch]}
    )
    return UnseenOutcomes(list(names), labelled, np.where(label, 0.9, 0.1), batch)


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The batches that the champion before was asked to predict."""
    asked: list[str] = []

    def risks(_: object, labelled: pd.DataFrame) -> np.ndarray:
        asked.extend(labelled["batch"].unique())
        return np.full(len(labelled), 0.5)

    monkeypatch.setattr(module, "risks_of", risks)
    return asked


def test_a_batch_that_the_champion_before_was_trained_on_is_left_out(predicted: list[str]) -> None:
    gain = champion_gain(INSTALLATION, _Registry().fetch_bundle(3), unseen("batch-01", "batch-03"))
    assert gain is not None
    assert gain.value == pytest.approx(0.5)
    assert predicted == ["batch-03"]


def test_after_a_roll_back_a_newer_champion_is_not_the_one_before(predicted: list[str]) -> None:
    assert champion_gain(INSTALLATION, _Registry().fetch_bundle(1), unseen("batch-01", "batch-02")) is None
    assert predicted == []


def test_no_gain_without_an_outcome_that_is_new_to_both(predicted: list[str]) -> None:
    assert champion_gain(INSTALLATION, _Registry().fetch_bundle(3), unseen("batch-01")) is None
    assert predicted == []
