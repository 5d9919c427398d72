"""Planted interventions: accepted more often for older patients and higher risks, and preventing the share that was asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from healthpredict.data.interventions import check_interventions
from healthpredict.data.plant_interventions import interventions_of, plant_answers, prevent
from healthpredict.data.raw import format_raw, read_interventions

N = 20_000
RNG = np.random.default_rng(1)
AGE = pd.Series(RNG.choice(["[0-10)", "[60-70)", "[70-80)", "[90-100)"], N))
RISK = RNG.uniform(0.2, 0.5, N)
OUTCOMES = pd.DataFrame({"encounter_id": np.arange(N).astype(str), "readmitted": RNG.choice(["<30", ">30", "NO"], N)})


def share(of: np.ndarray) -> float:
    return float(of.mean())


def test_older_patients_and_higher_risks_are_treated_more_often() -> None:
    accepted = plant_answers(AGE, RISK, np.random.default_rng(2))
    assert share(accepted) == pytest.approx(0.6, abs=0.02)
    old = AGE.isin(["[70-80)", "[90-100)"]).to_numpy()
    assert share(accepted[old]) - share(accepted[~old]) == pytest.approx(0.11, abs=0.03)
    high = RISK > 0.35
    assert share(accepted[high]) - share(accepted[~high]) == pytest.approx(0.17, abs=0.03)


def test_the_mean_does_not_depend_on_the_level_of_the_risks() -> None:
    accepted = plant_answers(AGE, RISK + 0.4, np.random.default_rng(2))
    assert share(accepted) == pytest.approx(0.6, abs=0.02)


def test_a_share_of_the_readmissions_of_treated_patients_is_prevented() -> None:
    treated = np.arange(0, N, 2)
    changed = prevent(OUTCOMES, treated, 0.3, np.random.default_rng(3))
    early, is_treated = OUTCOMES["readmitted"].eq("<30"), OUTCOMES.index.isin(treated)
    prevented = changed["readmitted"] != OUTCOMES["readmitted"]
    assert share(prevented[early & is_treated]) == pytest.approx(0.3, abs=0.03)
    assert not prevented[~(early & is_treated)].any()
    assert set(changed.loc[prevented, "readmitted"]) == {"NO"}


@pytest.mark.parametrize(("effect", "left"), [(0.0, 1.0), (1.0, 0.0)])
def test_no_effect_prevents_nothing_and_the_largest_prevents_all(effect: float, left: float) -> None:
    changed = prevent(OUTCOMES, np.arange(N), effect, np.random.default_rng(3))
    assert changed.loc[OUTCOMES["readmitted"].eq("<30"), "readmitted"].eq("<30").mean() == left


def test_a_larger_effect_prevents_the_same_readmissions_and_others() -> None:
    smaller, larger = (prevent(OUTCOMES, np.arange(N), effect, np.random.default_rng(3)) for effect in (0.3, 0.5))
    assert larger.loc[smaller["readmitted"] != OUTCOMES["readmitted"], "readmitted"].eq("NO").all()
    assert (larger["readmitted"] != smaller["readmitted"]).any()


def test_every_row_is_usable_as_an_intervention() -> None:
    raw = interventions_of(np.array([7, 9]), np.array([True, False]), "2026-11-01T10:00:00.123456+00:00")
    read = read_interventions(format_raw(raw), "planted").frame
    checked = check_interventions(read, pd.Timestamp("2026-11-02", tz="UTC"))
    assert checked.problems == []
    assert checked.usable[["encounter_id", "response"]].to_numpy().tolist() == [[7, "accepted"], [9, "overridden"]]
    assert checked.usable["reason"].notna().tolist() == [False, True]
