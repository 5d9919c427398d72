"""Groups of patients are shown if they have enough rows, and raise an alarm if their risks are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from small_hospital import draw

from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import ReferenceProfile
from healthpredict.monitoring.subgroups import SubgroupDrift, detect_subgroup_drift


@pytest.fixture(scope="module")
def found(profile: ReferenceProfile) -> dict[str, SubgroupDrift]:
    """Outcomes as predicted, except for men, who return twice as often."""
    encounters, risk = draw(6000, seed=8)
    men = (encounters["gender"] == "Male").to_numpy()
    label = np.random.default_rng(0).random(len(risk)) < np.where(men, 2, 1) * risk
    groups = detect_subgroup_drift(profile, encounters, risk, (encounters, label, risk), DriftPolicy())
    return {group.value: group for group in groups}


def test_only_groups_with_enough_encounters_are_shown(found: dict[str, SubgroupDrift]) -> None:
    assert {"Female", "Male"} <= found.keys()
    assert min(group.rows for group in found.values()) >= DriftPolicy().min_subgroup_rows
    assert "[90-100)" not in found


def test_a_group_whose_risks_are_off_alarms_and_no_other(found: dict[str, SubgroupDrift]) -> None:
    assert found["Male"].alarm is not None
    assert found["Male"].alarm.startswith("risks are too low, by")
    assert found["Female"].alarm is None


def test_the_mean_risk_stands_beside_that_of_the_training_data(found: dict[str, SubgroupDrift]) -> None:
    assert found["Female"].reference_risk == pytest.approx(found["Female"].risk, abs=0.01)


def test_without_outcomes_there_is_no_performance(profile: ReferenceProfile) -> None:
    encounters, risk = draw(3000, seed=9)
    groups = detect_subgroup_drift(profile, encounters, risk, None, DriftPolicy())
    assert groups
    assert {group.auroc for group in groups} == {None}
