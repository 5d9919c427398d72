"""The gate decides by numbers alone, and reports which check failed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from healthpredict.evaluation.metrics import Interval, auroc, evaluate
from healthpredict.evaluation.report import Subgroup, TestReport
from healthpredict.training.gate import Comparison, GateDecision, PromotionPolicy, decide_promotion

POLICY = PromotionPolicy(n_bootstrap=200)
N = 6000


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))


RNG = np.random.default_rng(8)
LOG_ODDS = RNG.normal(-2.2, 0.8, N)
LABEL = RNG.random(N) < sigmoid(LOG_ODDS)
PATIENT = RNG.integers(0, 4500, N)
NOISE = RNG.normal(0, 1, N)
GOOD = sigmoid(LOG_ODDS)


def point(value: float, half: float = 0.02) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def comparison(
    risk: np.ndarray = GOOD,
    champion: np.ndarray | None = GOOD,
    baseline: float = 0.55,
    subgroups: tuple[Subgroup, ...] = (),
) -> Comparison:
    report = TestReport(
        evaluation=evaluate(LABEL, risk, PATIENT, n_bootstrap=20),
        baseline_auroc=point(baseline),
        threshold=0.2,
        alert_rate=0.2,
        sensitivity=0.4,
        subgroups=subgroups,
    )
    return Comparison(LABEL, risk, champion, PATIENT, report)


def group(value: str, auroc: Interval) -> Subgroup:
    return Subgroup(column="race", value=value, rows=500, auroc=auroc, calibration_in_the_large=point(0))


def decide(**parts: Any) -> GateDecision:
    return decide_promotion(comparison(**parts), POLICY)


def noisy(scale: float) -> np.ndarray:
    """A worse model: noise in its log-odds, shrunk so that it stays calibrated."""
    blurred = LOG_ODDS + scale * NOISE
    return sigmoid(-2.2 + (blurred + 2.2) * 0.64 / (0.64 + scale**2))


def test_an_equal_challenger_passes() -> None:
    """Every check is listed, with its numbers."""
    decision = decide()
    assert decision.promote
    assert decision.reasons[0] == (
        "AUROC differs from the champion's by +0.0000; with 95% confidence by no less than +0.0000, "
        "within the margin of -0.0185."
    )
    assert [reason.split()[0] for reason in decision.reasons] == ["AUROC", "Calibration", "AUROC", "None", "Brier"]
    assert decision.difference == Interval(value=0, low=0, high=0)
    assert decision.rows == N
    assert decision.auroc == decision.champion_auroc == pytest.approx(auroc(LABEL, GOOD))


def test_an_alike_challenger_passes() -> None:
    """A difference within chance counts as equally good."""
    decision = decide(risk=noisy(0.1))
    assert decision.promote
    assert decision.difference is not None
    assert -POLICY.margin < decision.difference.low < decision.difference.value < 0


def test_a_better_challenger_passes() -> None:
    decision = decide(champion=noisy(1.0))
    assert decision.promote
    assert decision.difference is not None
    assert decision.difference.low > 0


def test_a_much_worse_challenger_fails_and_the_reason_comes_first() -> None:
    decision = decide(risk=noisy(1.0))
    assert not decision.promote
    assert decision.reasons[0].startswith("AUROC differs from the champion's by -0.0")
    assert "beyond the margin of -0.0185" in decision.reasons[0]
    assert decision.difference is not None
    assert decision.difference.high < -POLICY.margin


def test_the_margin_is_a_matter_of_confidence_not_of_the_value() -> None:
    """A loss that is within the margin, but not with confidence, fails. It passes if less confidence is required."""
    unsure = comparison(risk=noisy(0.36))
    decision = decide_promotion(unsure, POLICY)
    assert decision.difference is not None
    assert -POLICY.margin < decision.difference.value < 0
    assert not decision.promote
    assert decide_promotion(unsure, POLICY.model_copy(update={"margin": 0.1})).promote
    assert decide_promotion(unsure, POLICY.model_copy(update={"confidence": 0.51})).promote


def test_an_uncalibrated_challenger_fails_although_it_ranks_as_well() -> None:
    """The same order, risks too high: calibration and Brier score fail, discrimination does not."""
    decision = decide(risk=sigmoid(LOG_ODDS + 0.6))
    assert not decision.promote
    assert decision.difference == Interval(value=0, low=0, high=0)
    assert decision.reasons[0].startswith("Calibration error 0.0")
    assert decision.reasons[0].endswith("is above 0.0300.")
    assert decision.reasons[1].startswith("Brier score differs by +0.00")


def test_a_larger_brier_score_alone_fails() -> None:
    strict = POLICY.model_copy(update={"max_brier_loss": 0.0})
    decision = decide_promotion(comparison(risk=noisy(0.2)), strict)
    assert not decision.promote
    assert decision.reasons[0].startswith("Brier score differs by +0.000")
    assert decision.reasons[0].endswith("up to +0.00000 is allowed.")


def test_a_subgroup_surely_below_the_floor_fails_and_is_named() -> None:
    lost, unsure = group("Asian", point(0.5, half=0.03)), group("Hispanic", point(0.54, half=0.03))
    decision = decide(subgroups=(group("Caucasian", point(0.67)), lost, unsure))
    assert not decision.promote
    assert decision.reasons[0] == "AUROC below the floor of 0.55 for race Asian (0.500 [0.470, 0.530])."


def test_a_subgroup_that_may_be_above_the_floor_passes() -> None:
    """Small groups have wide intervals. A gate that fails on noise would never pass a model."""
    decision = decide(subgroups=(group("Hispanic", point(0.52, half=0.05)),))
    assert decision.promote
    assert "None of 1 subgroups is below the floor of 0.55." in decision.reasons


def test_a_challenger_no_better_than_one_variable_fails() -> None:
    reached = auroc(LABEL, GOOD)
    decision = decide(baseline=reached)
    assert not decision.promote
    assert decision.reasons[0] == (
        f"AUROC is {reached:.3f}; the number of inpatient visits alone reaches {reached:.3f}."
    )
    assert decide(baseline=reached - 1e-6).promote


def test_the_first_model_is_judged_without_a_champion() -> None:
    """There is no champion to compare with, but all other checks count."""
    decision = decide(champion=None)
    assert decision.promote
    assert decision.champion_auroc is None
    assert decision.difference is None
    assert "There is no champion to compare with." in decision.reasons
    assert not decide(champion=None, risk=sigmoid(LOG_ODDS + 0.6)).promote


def test_failed_checks_come_before_passed_ones() -> None:
    """All of several, each in its place."""
    decision = decide(risk=sigmoid(0.64 * NOISE), baseline=0.6, subgroups=(group("Asian", point(0.5)),))
    assert not decision.promote
    assert [reason.split()[0] for reason in decision.reasons] == ["AUROC", "Calibration", "AUROC", "AUROC", "Brier"]
    mixed = decide(champion=noisy(0.1), subgroups=(group("Asian", point(0.5)),))
    assert mixed.reasons[0].startswith("AUROC below the floor")
    assert len(mixed.reasons) == 5


def test_the_same_comparison_leads_to_the_same_decision() -> None:
    """The decision depends on neither time nor chance, so it can be reproduced."""
    assert decide(risk=noisy(0.3)) == decide(risk=noisy(0.3))
