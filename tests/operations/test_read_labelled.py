"""Labelled encounters say who was treated, and what the outcomes would have been without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accepting import accept

from healthpredict.config import Settings
from healthpredict.evaluation import untreated
from healthpredict.operations.accept_interventions import accept_interventions
from healthpredict.operations.accept_outcomes import accept_outcomes
from healthpredict.operations.dataset import LABEL, data_digest
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare
from healthpredict.operations.read_labelled import (
    FOR_TRAINING,
    UNTREATED,
    Labelled,
    outcomes_of,
    read_labelled,
    with_outcome,
)
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, write_frame

NAMES = ("batch-01", "batch-02")
TREATED = NAMES[1]


@pytest.fixture
def flagged(settings: Settings, source: str) -> list[int]:
    """Two batches with outcomes. Every second encounter was flagged; those of the second batch are returned."""
    installation = Installation(settings)
    prepare(installation, source)
    for name in NAMES:
        accept(settings, name)
        layout = Layout(settings.data_uri)
        predicted = read_frame(layout.processed(name), ["encounter_id"])
        risk = np.linspace(0.05, 0.4, len(predicted))
        predicted = predicted.assign(readmission_risk=risk, model_version=1, high_risk=predicted.index % 2 == 0)
        write_frame(layout.predictions(name), predicted)
    accept_outcomes(installation)
    return [int(number) for number in predicted.loc[predicted["high_risk"], "encounter_id"]]


def report(settings: Settings, rows: list[str], name: str = TREATED) -> Labelled:
    path = Path(settings.data_uri, "interventions", f"{name}.csv")
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["encounter_id,kind,response,reason,acted_at", *rows]) + "\n")
    Path(f"{path}.done").touch()
    accept_interventions(Installation(settings))
    return read_labelled(Installation(settings), NAMES)


def answers(numbers: list[int], accepted: int) -> list[str]:
    return [
        f"{number},call,{'accepted' if i < accepted else 'overridden'},,2026-02-03" for i, number in enumerate(numbers)
    ]


def test_without_reports_all_outcomes_are_those_observed(settings: Settings, flagged: list[int]) -> None:
    labelled = read_labelled(Installation(settings), NAMES)
    assert labelled.overlap is None
    assert labelled.frame[FOR_TRAINING].all()
    outcomes = outcomes_of(labelled.frame)
    assert outcomes.dtype == bool
    np.testing.assert_array_equal(outcomes, labelled.frame[LABEL])


def test_that_nothing_was_done_changes_no_figure(settings: Settings, flagged: list[int]) -> None:
    before = read_labelled(Installation(settings), NAMES)
    after = report(settings, [f"{number},,none,," for number in flagged])
    assert after.overlap is None
    pd.testing.assert_frame_equal(after.frame, before.frame)


def test_treated_encounters_are_estimated_and_not_learned(
    settings: Settings, flagged: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untreated, "_SMALLEST_SAMPLE", 10)  # the batch is small
    digest = data_digest(Installation(settings), NAMES)
    accepted = len(flagged) // 3
    labelled = report(settings, answers(flagged, accepted))
    assert labelled.overlap is not None
    assert labelled.overlap.is_enough
    assert (labelled.overlap.flagged, labelled.overlap.treated) == (len(flagged), accepted)
    first, second = labelled.parts
    assert first[FOR_TRAINING].all()
    np.testing.assert_array_equal(first[UNTREATED], first[LABEL])
    treated = second["encounter_id"].isin(flagged[:accepted])
    assert (~second[FOR_TRAINING] == treated).all()
    assert outcomes_of(second).dtype == float
    assert not np.isin(second.loc[treated, UNTREATED], (0, 1)).any()
    not_flagged = ~second["encounter_id"].isin(flagged)
    np.testing.assert_array_equal(second.loc[not_flagged, UNTREATED], second.loc[not_flagged, LABEL])
    assert data_digest(Installation(settings), NAMES) != digest


def test_if_it_cannot_be_known_only_batches_without_interventions_are_judged(
    settings: Settings, flagged: list[int]
) -> None:
    labelled = report(settings, answers(flagged, len(flagged)))
    assert labelled.overlap is not None and not labelled.overlap.is_enough
    first, second = labelled.parts
    assert second[UNTREATED].isna().all()
    pd.testing.assert_frame_equal(with_outcome(labelled.frame), first)
    assert outcomes_of(with_outcome(labelled.frame)).dtype == bool


def test_flagged_encounters_without_a_report_are_not_known(settings: Settings, flagged: list[int]) -> None:
    labelled = report(settings, answers(flagged[:10], 5))
    assert labelled.overlap is not None and not labelled.overlap.is_enough
    assert labelled.overlap.unknown == len(flagged) - 10


@pytest.mark.parametrize("flags", [None, "no column"])
def test_in_silence_no_intervention_is_an_effect_of_the_model(
    settings: Settings, flagged: list[int], flags: str | None
) -> None:
    """So the outcomes count as they were observed. The same holds where it is not known who was flagged."""
    uri = Layout(settings.data_uri).predictions(TREATED)
    predicted = read_frame(uri).drop(columns="high_risk")
    write_frame(uri, predicted if flags else predicted.assign(high_risk=None))
    labelled = report(settings, answers(flagged, len(flagged)))
    assert labelled.overlap is None
    assert labelled.frame[FOR_TRAINING].all()
    assert outcomes_of(labelled.frame).dtype == bool


def test_interventions_without_a_flag_are_no_effect_of_the_model(settings: Settings, flagged: list[int]) -> None:
    part = read_labelled(Installation(settings), [TREATED]).frame
    others = [int(number) for number in part["encounter_id"] if number not in flagged]
    nothing = [f"{number},,none,," for number in flagged]
    labelled = report(settings, [*answers(others, len(others)), *nothing])
    assert labelled.overlap is None
    np.testing.assert_array_equal(outcomes_of(labelled.frame), labelled.frame[LABEL])


def test_an_open_offer_is_not_known(settings: Settings, flagged: list[int]) -> None:
    offers = [f"{number},visit,offered,,2026-02-03" for number in flagged[:3]]
    labelled = report(settings, [*answers(flagged, 0), *offers])
    assert labelled.overlap is not None
    assert (labelled.overlap.unknown, labelled.overlap.treated) == (3, 0)


def test_a_batch_in_which_nothing_was_done_is_judged_even_if_another_one_is_not(
    settings: Settings, flagged: list[int]
) -> None:
    predicted = read_frame(Layout(settings.data_uri).predictions(NAMES[0]))
    nothing = [f"{number},,none,," for number in predicted.loc[predicted["high_risk"], "encounter_id"]]
    report(settings, nothing, NAMES[0])
    first, second = report(settings, answers(flagged, len(flagged))).parts
    assert outcomes_of(first).dtype == bool
    assert first[FOR_TRAINING].all()
    assert second[UNTREATED].isna().all()


def test_held_back_flags_are_observed_whatever_was_done(settings: Settings, flagged: list[int]) -> None:
    uri, held = Layout(settings.data_uri).predictions(TREATED), flagged[:20]
    predicted = read_frame(uri)
    flag = predicted["high_risk"] & ~predicted["encounter_id"].isin(held)
    probability = predicted["high_risk"].map({True: 0.4, False: None})
    write_frame(uri, predicted.assign(high_risk=flag, hold_out_probability=probability))
    labelled = report(settings, answers(flagged, len(flagged)))
    assert labelled.overlap is not None
    assert (labelled.overlap.flagged, labelled.overlap.treated) == (len(flagged), len(flagged) - len(held))
    learned = labelled.parts[1].loc[labelled.parts[1][FOR_TRAINING], "encounter_id"]
    assert set(held) <= set(learned)
