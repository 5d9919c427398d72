"""Groups of patients are shown if they have enough rows, and raise an alarm if the champion is worse for them."""

from __future__ import annotations

import numpy as np
import pytest
from small_hospital import draw

from healthpredict.evaluation.subgroups import MISSING
from healthpredict.monitoring import subgroups
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import ReferenceProfile
from healthpredict.monitoring.subgroups import SubgroupDrift, detect_subgroup_drift, subgroup_alarms

POLICY = DriftPolicy()
THRESHOLD = 0.18


def check(
    profile: ReferenceProfile, rate_of_men: float = 1, men_see: float = 1, all_see: float = 1
) -> list[SubgroupDrift]:
    """A batch of 6,000 patients whose outcomes are known.

    Args:
        rate_of_men: their readmission rate, divided by the true risk.
        men_see: the champion's risk of men, divided by the true risk.
        all_see: the champion's risk of all patients, divided by the true risk.
    """
    encounters, risk = draw(6000, seed=8)
    men = (encounters["gender"] == "Male").to_numpy()
    label = np.random.default_rng(0).random(len(risk)) < np.where(men, rate_of_men, 1) * risk
    seen = np.where(men, men_see, 1) * all_see * risk
    return list(
        detect_subgroup_drift(profile, encounters, seen, (encounters, label, seen), threshold=THRESHOLD, policy=POLICY)
    )


def by_value(groups: list[SubgroupDrift], column: str) -> dict[str, SubgroupDrift]:
    return {group.value: group for group in groups if group.column == column}


def test_only_groups_with_enough_encounters_are_shown(profile: ReferenceProfile) -> None:
    groups = check(profile)
    assert {"Female", "Male"} <= by_value(groups, "gender").keys()
    assert MISSING in by_value(groups, "race")
    assert min(group.known_rows for group in groups) >= POLICY.min_subgroup_rows
    assert "[90-100)" not in by_value(groups, "age")


def test_equally_good_in_all_groups_is_no_alarm(profile: ReferenceProfile) -> None:
    assert subgroup_alarms(check(profile), POLICY) == ()


def test_risks_too_low_for_a_group_alarm(profile: ReferenceProfile) -> None:
    groups = check(profile, rate_of_men=2)
    alarm = by_value(groups, "gender")["Male"].alarm
    assert alarm is not None
    assert "risks are too low, by 0.1" in alarm
    assert "risks are" not in (by_value(groups, "gender")["Female"].alarm or "")
    raised = {alarm.about: alarm for alarm in subgroup_alarms(groups, POLICY)}
    assert raised["gender Male: risks too low"].sentence == f"For gender Male, {alarm.rpartition('; ')[2]}."
    assert all(alarm.lasts for alarm in raised.values())


def test_what_an_alarm_is_about_consists_of_stored_names(
    profile: ReferenceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it changed with a text, acknowledged alarms would be open again."""
    groups = check(profile, men_see=0.5)
    expected = [alarm.about for alarm in subgroup_alarms(groups, POLICY)]
    assert "gender Male: sensitivity" in expected
    monkeypatch.setattr(subgroups, "name_of", lambda column: f"the {column}")
    alarms = subgroup_alarms(groups, POLICY)
    assert [alarm.about for alarm in alarms] == expected
    assert all(alarm.sentence.startswith("For the ") for alarm in alarms)


def test_risks_too_high_for_a_group_alarm(profile: ReferenceProfile) -> None:
    alarm = by_value(check(profile, rate_of_men=0.5), "gender")["Male"].alarm
    assert alarm is not None
    assert "risks are too high, by 0.0" in alarm
    assert "the positive predictive value is 0.1" in alarm, "half of the flagged men return as often as flagged women"


def test_a_group_whose_readmissions_are_missed_alarms(profile: ReferenceProfile) -> None:
    alarm = by_value(check(profile, men_see=0.5), "gender")["Male"].alarm
    assert alarm is not None
    assert alarm.startswith("the sensitivity is 0.0")
    assert "lower than for other patients by 0.39" in alarm


def test_risks_that_are_too_high_for_all_are_no_matter_of_a_group(profile: ReferenceProfile) -> None:
    groups = check(profile, all_see=1.5)
    offset = by_value(groups, "gender")["Female"].metrics["offset"]
    assert offset.value.low > POLICY.max_subgroup_offset
    assert offset.p_value < 1e-6
    assert not any("too high" in alarm.sentence for alarm in subgroup_alarms(groups, POLICY))


def test_the_mean_risk_stands_beside_that_of_the_training_data(profile: ReferenceProfile) -> None:
    groups = check(profile)
    for group in (by_value(groups, "gender")["Female"], by_value(groups, "gender and age")["Female, [0-10)"]):
        assert group.risk is not None
        assert group.reference_risk == pytest.approx(group.risk, abs=0.01)


def test_a_group_that_is_small_in_the_batch_is_judged_on_all_known_outcomes(profile: ReferenceProfile) -> None:
    """Its mean risk in the batch stays hidden, as it would be the risk of a few patients."""
    known, known_risk = draw(6000, seed=8)
    label = np.random.default_rng(0).random(len(known)) < known_risk
    batch, risk = draw(300, seed=9)
    groups = detect_subgroup_drift(profile, batch, risk, (known, label, known_risk), threshold=THRESHOLD, policy=POLICY)
    women = by_value(list(groups), "gender")["Female"]
    assert women.rows < POLICY.min_subgroup_rows < women.known_rows
    assert women.risk is None
    assert women.metrics["sensitivity"].value.value > 0


def test_without_outcomes_there_is_no_performance(profile: ReferenceProfile) -> None:
    encounters, risk = draw(3000, seed=9)
    groups = detect_subgroup_drift(profile, encounters, risk, None, threshold=THRESHOLD, policy=POLICY)
    assert groups
    assert all(group.metrics == {} and group.alarm is None for group in groups)


def test_a_check_of_an_earlier_version_is_read() -> None:
    """It had a mean risk for each group, and only alarms about calibration."""
    stored = {"column": "race", "value": "Asian", "rows": 700, "risk": 0.1, "reference_risk": None, "auroc": None}
    found = SubgroupDrift.model_validate(stored | {"alarm": "risks are too high, by 0.031 on average"})
    assert found.alarm == "risks are too high, by 0.031 on average"
    assert found.metrics == {}
