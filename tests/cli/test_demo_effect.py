"""A demo with an effect: batches arrive one after the other, and an interruption changes nothing."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from accepting import accept
from test_demo import run_demo
from typer.testing import CliRunner

from healthpredict.cli import demo_effect
from healthpredict.cli.demo_effect import check_continued, run_with_effect
from healthpredict.cli.main import app
from healthpredict.config import Settings
from healthpredict.data.prepared import PreparedData
from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize
from healthpredict.errors import ConfigurationError
from healthpredict.operations.arrivals import delivered_batches, delivered_outcomes
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare
from healthpredict.operations.report import read_report
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, write_frame

NAMES = ["batch-01", "batch-02", "batch-03"]
STEPS = 2 * len(NAMES) + 1 + 3 * len(NAMES) + 1
"""Files are withheld, which is recorded; then each batch arrives, is processed and gets its interventions; then the loop runs."""


class KilledError(Exception):
    """The demo was killed."""


class Loop:
    """Predicts every batch that has arrived, flags every second encounter, and records what had arrived before each run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.arrived: list[tuple[list[str], list[str]]] = []

    def __call__(self) -> None:
        installation, layout = Installation(self.settings), Layout(self.settings.data_uri)
        batches, outcomes = delivered_batches(installation), delivered_outcomes(installation)
        assert batches.ignored == outcomes.ignored == ()
        assert not [name for folder in (batches, outcomes) for name, file in folder.files.items() if file.waits]
        self.arrived.append((list(batches.files)[1:], list(outcomes.files)[1:]))
        done = {event["batch"] for event in installation.ledger.events("batch")}
        for name in list(batches.files)[1:]:
            if name not in done:
                accept(self.settings, name)
                predicted = read_frame(layout.processed(name), ["encounter_id"]).assign(
                    readmission_risk=0.3, model_version=1
                )
                write_frame(layout.predictions(name), predicted.assign(high_risk=predicted.index % 2 == 0))
                installation.ledger.append("batch", key=name, batch=name, decision="stable")


def settings_in(folder: Path) -> Settings:
    return Settings(data_uri=str(folder / "data"), state_path=folder, initial_share=0.4, n_batches=3)


def prepared_in(folder: Path) -> PreparedData:
    (folder / "source.csv").write_bytes(format_raw(synthesize(1000, 5)))
    return prepare(Installation(settings_in(folder)), str(folder / "source.csv"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedData:
    return prepared_in(tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(settings_in(folder), prepared_in(folder), Loop(settings_in(folder)))
    return planted(settings_in(folder))


def run(settings: Settings, prepared: PreparedData, loop: Callable[[], None], effect: float = 0.5) -> None:
    run_with_effect(settings.state_path, Installation(settings), prepared, effect, loop)


def planted(settings: Settings) -> dict[str, list[list[str]]]:
    """Answers and outcomes of all batches. The times are those of the ledger."""
    layout = Layout(settings.data_uri)
    answers = {
        f"answers {name}": pd.read_csv(layout.interventions(name), dtype=str).drop(columns="acted_at") for name in NAMES
    }
    outcomes = {name: pd.read_csv(layout.outcomes(name), dtype=str) for name in NAMES}
    return {name: frame.fillna("").to_numpy().tolist() for name, frame in (answers | outcomes).items()}


def test_each_batch_arrives_after_the_outcomes_of_the_one_before(settings: Settings, prepared: PreparedData) -> None:
    loop = Loop(settings)
    run(settings, prepared, loop)
    assert loop.arrived == [(NAMES[:1], []), (NAMES[:2], NAMES[:1]), (NAMES, NAMES[:2]), (NAMES, NAMES)]


def test_encounters_arrive_as_they_were_prepared(settings: Settings, prepared: PreparedData) -> None:
    layout = Layout(settings.data_uri)
    before = {name: Path(layout.batch(name)).read_bytes() for name in NAMES}
    run(settings, prepared, Loop(settings))
    assert {name: Path(layout.batch(name)).read_bytes() for name in NAMES} == before


def test_a_demo_that_is_done_only_writes_its_report_again(settings: Settings, prepared: PreparedData) -> None:
    run(settings, prepared, Loop(settings))
    before, loop = planted(settings), Loop(settings)
    run(settings, prepared, loop)
    assert loop.arrived == [(NAMES, NAMES)]
    assert planted(settings) == before


@pytest.mark.parametrize("killed_at", [(step, after) for step in range(1, STEPS + 1) for after in (False, True)])
def test_a_demo_that_was_killed_continues_as_if_it_had_not_been(
    uninterrupted: dict[str, list[list[str]]],
    settings: Settings,
    prepared: PreparedData,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: tuple[int, bool],
) -> None:
    """It is killed before or after any move of a batch, run of the loop, or planting."""
    (step, after), steps = killed_at, 0

    def killing(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            nonlocal steps
            steps += 1
            if not (killed := steps == step) or after:
                function(*arguments)
            if killed:
                raise KilledError

        return call

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(demo_effect, "_move", killing(demo_effect._move))
        patch.setattr(demo_effect, "write_json", killing(demo_effect.write_json))
        patch.setattr(demo_effect, "plant_interventions", killing(demo_effect.plant_interventions))
        run(settings, prepared, killing(Loop(settings)))
    loop = Loop(settings)
    run(settings, prepared, loop)
    assert planted(settings) == uninterrupted
    assert all(set(batches[:-1]) <= set(outcomes) for batches, outcomes in loop.arrived)


def test_a_move_that_was_killed_between_marker_and_file_is_completed(
    settings: Settings, prepared: PreparedData, tmp_path: Path
) -> None:
    withheld = tmp_path / "withheld" / "batches"
    withheld.mkdir(parents=True)
    marker = Path(settings.data_uri, "batches", "batch-01.csv.done")
    marker.replace(withheld / marker.name)
    loop = Loop(settings)
    run(settings, prepared, loop)
    assert loop.arrived[0] == (NAMES[:1], [])


def test_an_interrupted_demo_continues_only_with_its_effect(settings: Settings, prepared: PreparedData) -> None:
    def killed() -> None:
        Installation(settings).ledger.append("training", version=1)
        raise KilledError

    with pytest.raises(KilledError):
        run(settings, prepared, killed)
    check_continued(settings.state_path, Installation(settings), 0.5)
    for effect, shown in ((0.3, "--effect 0.3"), (None, "no --effect")):
        with pytest.raises(ConfigurationError, match=f"began with --effect 0.5, so it cannot continue with {shown}"):
            check_continued(settings.state_path, Installation(settings), effect)


def test_a_demo_that_was_killed_while_it_withheld_batches_needs_an_effect(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "withheld").mkdir()
    check_continued(tmp_path, Installation(settings), 0.3)
    with pytest.raises(ConfigurationError, match="cannot continue with no --effect"):
        check_continued(tmp_path, Installation(settings), None)


def test_a_demo_without_effect_does_not_get_one_later(settings: Settings, prepared: PreparedData) -> None:
    installation = Installation(settings)
    check_continued(settings.state_path, installation, 0.3)
    installation.ledger.append("training", version=1)
    check_continued(settings.state_path, installation, None)
    with pytest.raises(ConfigurationError, match=r"began with no --effect, so it cannot continue with --effect 0\.3"):
        check_continued(settings.state_path, installation, 0.3)


@pytest.mark.parametrize("effect", ["-0.1", "1.01", "nan"])
def test_an_effect_is_a_share(tmp_path: Path, effect: str) -> None:
    (tmp_path / "ports.json").write_text("{}")
    result = CliRunner().invoke(app, ["demo", "--effect", effect, "--fresh", "--state", str(tmp_path)])
    assert isinstance(result.exception, ConfigurationError)
    assert "is no effect. Give the share of readmissions that interventions prevent, from 0 to 1" in str(
        result.exception
    )
    assert (tmp_path / "ports.json").exists(), "nothing is deleted"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        # With fewer flagged encounters, the outcomes without intervention could not be estimated.
        patch.setenv("HEALTHPREDICT_MODEL__ALERT_CAPACITY", "0.4")
        return folder, run_demo(folder, "demo", "--effect", "1")


@pytest.mark.slow
def test_both_readings_and_the_effect_are_printed_and_on_the_page(
    printed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = printed
    assert done.returncode == 0, done.stdout + done.stderr
    auroc, *sentences = re.findall(r"^Effect   (.*)$", done.stdout, re.MULTILINE)
    assert re.fullmatch(
        r"The mean AUROC is 0\.\d{3} for the outcomes as observed, and 0\.\d{3} without interventions\.", auroc
    )
    report = (folder / "reports" / "index.html").read_text()
    assert re.match(r"Of \d+ flagged encounters, \d+ had an accepted intervention\.", sentences[0])
    assert [sentence for sentence in sentences if f"<li>{sentence}</li>" in report] == sentences
    assert "AUROC as observed" in report


@pytest.mark.slow
def test_the_last_outcomes_are_in_the_report(printed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = printed
    layout = Layout(str(folder / "state" / "data"))
    answers = pd.read_csv(layout.interventions("batch-01"))
    outcomes = pd.read_csv(BytesIO(Path(layout.outcomes("batch-01")).read_bytes()))
    treated = outcomes["encounter_id"].isin(answers.loc[answers["response"] == "accepted", "encounter_id"])
    assert treated.any()
    assert not outcomes.loc[treated, "readmitted"].eq("<30").any()
    settings = Settings(data_uri=layout.root, reports_uri=str(folder / "reports"), state_path=folder / "state")
    (batch,) = read_report(Installation(settings)).batches
    assert batch.auroc_observed is not None
