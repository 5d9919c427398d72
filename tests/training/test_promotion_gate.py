"""The gate decides by numbers alone, and reports which check failed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from healthpredict.bundle.model import calibrate
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.metrics import auroc
from healthpredict.training.fit import fit_calibrator
from healthpredict.training.gate import Comparison, GateDecision, decide_promotion
from healthpredict.training.params import PromotionPolicy

POLICY = PromotionPolicy(n_bootstrap=200)
N = 12_000


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))


RNG = np.random.default_rng(8)
LOG_ODDS = RNG.normal(-2.2, 0.8, N)
LABEL = RNG.random(N) < sigmoid(LOG_ODDS)
NOISE = RNG.normal(0, 1, N)
GOOD = sigmoid(LOG_ODDS)
RACE = RNG.choice(["Caucasian", "AfricanAmerican", "Asian"], N, p=[0.75, 0.235, 0.015])
ENCOUNTERS = pd.DataFrame(
    {
        "patient_id": RNG.integers(0, 9000, N),
        "number_inpatient": np.clip(np.round(LOG_ODDS + 2.2 + 2 * RNG.normal(0, 1, N)), 0, None),
        "gender": RNG.choice(["Female", "Male"], N),
        "race": RACE,
        "age": RNG.choice(["[50-60)", "[60-70)", "[70-80)"], N),
        "payer_code": RNG.choice(["MC", "HM"], N),
    }
)


def comparison(risk: np.ndarray = GOOD, champion: np.ndarray | None = GOOD, **parts: Any) -> Comparison:
    known: dict[str, Any] = {
        "encounters": ENCOUNTERS,
        "label": LABEL,
        "newest": np.arange(N) >= N - 8000,
        "anchor_risk": None,
        "threshold": float(np.quantile(risk, 0.8)),
        "alert_rate": 0.2,
    }
    return Comparison(risk=risk, champion_risk=champion, **(known | parts))


def decide(*risks: Any, policy: PromotionPolicy = POLICY, **parts: Any) -> GateDecision:
    return decide_promotion(comparison(*risks, **parts), policy)


def noisy(scale: float) -> np.ndarray:
    """A worse model: noise in its log-odds, calibrated again."""
    blurred = sigmoid(LOG_ODDS + scale * NOISE)
    return calibrate(fit_calibrator(LABEL, blurred), blurred)


def failed(decision: GateDecision) -> list[str]:
    """The failed checks: those that a challenger equal to the champion passes."""
    passed = decide().reasons
    return [reason for reason in decision.reasons if reason not in passed]


def test_an_equal_challenger_passes() -> None:
    """Every check is listed, with its numbers."""
    decision = decide()
    assert decision.promote
    assert [reason.split(" ")[0] for reason in decision.reasons] == [
        "AUROC",
        "Mean",
        "Calibration",
        "The",
        "AUROC",
        "AUROC",
        "None",
    ]
    assert decision.reasons[4] == (
        "AUROC differs from that of the champion by +0.0000; with 80% confidence by no less than +0.0000, "
        "within the margin of -0.0060."
    )
    assert decision.reasons[6] == "None of 15 subgroups with at least 100 readmissions is worse off."
    assert decision.difference == decision.anchor_difference == Interval(value=0, low=0, high=0)
    assert decision.rows == N
    assert decision.auroc == decision.champion_auroc == pytest.approx(auroc(LABEL, GOOD))


def test_a_better_challenger_passes() -> None:
    decision = decide(GOOD, noisy(1.0))
    assert decision.promote
    assert decision.difference is not None
    assert decision.difference.low > 0


def test_a_much_worse_challenger_fails_and_the_reason_comes_first() -> None:
    decision = decide(noisy(1.0))
    assert not decision.promote
    assert decision.reasons[0].startswith("AUROC differs from that of the champion by -0.0")
    assert "beyond the margin of -0.0060" in decision.reasons[0]
    assert decision.difference is not None
    assert decision.difference.high < -POLICY.margin


def test_the_margin_is_a_matter_of_confidence_not_of_the_value() -> None:
    """A loss that is within the margin, but not with confidence, fails. It passes if less confidence is required."""
    worse = noisy(0.3)
    decision = decide(worse)
    assert decision.difference is not None
    value = decision.difference.value
    assert value < 0
    just = POLICY.model_copy(update={"margin": -value + 1e-4})
    assert not decide(worse, policy=just).promote
    assert decide(worse, policy=just.model_copy(update={"confidence": 0.5001, "anchor_margin": 0.1})).promote


def test_a_challenger_as_good_as_the_champion_fails_if_both_lost_too_much_against_the_anchor() -> None:
    """Small losses add up."""
    champion = noisy(0.6)
    decision = decide(champion, champion, anchor_risk=GOOD)
    assert not decision.promote
    assert decision.reasons[0].startswith("AUROC differs from that of the best champion so far by -0.0")
    assert decision.anchor_difference is not None
    assert decision.anchor_difference.value < -POLICY.anchor_margin
    assert decide(champion, champion).promote, "the champion is the anchor"


@pytest.mark.parametrize(
    ("risk", "check"),
    [
        (sigmoid(LOG_ODDS + 0.25), "Mean risk minus readmitted share"),
        (sigmoid(LOG_ODDS - 0.25), "Mean risk minus readmitted share"),
        (sigmoid(-2.2 + 1.5 * (LOG_ODDS + 2.2)), "Calibration slope"),
        (sigmoid(-2.2 + 0.6 * (LOG_ODDS + 2.2)), "Calibration slope"),
    ],
)
def test_an_uncalibrated_challenger_fails_although_it_ranks_as_well(risk: np.ndarray, check: str) -> None:
    decision = decide(risk)
    assert not decision.promote
    assert decision.difference == Interval(value=0, low=0, high=0)
    assert any(reason.startswith(check) and ": not within" in reason for reason in decision.reasons)


def test_calibration_is_judged_on_the_newest_encounters() -> None:
    newest = np.arange(N) >= N - 8000
    old = np.where(newest, GOOD, sigmoid(LOG_ODDS + 0.25))
    assert decide(old, old, newest=newest).promote
    assert not decide(old, old, newest=~newest).promote


def test_a_challenger_that_is_not_surely_better_than_one_variable_fails() -> None:
    encounters = ENCOUNTERS.assign(number_inpatient=LOG_ODDS)
    decision = decide(encounters=encounters)
    assert not decision.promote
    assert failed(decision) == [decision.reasons[0]]
    assert "not shown to be better than the number of inpatient visits alone" in decision.reasons[0]


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_that_flags_nobody_or_everybody_fails(threshold: float) -> None:
    decision = decide(threshold=threshold)
    assert not decision.promote
    assert decision.reasons[0] == f"The threshold flags {1 - threshold:.1%} of the encounters."


def test_a_constant_model_fails() -> None:
    decision = decide(np.full(N, LABEL.mean()), None)
    assert not decision.promote
    assert any("not shown to be better" in reason for reason in decision.reasons)


def test_too_little_evidence_is_not_a_pass() -> None:
    few = np.flatnonzero(LABEL)[:99]
    rows = np.concatenate([few, np.flatnonzero(~LABEL)[:4000]])
    parts = {"encounters": ENCOUNTERS.iloc[rows], "label": LABEL[rows], "newest": np.ones(len(rows), dtype=bool)}
    decision = decide(GOOD[rows], GOOD[rows], **parts)
    assert not decision.promote
    assert decision.reasons == (
        "4099 encounters with 99 readmissions are too few to compare on: at least 100 readmissions, and as many encounters "
        "without one, are needed.",
    )
    assert decision.auroc is None


def biased(group: str, loss: float) -> np.ndarray:
    """The log-odds of a group are lower, so that fewer of its patients are flagged."""
    return sigmoid(LOG_ODDS - loss * (group == RACE))


def test_a_challenger_that_misses_a_group_fails_and_names_it() -> None:
    decision = decide(
        biased("AfricanAmerican", 0.4), policy=POLICY.model_copy(update={"margin": 0.1, "max_offset": 0.9})
    )
    assert not decision.promote
    assert decision.reasons[0].startswith("Worse than the champion for race AfricanAmerican (sensitivity -0.")
    assert "race Caucasian" not in decision.reasons[0]


def test_a_worse_order_within_a_group_fails() -> None:
    shuffled = np.where(RACE == "AfricanAmerican", noisy(1.2), GOOD)
    decision = decide(shuffled, policy=POLICY.model_copy(update={"margin": 0.1, "anchor_margin": 0.1}))
    assert not decision.promote
    assert "race AfricanAmerican (AUROC -0." in " ".join(decision.reasons)


def test_a_group_with_few_readmissions_waits_until_there_are_more() -> None:
    assert LABEL[RACE == "Asian"].sum() < POLICY.min_readmissions
    policy = POLICY.model_copy(update={"margin": 0.1, "anchor_margin": 0.1})
    lenient = policy.model_copy(update={"min_readmissions": 10})
    assert decide(biased("Asian", 3), policy=policy).promote
    assert "race Asian" in decide(biased("Asian", 3), policy=lenient).reasons[0]


def test_the_first_model_is_judged_without_a_champion() -> None:
    """There is no champion to compare with, but all other checks count."""
    decision = decide(GOOD, None)
    assert decision.promote
    assert decision.champion_auroc is None
    assert decision.difference is None
    assert "There is no champion to compare with." in decision.reasons
    assert not decide(sigmoid(LOG_ODDS + 0.6), None).promote


def test_failed_checks_come_before_passed_ones() -> None:
    decision = decide(sigmoid(0.64 * NOISE))
    assert not decision.promote
    words = [" within" if " within" in reason and "not within" not in reason else "" for reason in decision.reasons]
    assert words == sorted(words)


def test_limits_that_no_slope_can_meet_are_refused() -> None:
    with pytest.raises(ValueError, match="no model would pass"):
        PromotionPolicy(min_slope=1.2)
