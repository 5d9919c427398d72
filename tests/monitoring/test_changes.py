"""Alarms: only what changed since the batch before and matters, and rarely by chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_hospital import draw

from healthpredict.monitoring.changes import Change, Jump, changes_since, column_alarms
from healthpredict.monitoring.contributions import Contribution
from healthpredict.monitoring.data_drift import BatchCounts, ColumnDrift, count_batch
from healthpredict.monitoring.distances import MISSING, Method
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import ReferenceProfile, build_profile
from healthpredict.monitoring.words import describe

POLICY = DriftPolicy()
QUIET = [dict.fromkeys(("payer_code", "age", "race", "number_inpatient"), jump) for jump in (0.7, 0.8, 0.9, 0.8, 0.7)]
Frame = tuple[pd.DataFrame, np.ndarray]


def change(
    size: float = 1.0, unknown: float = 0.0, moved: float | None = None, error: float = 0.001, before: float = 0.5
) -> Change:
    return Change(
        distribution=Jump(size=size, description="a distance", partner=None),
        relation=None,
        unknown_rise=unknown,
        contribution=None if moved is None else Contribution(mean=before + moved, error=error),
        contribution_change=None if moved is None else Contribution(mean=moved, error=error),
    )


def alarms_about(**changes: Change) -> dict[str, str]:
    return {alarm.about: alarm.sentence for alarm in column_alarms(changes, QUIET, POLICY)}


def about(**changes: Change) -> list[str]:
    return list(alarms_about(**changes))


def test_the_first_batches_of_a_hospital_raise_no_alarm_for_a_jump() -> None:
    jumped = {"payer_code": change(size=9.0)}
    assert not column_alarms(jumped, QUIET[:4], POLICY), "what is usual is not known yet"
    assert column_alarms(jumped, QUIET, POLICY)


def test_a_jump_is_measured_against_what_is_usual_for_the_column() -> None:
    restless = [{"payer_code": jump} for jump in (4.0, 8.0, 6.0, 5.0, 5.5)]
    assert not column_alarms({"payer_code": change(size=8.0)}, restless, POLICY)
    sentence = column_alarms({"payer_code": change(size=20.0)}, restless, POLICY)[0].sentence
    # Median 5.5, median absolute deviation .5, which is .74 standard deviations.
    assert sentence == (
        "A distribution has changed since the batch before, by 20.0 times what chance explains (an alarm begins at 8.5): "
        "a distance."
    )
    constant = [{"payer_code": 0.0}] * 9
    assert not column_alarms({"payer_code": change(size=1.9)}, constant, POLICY), "it is small"


def test_a_break_and_its_repair_do_not_become_usual() -> None:
    broken = [{"payer_code": jump} for jump in (0.8, 0.9, 20.0, 22.0, 0.7)]
    assert column_alarms({"payer_code": change(size=15.0)}, broken, POLICY)


def test_a_change_of_the_predictions_has_to_be_large_and_beyond_chance() -> None:
    assert about(age=change(moved=0.031)) == ["age"]
    assert about(age=change(moved=-0.031)) == ["age"]
    assert not about(age=change(moved=0.029))
    assert not about(age=change(moved=0.05, error=0.04))
    assert not about(age=change())
    assert not about(age=change(size=0.9, moved=0.05)), "another column of its pairs changed, not the age"


def test_what_moves_the_predictions_most_comes_first_with_all_its_reasons() -> None:
    found = column_alarms(
        {
            "race": change(unknown=0.3),
            "payer_code": change(moved=0.04),
            "age": change(size=9.0, moved=-0.1),
        },
        QUIET,
        POLICY,
    )
    assert [alarm.about for alarm in found] == ["age", "payer_code", "race"]
    assert found[0].sentence.startswith(
        "Age raises the risks less than in the batch before, by 0.100 in log-odds on average. "
        "A distribution has changed"
    )
    assert found[1].sentence == (
        "Payer code raises the risks more than in the batch before, by 0.040 in log-odds on average."
    )
    assert found[2].sentence == "Race is missing or unknown in 30 more of 100 encounters than in the batch before."


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (0.2, 0.3, "raises the risks more than in the batch before, by 0.100"),
        (0.2, 0.1, "raises the risks less than in the batch before, by 0.100"),
        (-0.2, -0.3, "lowers the risks more than in the batch before, by 0.100"),
        (-0.2, -0.1, "lowers the risks less than in the batch before, by 0.100"),
        (-0.1, 0.0, "lowers the risks less than in the batch before, by 0.100"),
        (0.0, -0.1, "lowers the risks more than in the batch before, by 0.100"),
        (0.2, -0.1, "lowers the risks, but raised them in the batch before; the difference is 0.300"),
        (-0.1, 0.2, "raises the risks, but lowered them in the batch before; the difference is 0.300"),
    ],
)
def test_a_changed_contribution_is_described_in_each_direction(before: float, now: float, words: str) -> None:
    sentences = alarms_about(A1Cresult=change(moved=now - before, before=before))
    assert sentences["A1Cresult"] == f"Haemoglobin A1c {words} in log-odds on average."


def test_an_age_band_keeps_its_brackets() -> None:
    drift = ColumnDrift(column="age", method=Method.ONE_CATEGORY, score=0.5, threshold=0.1, category="[90-100)")
    assert describe(drift) == "age [90-100) (distance 0.500, limit 0.100)"
    missing = drift.model_copy(update={"column": "race", "category": MISSING})
    assert describe(missing).startswith("race missing (")


@pytest.fixture(scope="module")
def before() -> Frame:
    return draw(2000, seed=5)


def since(profile: ReferenceProfile, before: pd.DataFrame, now: pd.DataFrame) -> dict[str, Change]:
    def counted(encounters: pd.DataFrame) -> BatchCounts:
        return count_batch(profile, encounters, np.full(len(encounters), 0.1))

    old, new = {"age": Contribution(mean=0.1, error=0.003)}, {"age": Contribution(mean=0.15, error=0.004)}
    return changes_since((counted(before), old), (counted(now), new), profile)


def test_two_alike_batches_do_not_differ(profile: ReferenceProfile, before: Frame) -> None:
    changes = since(profile, before[0], draw(2000, seed=6)[0])
    assert {name for name, found in changes.items() if found.jump.size >= 1} == set()
    assert all(abs(found.unknown_rise) < 0.05 for found in changes.values())
    assert changes["race"].contribution_change is None
    moved = changes["age"].contribution_change
    assert moved is not None
    assert (moved.mean, moved.error) == pytest.approx((0.05, 0.005))
    same = since(profile, before[0], before[0])
    assert {found.jump.size for found in same.values()} == {0.0}


def test_a_column_gone_missing_and_a_new_code_system_are_found(profile: ReferenceProfile, before: Frame) -> None:
    now = draw(2000, seed=6)[0]
    now["payer_code"] = pd.Series(np.nan, now.index, dtype="str")
    now["diag_1"] = "E11.9"
    raised = {alarm.about: alarm.sentence for alarm in column_alarms(since(profile, before[0], now), [], POLICY)}
    assert set(raised) == {"payer_code", "diag_1"}
    assert all("is missing or unknown in" in sentence for sentence in raised.values())
    assert not column_alarms(since(profile, now, now), [], POLICY), "it is no longer new"


def tied(encounters: pd.DataFrame) -> pd.DataFrame:
    older = encounters["age"].cat.codes.to_numpy() > 0
    return encounters.assign(number_inpatient=np.where(older, 9, 0))


def test_records_that_were_mixed_up_raise_one_alarm(before: Frame) -> None:
    """Each column looks the same; only its relation to others changes."""
    encounters, risk = draw(4000, seed=1)
    patients = encounters["patient_id"].to_numpy()
    profile = build_profile(
        tied(encounters), risk=risk, unseen_risk=risk, patient_id=patients, policy=DriftPolicy(samples=100)
    )
    mixed = tied(draw(2000, seed=6)[0])
    mixed["number_inpatient"] = np.random.default_rng(0).permutation(mixed["number_inpatient"].to_numpy())
    changes = since(profile, tied(before[0]), mixed)
    (alarm,) = column_alarms({name: changes[name] for name in ("age", "number_inpatient")}, QUIET, POLICY)
    assert alarm.sentence.startswith("A relation has changed since the batch before")
    assert "age" in alarm.sentence
    assert "earlier inpatient visits" in alarm.sentence


def test_one_row_of_a_column_that_hardly_varies_is_no_jump(before: Frame) -> None:
    encounters, risk = draw(1000, seed=1)
    encounters["number_emergency"] = 0
    patients = encounters["patient_id"].to_numpy()
    profile = build_profile(
        encounters, risk=risk, unseen_risk=risk, patient_id=patients, policy=DriftPolicy(samples=100)
    )
    constant = before[0].assign(number_emergency=0)
    now = constant.copy()
    now.loc[now.index[:1], "number_emergency"] = 1
    assert since(profile, constant, now)["number_emergency"].jump.size < 1
    now.loc[now.index[: len(now) // 4], "number_emergency"] = 1
    broken, repaired = since(profile, constant, now), since(profile, now, constant)
    assert broken["number_emergency"].jump.size == pytest.approx(repaired["number_emergency"].jump.size)
    assert broken["number_emergency"].jump.size > POLICY.min_jump


def one_row_of(encounters: pd.DataFrame) -> pd.DataFrame:
    changed = encounters.copy()
    changed.loc[changed.index[:1], "number_inpatient"] = 9
    return changed


def related(size: float, partner: str, distribution: float = 0.5) -> Change:
    return Change(
        distribution=Jump(size=distribution, description="a distance", partner=None),
        relation=Jump(size=size, description=f"with {partner}", partner=partner),
        unknown_rise=0.0,
        contribution_change=None,
    )


def test_a_relation_is_reported_although_its_other_column_has_an_alarm_about_something_else() -> None:
    sentences = alarms_about(age=change(unknown=0.3), race=related(9.0, "age"))
    assert "A relation has changed" in sentences["race"]
    # Three columns: the alarm about race names its relation to the payer, and says nothing about the age.
    sentences = alarms_about(race=related(9.0, "payer_code"), age=related(8.0, "race"))
    assert "with payer_code" in sentences["race"]
    assert "with race" in sentences["age"]


def test_a_relation_raises_one_alarm_for_both_columns() -> None:
    assert list(alarms_about(race=related(9.0, "age"), age=related(8.0, "race"))) == ["race"]


def test_an_alarm_names_the_limit_that_it_exceeded() -> None:
    assert "(an alarm begins at 2.0)" in alarms_about(age=change(size=2.5))["age"], "the usual jumps are smaller"


def test_a_column_that_is_compared_by_the_wasserstein_distance_alone_can_jump(before: Frame) -> None:
    encounters, risk = draw(1000, seed=1)
    policy = DriftPolicy(samples=100, count_methods=(Method.WASSERSTEIN,))
    patients = encounters["patient_id"].to_numpy()
    profile = build_profile(encounters, risk=risk, unseen_risk=risk, patient_id=patients, policy=policy)
    now = draw(2000, seed=6)[0]
    assert since(profile, before[0], now)["number_inpatient"].jump.size < 1
    more = now.assign(number_inpatient=now["number_inpatient"] + 1)
    assert since(profile, before[0], more)["number_inpatient"].jump.size > POLICY.min_jump
    constant = now.assign(number_inpatient=0)
    assert since(profile, constant, one_row_of(constant))["number_inpatient"].jump.size < 1


@pytest.mark.parametrize("method", [Method.KOLMOGOROV_SMIRNOV, Method.JENSEN_SHANNON, Method.PSI])
def test_one_row_is_no_jump_by_any_method_and_in_batches_of_any_size(before: Frame, method: Method) -> None:
    encounters, risk = draw(1000, seed=1)
    encounters["number_inpatient"] = 0
    policy = DriftPolicy(samples=100, count_methods=(method,))
    patients = encounters["patient_id"].to_numpy()
    profile = build_profile(encounters, risk=risk, unseen_risk=risk, patient_id=patients, policy=policy)
    large = before[0].assign(number_inpatient=0)
    small = large.head(200)
    for one, other in ((small, one_row_of(large)), (one_row_of(small), large), (large, one_row_of(large))):
        assert since(profile, one, other)["number_inpatient"].jump.size < 1
