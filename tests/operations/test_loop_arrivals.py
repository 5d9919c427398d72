"""The loop goes on when files come and go while it runs, and reports it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from accepting import accept

from healthpredict.config import Settings
from healthpredict.data.raw import format_raw, read_encounters
from healthpredict.errors import BatchRefused
from healthpredict.evaluation.interval import Interval
from healthpredict.monitoring.alert_rate import AlertRate
from healthpredict.monitoring.data_drift import ColumnDrift, DataDrift
from healthpredict.monitoring.policy import DriftDecision
from healthpredict.operations import accept_batch as accepting
from healthpredict.operations import arrivals
from healthpredict.operations.accept_batch import AcceptedBatch, accept_batch
from healthpredict.operations.accept_outcomes import preview_outcomes
from healthpredict.operations.arrivals import DeliveredFile
from healthpredict.operations.dataset import arrived_batches
from healthpredict.operations.detect_drift import DriftCheck
from healthpredict.operations.drift_loop import LoopRun, Steps, drift_loop
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import Pending, find_pending
from healthpredict.operations.predict_batch import PredictedBatch
from healthpredict.operations.prepare import prepare
from healthpredict.operations.search import TrainingRequest
from healthpredict.storage import ledger
from healthpredict.storage.layout import Layout
from healthpredict.storage.uris import list_uris, local_copy, read_bytes, write_bytes
from healthpredict.training.gate import GateDecision


@pytest.fixture
def settings(settings: Settings, source: str, tracking_uri: str) -> Settings:
    """Two batches wait, and a version was promoted. Nothing is rolled out."""
    rollout = settings.rollout.model_copy(update={"target": "none"})
    settings = settings.model_copy(update={"tracking_uri": tracking_uri, "model_name": "arrivals", "rollout": rollout})
    prepare(Installation(settings), source)
    Installation(settings).ledger.append("promotion", version=1)
    return settings


def unused(*_: object) -> Any:
    raise AssertionError("no batch gets this far")


def refuse(_: Installation, file: DeliveredFile) -> AcceptedBatch:
    raise BatchRefused(file.name, "it is a test")


def run(settings: Settings, accept: Any = refuse) -> LoopRun:
    return drift_loop(Installation(settings), Steps(accept, unused, unused, unused, unused, unused))


def remove_before_reading(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Remove a file after it was listed, when it is about to be read."""

    @contextmanager
    def removing(uri: str) -> Iterator[Path]:
        if uri == path:
            Path(path).unlink(missing_ok=True)
        with local_copy(uri) as copy:
            yield copy

    monkeypatch.setattr(arrivals, "local_copy", removing)


def test_a_batch_is_predicted_after_the_update_that_it_leads_to(settings: Settings) -> None:
    taken: list[str] = []

    def train(installation: Installation, training: TrainingRequest) -> None:
        taken.append(f"train {training.arriving}")
        installation.ledger.append("training", version=2, **training.model_dump())
        decision = GateDecision(promote=True, reasons=(), rows=1, auroc=0.7, champion_auroc=None, difference=None)
        installation.ledger.append("gate", version=2, arriving=training.arriving, **decision.model_dump(mode="json"))

    column = ColumnDrift(column="age", method="wasserstein", score=0.0, threshold=0.1)

    def detect(_: Installation, name: str) -> DriftCheck:
        taken.append(f"detect {name}")
        return DriftCheck(
            batch=name,
            champion=1,
            trained_version=1,
            rows=1,
            data=DataDrift(rows=1, columns=(column,), joint=(), prediction=()),
            concept=None,
            subgroups=(),
            alert_rate=AlertRate(promised=0.2, flagged=Interval(value=0.2, low=0.1, high=0.3), broken=False),
            decision=DriftDecision(state="retrain" if name == "batch-02" else "stable", reasons=(), columns=()),
            override=None,
            report_uri="",
            seconds={},
        )

    def predict(_: Installation, name: str) -> PredictedBatch:
        taken.append(f"predict {name}")
        return PredictedBatch(version=2 if "deploy 2" in taken else 1, live=False, expected_auroc=0.6)

    steps = Steps(
        detect=detect, train=train, promote=lambda _, version: taken.append(f"deploy {version}"), predict=predict
    )
    drift_loop(Installation(settings), steps)
    assert taken == [
        "detect batch-01",
        "predict batch-01",
        "detect batch-02",
        "train batch-02",
        "deploy 2",
        "predict batch-02",
    ]
    events = Installation(settings).ledger.events("batch")
    assert [(event["champion_before"], event["champion"]) for event in events] == [(1, 1), (1, 2)]


def test_a_run_reads_the_ledger_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check at its end reads it again, because it checks what is stored."""
    run(settings)
    listed, read = [], Counter[str]()

    def counting(uri: str) -> bytes:
        read[uri] += 1
        return read_bytes(uri)

    monkeypatch.setattr(ledger, "list_uris", lambda *a, **k: listed.append(a) or list_uris(*a, **k))
    monkeypatch.setattr(ledger, "read_bytes", counting)
    assert run(settings).done == []
    assert len(listed) == 2
    assert set(read.values()) == {2}


def test_a_batch_that_is_removed_after_it_was_listed_is_reported(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_before_reading(monkeypatch, Layout(settings.data_uri).batch("batch-01"))
    ran = run(settings)
    assert ran.done == ["batch-02"]
    assert "batches/batch-01.csv was removed before it was read." in ran.sentences


def test_a_batch_that_is_removed_before_it_is_accepted_is_reported(settings: Settings) -> None:
    def accept_late(installation: Installation, file: DeliveredFile) -> AcceptedBatch:
        if file.name == "batch-01":
            Path(file.stored.uri).unlink()
            return accept_batch(installation, file)
        return refuse(installation, file)

    ran = run(settings, accept_late)
    assert ran.done == ["batch-02"]
    assert "batches/batch-01.csv was removed before it was read." in ran.sentences


def test_a_refused_batch_that_is_removed_is_not_pending(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its content is compared with the refused one, because its version at the store differs."""
    run(settings)
    batch = Layout(settings.data_uri).batch("batch-01")
    Path(batch).touch()
    remove_before_reading(monkeypatch, batch)
    assert find_pending(Installation(settings)).names == []


def test_outcomes_that_are_removed_after_they_were_listed_are_reported(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("batch-01", "batch-02"):
        accept(settings, name)
    outcomes = Path(Layout(settings.data_uri).outcomes("batch-01"))
    content = outcomes.read_bytes()
    remove_before_reading(monkeypatch, str(outcomes))
    assert [found.batch for found in preview_outcomes(Installation(settings))] == ["initial", "batch-02"]
    outcomes.write_bytes(content)
    Path(f"{outcomes}.done").touch()
    ran = run(settings)
    assert ran.done == ["batch-01", "batch-02"]
    assert "outcomes/batch-01.csv was removed before it was read." in ran.sentences
    assert [event["batch"] for event in Installation(settings).ledger.events("outcomes")] == ["batch-02"]


@pytest.mark.parametrize("marker", [True, False])
def test_outcomes_that_may_still_be_copied_need_another_run(settings: Settings, marker: bool) -> None:
    """As batches do: otherwise they would wait for the nightly run."""
    run(settings)
    outcomes = Layout(settings.data_uri).outcomes("batch-01")
    Path(outcomes).touch()
    done = Path(f"{outcomes}.done")
    done.touch() if marker else done.unlink()
    assert run(settings).needs_rerun is not marker


def test_a_file_with_a_time_in_the_future_needs_a_person_and_no_further_run(settings: Settings) -> None:
    """Else runs would follow each other until that time."""
    run(settings)
    outcomes = Layout(settings.data_uri).outcomes("batch-01")
    Path(f"{outcomes}.done").unlink()
    tomorrow = time.time() + 86_400
    os.utime(outcomes, (tomorrow, tomorrow))
    ran = run(settings)
    assert any("its modification time is in the future" in sentence for sentence in ran.open_points)
    assert not ran.needs_rerun


def test_a_first_training_that_began_before_a_batch_arrived_is_found(settings: Settings) -> None:
    """It was killed after the search, or its model did not pass the gate; then a batch arrived."""
    installation = Installation(settings.model_copy(update={"data_uri": f"{settings.data_uri}-2"}))
    deployed: list[int] = []

    def train(installation: Installation, training: TrainingRequest) -> None:
        installation.ledger.append("training", version=1, trigger="initial", arriving="initial")
        decision = GateDecision(promote=True, reasons=(), rows=1, auroc=0.7, champion_auroc=None, difference=None)
        installation.ledger.append("gate", version=1, arriving=training.arriving, **decision.model_dump(mode="json"))

    for name in ("batches/batch-01.csv", "batches/batch-01.csv.done"):
        write_bytes(f"{installation.settings.data_uri}/{name}", b"encounter_id\n")
    steps = Steps(refuse, train=train, promote=lambda _, version: deployed.append(version))
    assert drift_loop(installation, steps).done == ["batch-01"]
    assert deployed == [1]


def test_a_batch_that_was_killed_while_it_was_accepted_leaves_no_encounters(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is refused when it is delivered again, and its encounters come under another name."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    layout = Layout(settings.data_uri)
    delivered = read_bytes(layout.batch("batch-01"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(accepting, "write_json", killed)
        accept(settings, "batch-01")
    assert Path(layout.processed("batch-01")).exists()
    raw = read_encounters(delivered, "batch-01").frame
    Path(layout.batch("batch-01")).write_bytes(format_raw(raw.assign(age="71")))
    Path(f"{layout.batch('batch-01')}.done").touch()
    with pytest.raises(BatchRefused):
        accept(settings, "batch-01")
    Path(layout.batch("batch-02")).write_bytes(delivered)
    Path(f"{layout.batch('batch-02')}.done").touch()
    assert accept(settings, "batch-02").quarantined == 0
    Path(layout.batch("batch-01")).unlink()
    assert arrived_batches(Installation(settings)) == ["initial", "batch-02"]


def test_the_page_of_a_flow_run_shows_the_notices_of_every_look_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look finds another batch meanwhile. What was pending then is not pending any more."""
    from flows import drift_loop as flow

    looks = iter(
        [
            LoopRun(
                done=["a"], notices=["a is odd.", "both"], open_points=["b is pending.", "ignored"], needs_rerun=False
            ),
            LoopRun(done=["b"], notices=["both", "b is odd."], open_points=["ignored"], needs_rerun=False),
        ]
    )
    ready = iter([["b"], []])
    shown: list[str] = []
    monkeypatch.setattr(flow.loop, "drift_loop", lambda *_: next(looks))
    monkeypatch.setattr(flow, "as_task", lambda _: lambda *_: None)
    monkeypatch.setattr(flow, "Installation", lambda: Installation(settings))
    monkeypatch.setattr(flow, "find_pending", lambda _: Pending({}, next(ready), {}, {}, []))
    monkeypatch.setattr(flow, "show_history", lambda _: None)
    monkeypatch.setattr(flow, "show_notices", shown.extend)
    assert flow.drift_loop.fn() == ["a", "b"]
    assert shown == ["a is odd.", "both", "b is odd.", "ignored"]
