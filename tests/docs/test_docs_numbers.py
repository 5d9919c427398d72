"""The limits that "How it decides" and "Monitoring" name are the defaults of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from healthpredict.monitoring.params import DriftPolicy
from healthpredict.training.params import ModelParams, PromotionPolicy

DOCS = Path(__file__).parents[2] / "docs"
DRIFT, GATE, MODEL = DriftPolicy(), PromotionPolicy(), ModelParams()
LOW, HIGH = (MODEL.alert_rate + sign * DRIFT.alert_rate_tolerance for sign in (-1, 1))


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def number(value: float, digits: int = 2) -> str:
    """The number without the 0 before its point, as in the documentation."""
    return f"{value:.{digits}f}".removeprefix("0")


CONFIDENCE = f"with {percent(GATE.confidence)} confidence"
CLAIMS = {
    "how-it-decides.md": (
        f"reach {percent(DRIFT.min_new_share)} of those that it has",
        f"next to nothing, {percent(2 * DRIFT.min_new_share)}",
        f"ever reported is at most {percent(DRIFT.concept_false_alarm_rate)}",
        f"as many as are needed for {DRIFT.calibration_rows:,} encounters",
        f"fewer than {DRIFT.min_readmissions} readmissions there is no test",
        f"on average by {number(DRIFT.min_contribution_change)} in log-odds or more",
        f"in at least {100 * DRIFT.max_unknown_rise:.0f} more of every 100 encounters",
        f"once {('five',)[DRIFT.min_earlier_jumps - 5]} changes are known",
        f"false-alarm rate of {percent(DRIFT.calibration_level)}",
        f"a promise: **{percent(MODEL.alert_rate)}** unless",
        f"(below {percent(LOW)} or above {percent(HIGH)})",
        f"as soon as {DRIFT.min_subgroup_rows} of its encounters",
        f"its risks are off (by {number(DRIFT.max_subgroup_offset)} or more)",
        f"at least {GATE.min_readmissions} readmissions to compare on",
        f"AUROC at most {number(GATE.margin, 3)} lower, {CONFIDENCE}",
        f"AUROC at most {number(GATE.anchor_margin, 3)} lower than that of the best champion so far, {CONFIDENCE}",
        f"mean risk within {number(GATE.max_offset)} of the readmitted share on the newest encounters, {CONFIDENCE}",
        f"calibration slope between {number(GATE.min_slope)} and {number(GATE.max_slope)}, {CONFIDENCE}",
        f"number of inpatient visits alone, {CONFIDENCE}",
        f"group with at least {GATE.min_readmissions} readmissions loses more than {number(GATE.max_subgroup_auroc_loss)} AUROC or "
        f"{number(GATE.max_subgroup_sensitivity_loss)} sensitivity",
    ),
    "monitoring.md": (
        f"must fall by at least {number(DRIFT.min_auroc_drop, 3)}",
        f"a champion that has none is at most {percent(DRIFT.concept_false_alarm_rate)}",
        f"as many as are needed for {DRIFT.calibration_rows:,} encounters",
        f"fewer than {DRIFT.min_readmissions} readmissions, the calibration is unknown",
        f"tests at a level of {percent(DRIFT.calibration_level)}",
        f"the promised share ({percent(MODEL.alert_rate)}, or",
        f"the difference is more than {number(DRIFT.alert_rate_tolerance)}",
        f"fewer than {DRIFT.min_rows} encounters, features and risks are not judged",
        f"it changed by {number(DRIFT.min_contribution_change)} or more, up or down, and beyond chance",
        f"it rose by {number(DRIFT.max_unknown_rise, 1)} or more",
        f"it is at least {DRIFT.min_jump:g}, and at least",
        f"plus {DRIFT.jump_deviations:g} robust standard deviations",
        f"At least {DRIFT.min_earlier_jumps} earlier jumps",
        f"last one with at least {DRIFT.min_rows} encounters",
        f"less than {number(DRIFT.min_expected_gain, 3)} AUROC",
        f"one-sided, {CONFIDENCE}",
        f"at least {GATE.min_readmissions} readmissions to compare on",
        f"less than {number(GATE.margin, 3)}, and lower than the anchor's by less than {number(GATE.anchor_margin, 3)}",
        f"within {number(GATE.max_offset)} of the readmitted share",
        f"between {number(GATE.min_slope)} and {number(GATE.max_slope)}",
        f"more than {number(GATE.max_subgroup_auroc_loss)} AUROC or {number(GATE.max_subgroup_sensitivity_loss)} sensitivity",
        f"at a level of {percent(GATE.subgroup_level)} for all subgroups",
    ),
}


@pytest.mark.parametrize(("page", "claim"), [(page, claim) for page, claims in CLAIMS.items() for claim in claims])
def test_a_limit_in_the_text_is_that_of_the_settings(page: str, claim: str) -> None:
    assert claim in " ".join((DOCS / page).read_text().split())
