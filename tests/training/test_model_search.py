"""A search in a real Ray: two local nodes of one core each, reached by address."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from encoded_hospital import Hospital
from killed_search import KNOWN, N_TRIALS, NAME, PARAMS, Notes, limited, read_notes, search

from healthpredict.registry.models import Registry
from healthpredict.registry.trials import trial_logger
from healthpredict.training.budget import TimeBudget
from healthpredict.training.candidates import SearchResult
from healthpredict.training.families import FAMILIES, STEPS
from healthpredict.training.search import METRIC

FIRST_POINT = {"family": "logistic_regression"} | {
    f"logistic_regression.{name}": value for name, value in FAMILIES["logistic_regression"].first.items()
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def registry(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(tracking_uri, "searched", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def searched(
    cluster: str, hospital: Hospital, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SearchResult, Path, str]:
    """A complete search of two families, the folder with its notes, and the MLflow run that it belongs to."""
    folder = tmp_path_factory.mktemp("search")
    run_id = registry.open_run("train", {"trigger": "search test"})
    logger = trial_logger(registry.tracking_uri, registry.experiment, run_id, METRIC)
    result = search(
        hospital, folder, params=limited(3), callbacks=[Notes(folder / "notes"), logger], ray_address=cluster
    )
    return result, folder, run_id


def test_the_best_of_each_family_is_returned_best_first(
    searched: tuple[SearchResult, Path, str], hospital: Hospital
) -> None:
    result, folder, _ = searched
    assert {c.family for c in result.candidates} == {"logistic_regression", "random_forest"}
    assert result.best == result.candidates[0]
    complete = [c.validation_auroc for c in result.candidates if c.steps == STEPS]
    assert complete == sorted(complete, reverse=True)
    ended = [note for note in read_notes(folder / "notes") if note["event"] == "complete"]
    for candidate in result.candidates:
        assert set(candidate.params) == set(FAMILIES[candidate.family].first)
        same = [note for note in ended if note["config"]["family"] == candidate.family]
        highest = max((note["steps"], note["auroc"]) for note in same)[1]
        assert candidate.validation_auroc == highest
    assert result.trials == len(ended) == 3
    assert result.stopped_early == sum(note["steps"] < STEPS for note in ended)


def test_every_family_starts_with_its_first_guess(searched: tuple[SearchResult, Path, str]) -> None:
    _, folder, _ = searched
    tried = [note["config"] for note in read_notes(folder / "notes") if note["event"] == "start"]
    for family in PARAMS.families:
        first = {"family": family} | {f"{family}.{key}": value for key, value in FAMILIES[family].first.items()}
        assert first in tried[:2]


def test_trials_run_on_both_nodes(searched: tuple[SearchResult, Path, str]) -> None:
    """Two trials run at a time, and each node has one core. Each trial has a process of its own."""
    _, folder, _ = searched
    running, most = 0, 0
    for note in read_notes(folder / "notes"):
        running += 1 if note["event"] == "start" else -1
        most = max(most, running)
    assert most == 2
    pids = [note["pid"] for note in read_notes(folder / "notes") if note["event"] == "complete"]
    assert len(set(pids)) == len(pids) == 3


def test_a_complete_search_leaves_no_state(searched: tuple[SearchResult, Path, str]) -> None:
    """Otherwise the next search of this name would resume it."""
    _, folder, _ = searched
    assert list((folder / "state").iterdir()) == []


def test_every_trial_is_a_run_nested_under_the_search(
    searched: tuple[SearchResult, Path, str], registry: Registry
) -> None:
    """With its parameters and its AUROC at each report, and nothing about the machine."""
    result, _, run_id = searched
    nested = registry.client.search_runs([registry.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
    assert len(nested) == result.trials == 3
    assert {run.info.status for run in nested} == {"FINISHED"}
    assert all(set(run.data.metrics) == {METRIC, "training_iteration"} for run in nested)
    assert max(run.data.metrics[METRIC] for run in nested) >= result.best.validation_auroc
    best = [run for run in nested if run.data.params["family"] == result.best.family]
    names = {f"{result.best.family}.{name}" for name in result.best.params} | {"family"}
    assert all(set(run.data.params) == names for run in best)
    history = registry.client.get_metric_history(nested[0].info.run_id, METRIC)
    assert 3 <= len(history) <= STEPS


def test_a_search_without_time_still_completes_a_trial(cluster: str, hospital: Hospital, tmp_path: Path) -> None:
    """Then it ends, although nineteen trials are left."""
    result = search(hospital, tmp_path, params=limited(20, seconds=0.001, max_concurrent=1), ray_address=cluster)
    assert result.best.steps == STEPS
    assert result.trials < 20


def test_a_budget_waits_for_one_complete_trial() -> None:
    """After its time, the search ends only once a trial has reported its last step."""
    budget = TimeBudget(-1, last_step=10)
    assert not budget("a", {"step": 9})
    assert not budget.stop_all()
    assert not budget("b", {"step": 10}), "a single trial is never stopped"
    assert budget.stop_all()
    patient = TimeBudget(60, last_step=10)
    patient("a", {"step": 10})
    assert not patient.stop_all(), "there is time left"


def test_the_time_in_which_a_search_was_interrupted_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = TimeBudget(60, last_step=1)
    budget("trial", {"step": 1})
    saved = pickle.dumps(budget)
    days_later = time.time() + 3 * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: days_later)
    restored = pickle.loads(saved)
    assert budget.stop_all() and not restored.stop_all()
    monkeypatch.setattr(time, "time", lambda: days_later + 61)
    assert restored.stop_all()


@pytest.fixture(scope="module")
def killed(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """The folder of a search that was killed in a process with its own local Ray, and the trials that were complete.

    Ray saves its state every second: what was complete three seconds before the kill has to be in it.
    """
    folder = tmp_path_factory.mktemp("killed")
    here = Path(__file__).parent
    run_id = registry.open_run("train", {"trigger": "killed search"})
    arguments = (str(folder), registry.tracking_uri, registry.experiment, run_id)
    process = subprocess.Popen(
        [sys.executable, "-c", f"import killed_search; killed_search.search_slowly(*{arguments!r})"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 600  # on a busy machine, Ray alone takes minutes to start
    done: set[str] = set()
    while not done:
        assert process.poll() is None, "the search ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.05)
        ended = [note for note in read_notes(folder / "notes") if note["event"] == "complete"]
        done = {note["trial"] for note in ended if note["time"] < time.time() - 3}
    process.send_signal(signal.SIGKILL)
    process.wait()
    return folder, done


def test_known_candidates_come_first(killed: tuple[Path, set[str]]) -> None:
    """After the first parameters of the preferred family."""
    folder, _ = killed
    tried = [note["config"] for note in read_notes(folder / "notes") if note["event"] == "start"]
    assert tried[:3] == [FIRST_POINT, *(candidate.as_point for candidate in KNOWN)][: len(tried)]
    assert {config["family"] for config in tried} == {"logistic_regression"}


def test_the_first_parameters_and_those_of_the_champion_are_finalists(
    cluster: str, hospital: Hospital, tmp_path: Path
) -> None:
    """The preferred family is searched, although the champion is of another."""
    preferred = limited(2).model_copy(update={"families": ("random_forest", "logistic_regression")})
    result = search(hospital, tmp_path, params=preferred, known=KNOWN[:1], ray_address=cluster)
    assert [candidate.family for candidate in result.finalists] == ["random_forest", "logistic_regression"]
    assert result.finalists[0].params == FAMILIES["random_forest"].first
    assert result.finalists[1].as_point == KNOWN[0].as_point


def test_a_champion_with_the_first_parameters_is_one_finalist(cluster: str, hospital: Hospital, tmp_path: Path) -> None:
    champion = KNOWN[0].model_copy(update={"params": dict(FAMILIES["logistic_regression"].first)})
    result = search(hospital, tmp_path, params=limited(1), known=[champion], ray_address=cluster)
    assert [candidate.as_point for candidate in result.finalists] == [FIRST_POINT]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "garbled": lambda data: bytes(reversed(data)),
    "missing": lambda data: None,
}


@pytest.mark.parametrize(
    ("files", "damage"),
    [
        ("tuner.pkl", "missing"),
        ("experiment_state-*.json", "empty"),
        ("searcher-state-*.pkl", "garbled"),
        ("callback-states-*.pkl", "truncated"),
    ],
)
def test_a_search_whose_state_is_damaged_starts_over_and_says_so(  # noqa: PLR0917 -- fixtures
    cluster: str,
    hospital: Hospital,
    killed: tuple[Path, set[str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    files: str,
    damage: str,
) -> None:
    shutil.copytree(killed[0] / "state", tmp_path / "state")
    damaged = list((tmp_path / "state" / NAME).glob(files))
    assert damaged
    for path in damaged:
        data = DAMAGES[damage](path.read_bytes())
        path.unlink() if data is None else path.write_bytes(data)
    result = search(hospital, tmp_path, params=limited(1), known=KNOWN[:1], ray_address=cluster)
    assert result.best.steps == STEPS
    assert not (tmp_path / "state" / NAME).exists()
    assert result.trials == 2, "the first parameters and those of the champion"
    assert "is damaged" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_killed_search_goes_on_without_repeating_trials(
    cluster: str, hospital: Hospital, killed: tuple[Path, set[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """Under the same name, here on another Ray: all trials in the end, and none of the complete ones again.

    A family that is not among the known candidates is not searched, neither before nor after. The progress continues.
    """
    folder, done = killed
    before = read_notes(folder / "notes")
    assert 1 <= len(done) < N_TRIALS
    assert (folder / "state" / NAME).is_dir()

    with caplog.at_level(logging.INFO, logger="healthpredict"):
        result = search(hospital, folder, known=KNOWN, ray_address=cluster)

    progress = [record.trials for record in caplog.records if hasattr(record, "trials")]
    ended_before = progress[0][0]
    assert len(done) <= ended_before < N_TRIALS
    assert progress[:-1] == [(ended, N_TRIALS) for ended in range(ended_before, N_TRIALS + 1)]
    assert progress[-1] == (N_TRIALS, N_TRIALS), "the end of the search"
    notes = read_notes(folder / "notes")
    assert result.trials == N_TRIALS
    assert done.isdisjoint(note["trial"] for note in notes[len(before) :] if note["event"] == "start")
    tried = [note["config"] for note in notes if note["event"] == "start"]
    assert {config["family"] for config in tried} == {"logistic_regression"}
    assert tried.count(KNOWN[0].as_point) == 1
    assert {candidate.family for candidate in result.candidates} == {"logistic_regression"}
    assert result.best.steps == STEPS
    assert not (folder / "state" / NAME).exists()
