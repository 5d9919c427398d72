"""The gate: decide whether a challenger may replace the champion. `operations.promote` acts on the decision.

The checks of AUROC and calibration use one-sided bounds with the policy's confidence, and too little evidence is not a pass. The
check of subgroups uses tests. A series of challengers, each a little worse than the one before, would pass a comparison with the
champion alone (Feng et al. 2021, doi 10.1111/biom.13379). So it is also compared with the anchor, the best champion so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import norm

from healthpredict.evaluation.gain import auroc_gain, clustered_error
from healthpredict.evaluation.interval import Floats, Interval, Outcomes, normal_interval
from healthpredict.evaluation.metrics import auroc, evaluate, threshold_for
from healthpredict.evaluation.report import BASELINE_COLUMN
from healthpredict.evaluation.subgroups import holm, subgroups_of
from healthpredict.training.params import PromotionPolicy


class GateDecision(BaseModel):
    """Whether to promote, and why. The ledger contains it: never rename a field.

    Attributes:
        promote: whether every check passed.
        reasons: one sentence per check, the failed ones first.
        rows: encounters compared on.
        auroc: of the challenger; None if there were too few readmissions to compare.
        champion_auroc: of the champion; None if there is none, or too few readmissions.
        difference: AUROC of the challenger minus that of the champion; None as `champion_auroc`.
        anchor_difference: the same for the anchor.
    """

    model_config = ConfigDict(frozen=True)

    promote: bool
    reasons: tuple[str, ...]
    rows: int
    auroc: float | None
    champion_auroc: float | None
    difference: Interval | None
    anchor_difference: Interval | None = None


@dataclass(frozen=True)
class Comparison:
    """Encounters from which neither champion nor anchor learned, with the risks of all models.

    Where the challenger learned from an encounter, its risk comes from models that were not fitted on the patient.

    Attributes:
        encounters: frame with `patient_id`, `BASELINE_COLUMN` and the columns of subgroups, shape (n_encounters, ...).
        label: outcomes, shape (n_encounters,).
        newest: the encounters of the newest batches, on which the mean risk is judged, shape (n_encounters,).
        risk: of the challenger, shape (n_encounters,).
        champion_risk: of the champion; None if there is no champion.
        anchor_risk: of the anchor; None if there is none, or if it has the same model as the champion.
        threshold: of the challenger.
        alert_rate: share of encounters (0-1) that each model is to flag.
    """

    encounters: pd.DataFrame
    label: Outcomes
    newest: NDArray[np.bool_]
    risk: Floats
    champion_risk: Floats | None
    anchor_risk: Floats | None
    threshold: float
    alert_rate: float

    @property
    def patient_id(self) -> NDArray[np.int64]:
        """Shape (n_encounters,)."""
        return self.encounters["patient_id"].to_numpy(dtype=np.int64)


Check = tuple[bool, str]
"""Whether a check passed, and its sentence."""


def decide_promotion(comparison: Comparison, policy: PromotionPolicy) -> GateDecision:
    """Decide whether the challenger may replace the champion.

    Args:
        comparison: the models on the same encounters.
        policy: limits of the checks.
    """
    readmissions, rows = round(comparison.label.sum()), len(comparison.label)
    if min(readmissions, rows - readmissions) < policy.min_readmissions:
        reason = (
            f"{rows} encounters with {readmissions} readmissions are too few to compare on: at least {policy.min_readmissions} "
            "readmissions, and as many encounters without one, are needed."
        )
        return GateDecision(
            promote=False, reasons=(reason,), rows=rows, auroc=None, champion_auroc=None, difference=None
        )
    checks = [_beats_baseline(comparison, policy), *_calibrated(comparison, policy), _flags(comparison)]
    champion_auroc, difference, anchor_difference = None, None, None
    if comparison.champion_risk is None:
        checks.append((True, "There is no champion to compare with."))
    else:
        champion_auroc = auroc(comparison.label, comparison.champion_risk)
        difference = anchor_difference = _gain(comparison, comparison.champion_risk)
        checks.append(_not_inferior(difference, policy.margin, "the champion", policy))
        if comparison.anchor_risk is not None:
            anchor_difference = _gain(comparison, comparison.anchor_risk)
        checks.append(_not_inferior(anchor_difference, policy.anchor_margin, "the best champion so far", policy))
        checks.append(_no_subgroup_harmed(comparison, comparison.champion_risk, policy))
    return GateDecision(
        promote=all(passed for passed, _ in checks),
        reasons=tuple(reason for _, reason in sorted(checks, key=lambda check: check[0])),
        rows=rows,
        auroc=auroc(comparison.label, comparison.risk),
        champion_auroc=champion_auroc,
        difference=difference,
        anchor_difference=anchor_difference,
    )


def _gain(comparison: Comparison, other_risk: Floats) -> Interval:
    return auroc_gain(comparison.label, comparison.risk, other_risk, comparison.patient_id)


def _bounds(interval: Interval, policy: PromotionPolicy) -> tuple[float, float]:
    """Return the one-sided lower and upper bound with the policy's confidence, from a 95 % interval."""
    half_width = norm.ppf(policy.confidence) * interval.error
    return interval.value - half_width, interval.value + half_width


def _not_inferior(difference: Interval, margin: float, other: str, policy: PromotionPolicy) -> Check:
    worst, _ = _bounds(difference, policy)
    passed = worst > -margin
    return passed, (
        f"AUROC differs from that of {other} by {difference.value:+.4f}; with {policy.confidence:.0%} confidence by no less than "
        f"{worst:+.4f}, {'within' if passed else 'beyond'} the margin of {-margin:+.4f}."
    )


def _beats_baseline(comparison: Comparison, policy: PromotionPolicy) -> Check:
    baseline = comparison.encounters[BASELINE_COLUMN].to_numpy(dtype=np.float64)
    gain = _gain(comparison, baseline)
    passed = _bounds(gain, policy)[0] > 0
    ours, theirs = auroc(comparison.label, comparison.risk), auroc(comparison.label, baseline)
    shown = "better" if passed else "not shown to be better"
    return passed, f"AUROC is {ours:.3f}, {shown} than the number of inpatient visits alone ({theirs:.3f})."


def _calibrated(comparison: Comparison, policy: PromotionPolicy) -> Iterator[Check]:
    """Judge the offset on the newest encounters, because readmissions become more or less frequent, and the slope on all."""
    newest = comparison.newest
    label, risk, patients = comparison.label[newest], comparison.risk[newest], comparison.patient_id[newest]
    offset = evaluate(label, risk, patients, n_bootstrap=policy.n_bootstrap).calibration_in_the_large
    slope = evaluate(
        comparison.label, comparison.risk, comparison.patient_id, n_bootstrap=policy.n_bootstrap
    ).calibration_slope
    for name, interval, low, high in (
        (
            f"Mean risk minus readmitted share on the {len(label)} newest encounters",
            offset,
            -policy.max_offset,
            policy.max_offset,
        ),
        ("Calibration slope", slope, policy.min_slope, policy.max_slope),
    ):
        smallest, largest = _bounds(interval, policy)
        passed = low <= smallest and largest <= high
        verdict = "within" if passed else "not within"
        yield (
            passed,
            (
                f"{name} is {interval.value:.3f}, at least {smallest:.3f} and at most {largest:.3f} with {policy.confidence:.0%} "
                f"confidence each: {verdict} {low:g} to {high:g}."
            ),
        )


def _flags(comparison: Comparison) -> Check:
    flagged = float((comparison.risk >= comparison.threshold).mean())
    return 0 < flagged < 1, f"The threshold flags {flagged:.1%} of the encounters."


def _no_subgroup_harmed(comparison: Comparison, champion_risk: Floats, policy: PromotionPolicy) -> Check:
    """Fail if a subgroup loses more than the policy allows, and its loss is not chance.

    A bound as in the other checks would fail many equally good challengers, because there are many subgroups, and small ones have
    wide intervals. So the loss itself must be beyond the limit, and a test that accounts for their number must confirm it.
    """
    changes = list(_changes(comparison, champion_risk, policy))
    harmed = [
        change
        for change, p_value in zip(changes, holm([change.p_value for change in changes]), strict=True)
        if p_value <= policy.subgroup_level and change.difference.value < -change.allowed
    ]
    if harmed:
        return False, "Worse than the champion for " + "; ".join(
            f"{change.group} ({change.metric} {change.difference.value:+.3f}, allowed {-change.allowed:+.3f})"
            for change in harmed
        ) + "."
    compared = len({change.group for change in changes})
    return True, f"None of {compared} subgroups with at least {policy.min_readmissions} readmissions is worse off."


@dataclass(frozen=True)
class _Change:
    """Challenger minus champion in one subgroup, and the loss that is allowed."""

    group: str
    metric: str
    difference: Interval
    allowed: float

    @property
    def p_value(self) -> float:
        """The one-sided probability of such a loss by chance."""
        value, error = self.difference.value, self.difference.error
        return float(norm.cdf(value / error)) if error > 0 else float(value >= 0)


def _changes(comparison: Comparison, champion_risk: Floats, policy: PromotionPolicy) -> Iterator[_Change]:
    label, rate = comparison.label, comparison.alert_rate
    # At equal alert rates: the champion's threshold may be older.
    flagged = comparison.risk >= threshold_for(comparison.risk, rate)
    flagged_by_champion = champion_risk >= threshold_for(champion_risk, rate)
    for column, name, rows in subgroups_of(comparison.encounters, 1):
        readmissions = round(label[rows].sum())
        if min(readmissions, int(rows.sum()) - readmissions) < policy.min_readmissions:
            continue
        group = f"{column} {name}"
        patients = comparison.patient_id[rows]
        gain = auroc_gain(label[rows], comparison.risk[rows], champion_risk[rows], patients)
        yield _Change(group, "AUROC", gain, policy.max_subgroup_auroc_loss)
        readmitted = rows & (label != 0)
        weight = np.asarray(label[readmitted], dtype=np.float64)
        newly_flagged = flagged[readmitted].astype(np.float64) - flagged_by_champion[readmitted]
        value = (weight * newly_flagged).sum() / weight.sum()
        influence = weight * (newly_flagged - value) / weight.sum()
        error = clustered_error(influence, comparison.patient_id[readmitted])
        yield _Change(group, "sensitivity", normal_interval(float(value), error), policy.max_subgroup_sensitivity_loss)
