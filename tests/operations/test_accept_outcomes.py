"""Outcomes that arrive: used if they can be, counted if not, and a bad file takes nothing away."""

from __future__ import annotations

from pathlib import Path

import pytest
from accepting import accept

from healthpredict.config import Settings
from healthpredict.operations.accept_outcomes import (
    accept_outcomes,
    pending_outcomes,
    preview_outcomes,
)
from healthpredict.operations.dataset import data_digest, matured_batches
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.storage.layout import Layout

NAME = "batch-01"


@pytest.fixture
def outcomes(settings: Settings, source: str) -> Path:
    """The file of outcomes of an accepted batch, not looked at yet."""
    prepare(Installation(settings), source)
    accept(settings, NAME)
    return Path(Layout(settings.data_uri).outcomes(NAME))


def deliver(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")
    Path(f"{path}.done").touch()


def known(settings: Settings) -> int:
    return next(found.known for found in preview_outcomes(Installation(settings)) if found.batch == NAME)


def test_whole_outcomes_mature_a_batch_and_are_accepted_once(settings: Settings, outcomes: Path) -> None:
    assert matured_batches(Installation(settings), "batch-02") == ["initial"]
    (accepted,) = accept_outcomes(Installation(settings)).accepted
    assert accepted.matured
    assert accepted.known == accepted.at_risk == known(settings)
    assert accepted.problems == (), "those who died or went to hospice are encounters of the batch"
    assert accepted.rows == 100 > accepted.at_risk
    assert accept_outcomes(Installation(settings)) == ([], [])
    assert matured_batches(Installation(settings), "batch-02") == ["initial", NAME]
    (event,) = Installation(settings).ledger.events("outcomes")
    assert (event["batch"], event["file"], event["known"]) == (NAME, f"outcomes/{NAME}.csv", accepted.known)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(lambda lines: [], "It is not used: it is empty", id="empty"),
        pytest.param(lambda lines: lines[:1], "The outcomes of 0 of", id="no rows"),
        pytest.param(lambda lines: ["encounter_id,result", *lines[1:]], "missing columns: readmitted", id="columns"),
        pytest.param(lambda lines: [*lines[:5], '1,"NO', *lines[5:]], "line 6: a quote", id="unreadable line"),
        pytest.param(
            lambda lines: [lines[0], *(f"9{line}" for line in lines[1:])],
            "100 outcomes match no encounter", id="strangers",
        ),
        pytest.param(lambda lines: lines[:31], "until more are", id="few"),
        pytest.param(
            lambda lines: [line.replace(",NO", ",no") for line in lines],
            "rows are not used: readmitted is not one of", id="vocabulary",
        ),
        pytest.param(
            lambda lines: [*lines, *(line.rpartition(",")[0] + ",<30" for line in lines[1:] if ",NO" in line)],
            "have contradictory outcomes, which are not used", id="contradicting",
        ),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named_and_the_right_one_is_used_later(
    settings: Settings, outcomes: Path, change: object, problem: str
) -> None:
    assert callable(change)
    right = outcomes.read_text().splitlines()
    deliver(outcomes, change(right))
    (accepted,) = accept_outcomes(Installation(settings)).accepted
    assert not accepted.matured
    assert any(problem in sentence and sentence.startswith(f"outcomes/{NAME}.csv: ") for sentence in accepted.sentences)
    assert matured_batches(Installation(settings), "batch-02") == ["initial"]
    assert Installation(settings).ledger.events("outcomes")[-1]["problems"] == list(accepted.problems)
    deliver(outcomes, right)
    assert known(settings) == accepted.at_risk, "looking changes nothing"
    (accepted,) = accept_outcomes(Installation(settings)).accepted
    assert accepted.matured
    assert len(read_labelled(Installation(settings), [NAME]).frame) == accepted.at_risk


def test_a_bad_file_later_takes_nothing_away(settings: Settings, outcomes: Path) -> None:
    right = outcomes.read_text().splitlines()
    accept_outcomes(Installation(settings))
    before, digest = read_labelled(Installation(settings), [NAME]).frame, data_digest(Installation(settings), [NAME])
    for lines in ([], right[:31], ["nonsense"]):
        deliver(outcomes, lines)
        (accepted,) = accept_outcomes(Installation(settings)).accepted
        assert accepted.matured
        assert f"The {len(before)} outcomes that were accepted before stay in use." in accepted.problems
        assert data_digest(Installation(settings), [NAME]) == digest


def test_corrected_outcomes_replace_those_before(settings: Settings, outcomes: Path) -> None:
    accept_outcomes(Installation(settings))
    deliver(outcomes, [line.replace(",>30", ",<30") for line in outcomes.read_text().splitlines()])
    before = read_labelled(Installation(settings), [NAME]).frame["readmitted_within_30_days"].sum()
    accept_outcomes(Installation(settings))
    assert read_labelled(Installation(settings), [NAME]).frame["readmitted_within_30_days"].sum() > before
    assert len(Installation(settings).ledger.events("outcomes")) == 2


def test_enough_is_a_setting(settings: Settings, outcomes: Path) -> None:
    deliver(outcomes, outcomes.read_text().splitlines()[:31])
    (accepted,) = accept_outcomes(Installation(settings.model_copy(update={"known_share": 0.2}))).accepted
    assert accepted.matured


def test_outcomes_that_wait_or_have_no_batch_are_reported(settings: Settings, outcomes: Path) -> None:
    outcomes.with_name("batch-77.csv").write_text("encounter_id,readmitted\n1,NO\n")
    Path(f"{outcomes}.done").unlink()
    (outcomes.parent / "folder").mkdir()
    said = pending_outcomes(Installation(settings))
    assert [name for name in (NAME, "batch-77", "folder") if not any(name in sentence for sentence in said)] == []
    assert accept_outcomes(Installation(settings)) == ([], [])
