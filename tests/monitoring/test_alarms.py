"""Alarms: only what changed since the batch before and matters, and rarely by chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from small_hospital import draw

from healthpredict.monitoring.alarms import Change, changes_since, column_alarms
from healthpredict.monitoring.contributions import Contribution
from healthpredict.monitoring.data_drift import BatchCounts, compare, count_batch
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import ReferenceProfile

POLICY = DriftPolicy()
QUIET = [{"payer_code": jump, "age": jump} for jump in (0.7, 0.8, 0.9, 0.8)]


def moved(mean: float, error: float = 0.001) -> Contribution:
    return Contribution(mean=mean, error=error)


def change(jump: float = 0.8, unknown: float = 0.0, contribution: Contribution | None = None) -> Change:
    return Change(jump=jump, unknown=unknown, contribution=contribution)


def about(**changes: Change) -> list[str]:
    return [alarm.about for alarm in column_alarms(changes, QUIET, POLICY)]


def test_the_first_batches_of_a_hospital_raise_no_alarm_for_a_jump() -> None:
    jumped = {"payer_code": change(jump=9.0)}
    assert not column_alarms(jumped, QUIET[:3], POLICY), "what is usual is not known yet"
    assert column_alarms(jumped, QUIET, POLICY)


def test_a_jump_is_measured_against_what_is_usual_for_the_column() -> None:
    restless = [{"payer_code": jump} for jump in (4.0, 8.0, 6.0, 5.0)]
    assert not column_alarms({"payer_code": change(jump=9.0)}, restless, POLICY)
    sentence = column_alarms({"payer_code": change(jump=20.0)}, restless, POLICY)[0].sentence
    # Median 5.5, median absolute deviation 1.0, which is 1.48 standard deviations.
    assert sentence == (
        "Since the batch before, the distribution of payer code has changed by 20.0 times what chance explains "
        "(usually up to 11.4)."
    )
    constant = [{"payer_code": 0.0}] * 9
    assert not column_alarms({"payer_code": change(jump=1.9)}, constant, POLICY), "it is small"


def test_a_change_of_the_predictions_has_to_be_large_and_beyond_chance() -> None:
    assert about(age=change(contribution=moved(0.031))) == ["age"]
    assert about(age=change(contribution=moved(-0.031))) == ["age"]
    assert not about(age=change(contribution=moved(0.029)))
    assert not about(age=change(contribution=moved(0.05, error=0.04)))
    assert not about(age=change(contribution=None))


def test_what_moves_the_predictions_most_comes_first_with_all_its_reasons() -> None:
    found = column_alarms(
        {
            "race": change(unknown=0.3),
            "payer_code": change(contribution=moved(0.04)),
            "age": change(jump=9.0, contribution=moved(-0.1)),
        },
        QUIET,
        POLICY,
    )
    assert [alarm.about for alarm in found] == ["age", "payer_code", "race"]
    assert found[0].sentence.startswith(
        "Since the batch before, what age adds to the log-odds of the risk has fallen by 0.100 on average. Since the batch "
        "before, the distribution of age has changed by 9.0 times"
    )
    assert found[2].sentence == "In 30 more of 100 encounters than in the batch before, race is missing or unknown."


Batch = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def before() -> tuple[pd.DataFrame, np.ndarray]:
    return draw(2000, seed=5)


def since(profile: ReferenceProfile, before: tuple[pd.DataFrame, np.ndarray], now: pd.DataFrame) -> dict[str, Change]:
    def counted(encounters: pd.DataFrame) -> BatchCounts:
        return count_batch(profile, encounters, np.full(len(encounters), 0.1))

    counts = counted(before[0]), counted(now)
    return changes_since(profile, compare(profile, counts[1], counts[0]), counts, ({}, {}))


def test_two_alike_batches_do_not_differ(profile: ReferenceProfile, before: tuple[pd.DataFrame, np.ndarray]) -> None:
    changes = since(profile, before, draw(2000, seed=6)[0])
    assert {name for name, found in changes.items() if found.jump >= 1} == set()
    assert all(abs(found.unknown) < 0.05 for found in changes.values())
    same = since(profile, before, before[0])
    assert {found.jump for found in same.values()} == {0.0}


def test_a_column_gone_missing_and_a_new_code_system_are_found(
    profile: ReferenceProfile, before: tuple[pd.DataFrame, np.ndarray]
) -> None:
    now = draw(2000, seed=6)[0]
    now["payer_code"] = pd.Series(np.nan, now.index, dtype="str")
    now["diag_1"] = "E11.9"
    changes = since(profile, before, now)
    raised = {alarm.about: alarm.sentence for alarm in column_alarms(changes, [], POLICY)}
    assert set(raised) == {"payer_code", "diag_1"}
    assert all(sentence.endswith("is missing or unknown.") for sentence in raised.values())
    later = since(profile, (now, before[1]), now)
    assert not column_alarms(later, [], POLICY), "it is no longer new"


def test_records_that_were_mixed_up_jump(profile: ReferenceProfile, before: tuple[pd.DataFrame, np.ndarray]) -> None:
    """Each column looks the same; only its relation to others changes."""

    def tied(encounters: pd.DataFrame) -> pd.DataFrame:
        older = encounters["age"].cat.codes.to_numpy() > 0
        return encounters.assign(number_inpatient=np.where(older, 9, 0))

    mixed = tied(draw(2000, seed=6)[0])
    mixed["number_inpatient"] = np.random.default_rng(0).permutation(mixed["number_inpatient"].to_numpy())
    changes = since(profile, (tied(before[0]), before[1]), mixed)
    assert {name for name, found in changes.items() if found.jump >= 1} == {"age", "number_inpatient"}
