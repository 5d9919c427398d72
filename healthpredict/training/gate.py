"""The gate: decide whether a challenger may replace the champion. `operations.promote` acts on the decision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from healthpredict.evaluation.metrics import Floats, Interval, auroc, auroc_differences
from healthpredict.evaluation.report import TestReport


class PromotionPolicy(BaseModel):
    """What a challenger must achieve.

    Attributes:
        min_rows: smallest number of test-side encounters to compare on. Older batches are added until it is reached.
        margin: largest loss of AUROC that counts as equally good.
        confidence: one-sided confidence that the loss is within the margin.
        max_ece: largest expected calibration error of the challenger. By chance, a perfect model has up to .02 at 3,000 rows.
        max_brier_loss: largest excess of its Brier score over the champion's.
        subgroup_floor: smallest AUROC of a subgroup. A subgroup that is below it with confidence fails the gate.
        n_bootstrap: resamples of patients.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    min_rows: int = Field(5000, ge=1)
    # Chosen by simulation (`make bench-quality`, section gate). At 5,000 rows the standard error is .006 to .009, and of 200
    # challengers each that are worse by 0, .005, .010, .015 and .020 these shares passed: .915, .63, .325, .105 and .035.
    margin: float = Field(0.0185, ge=0, lt=0.5)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    max_ece: float = Field(0.03, gt=0, le=1)
    max_brier_loss: float = Field(0.002, ge=0)
    subgroup_floor: float = Field(0.55, ge=0.5, le=1)
    n_bootstrap: int = Field(500, ge=100)


class GateDecision(BaseModel):
    """Whether to promote, and why.

    Attributes:
        promote: whether every check passed.
        reasons: one sentence per check, the failed ones first.
        rows: encounters compared on.
        auroc: of the challenger.
        champion_auroc: of the champion; None if there is none.
        difference: challenger minus champion, with its two-sided interval; None if there is no champion.
    """

    model_config = ConfigDict(frozen=True)

    promote: bool
    reasons: tuple[str, ...]
    rows: int
    auroc: float
    champion_auroc: float | None
    difference: Interval | None


@dataclass(frozen=True)
class Comparison:
    """Test-side encounters with the risks of both models.

    Attributes:
        label: shape (n_encounters,).
        risk: of the challenger, shape (n_encounters,).
        champion_risk: of the champion on the same encounters; None if there is no champion.
        patient_id: shape (n_encounters,).
        report: of the challenger on the same encounters.
    """

    label: NDArray[np.bool_]
    risk: Floats
    champion_risk: Floats | None
    patient_id: NDArray[np.int64]
    report: TestReport


def decide_promotion(comparison: Comparison, policy: PromotionPolicy) -> GateDecision:
    """Decide whether the challenger may replace the champion.

    The checks are non-inferiority of the AUROC (paired bootstrap over patients), calibration, the baseline and every subgroup.

    Args:
        comparison: both models on the same encounters.
        policy: limits of the checks.
    """
    checks = [_calibrated(comparison, policy), _beats_baseline(comparison), _no_subgroup_lost(comparison, policy)]
    difference = None
    if comparison.champion_risk is None:
        checks.append((True, "There is no champion to compare with."))
    else:
        check, difference = _as_good(comparison, comparison.champion_risk, policy)
        checks = [check, *checks, _brier_kept(comparison, comparison.champion_risk, policy)]
    return GateDecision(
        promote=all(passed for passed, _ in checks),
        reasons=tuple(reason for _, reason in sorted(checks, key=lambda check: check[0])),
        rows=len(comparison.label),
        auroc=comparison.report.evaluation.auroc.value,
        champion_auroc=None if comparison.champion_risk is None else auroc(comparison.label, comparison.champion_risk),
        difference=difference,
    )


Check = tuple[bool, str]


def _as_good(comparison: Comparison, champion_risk: Floats, policy: PromotionPolicy) -> tuple[Check, Interval]:
    draws = auroc_differences(
        comparison.label, comparison.risk, champion_risk, comparison.patient_id, n_bootstrap=policy.n_bootstrap
    )
    value = auroc(comparison.label, comparison.risk) - auroc(comparison.label, champion_risk)
    low, worst, high = np.nanquantile(draws, (0.025, 1 - policy.confidence, 0.975))
    passed = bool(worst > -policy.margin)
    reason = (
        f"AUROC differs from the champion's by {value:+.4f}; with {policy.confidence:.0%} confidence by no less than "
        f"{worst:+.4f}, {'within' if passed else 'beyond'} the margin of {-policy.margin:+.4f}."
    )
    return (passed, reason), Interval(value=value, low=float(low), high=float(high))


def _calibrated(comparison: Comparison, policy: PromotionPolicy) -> Check:
    ece = comparison.report.evaluation.ece
    passed = ece <= policy.max_ece
    return passed, f"Calibration error {ece:.4f} is {'within' if passed else 'above'} {policy.max_ece:.4f}."


def _brier_kept(comparison: Comparison, champion_risk: Floats, policy: PromotionPolicy) -> Check:
    champion_brier = float(np.mean((champion_risk - comparison.label) ** 2))
    loss = comparison.report.evaluation.brier.value - champion_brier
    passed = loss <= policy.max_brier_loss
    return (
        passed,
        f"Brier score differs by {loss:+.5f}; up to {policy.max_brier_loss:+.5f} is allowed.",
    )


def _beats_baseline(comparison: Comparison) -> Check:
    ours, baseline = comparison.report.evaluation.auroc.value, comparison.report.baseline_auroc.value
    return ours > baseline, f"AUROC is {ours:.3f}; the number of inpatient visits alone reaches {baseline:.3f}."


def _no_subgroup_lost(comparison: Comparison, policy: PromotionPolicy) -> Check:
    lost = [s for s in comparison.report.subgroups if s.auroc.high < policy.subgroup_floor]
    names = ", ".join(f"{s.column} {s.value} ({s.auroc})" for s in lost)
    if lost:
        return False, f"AUROC below the floor of {policy.subgroup_floor} for {names}."
    return True, f"None of {len(comparison.report.subgroups)} subgroups is below the floor of {policy.subgroup_floor}."
