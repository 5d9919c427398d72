"""Parameters of drift monitoring."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from healthpredict.monitoring.distances import Method

DriftState = Literal["stable", "warn", "recalibrate", "retrain"]
"""The decision after a batch."""


class DriftPolicy(BaseModel):
    """When a difference counts as drift, and what leads to a recalibration or a retraining.

    Figures in the comments were measured on the real data set in ten batches of 8,000 encounters, with LightGBM and outcomes that
    become known one batch later.

    Attributes:
        false_alarm_rate: probability (0-1) that a batch without drift raises any alarm.
        samples: number of samples that the limits are computed from.
        count_methods: how numbers and the risk are compared.
        category_methods: how categories are compared. Missing and unseen values are always compared as well.
        min_changed_rows: if fewer rows than this changed, a column of categories never counts as drifted.
        sample_sizes: effective sample sizes that the limits are computed for, ascending.
        min_rows: smallest batch (encounters) whose features and risks are judged.
        min_contribution_change: smallest change of a column's mean contribution to the log-odds that raises an alarm.
        max_unknown_rise: rise of the share (0-1) of missing or unknown values of a column that raises an alarm.
        min_jump: smallest change of a column's distribution that raises an alarm, in units of what chance explains.
        jump_deviations: a column raises an alarm if it changed by at least the median of its earlier changes from batch to batch
            plus this number of robust standard deviations.
        min_earlier_jumps: smallest number of earlier changes for that.
        concept_false_alarm_rate: probability (0-1) that concept drift is ever reported for a champion that has none.
        min_auroc_drop: smallest fall of the AUROC since promotion that counts as concept drift.
        calibration_level: significance level (0-1) of each test that leads to a recalibration.
        calibration_rows: number of the newest encounters with known outcomes that the calibration is tested on, in whole batches.
        min_readmissions: smallest number of readmissions among them. With fewer, the calibration is unknown.
        alert_rate_tolerance: largest difference, up or down, between the share of flagged encounters and the promised share (0-1).
        min_subgroup_rows: smallest number of encounters of a group of patients that is checked.
        max_subgroup_offset: largest difference, up or down, between a group's mean risk and its readmitted share (0-1) that
            raises no alarm.
        assumed_gain: gain in AUROC that is expected of the first retraining. Later, it counts as one of the measured gains.
        min_expected_gain: if the expected gain is smaller, retraining waits for twice as many new outcomes.
        min_new_share: number of new outcomes that leads to a retraining, divided by the encounters that the champion learned from.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    false_alarm_rate: float = Field(0.05, ge=0.01, lt=1)
    samples: int = Field(1000, ge=100)
    # A few encounters with very many visits make the Wasserstein distance vary a lot. On its own, it misses that a quarter of 2,000
    # encounters have one visit more. The Kolmogorov-Smirnov distance never misses it.
    count_methods: tuple[Method, ...] = Field((Method.WASSERSTEIN, Method.KOLMOGOROV_SMIRNOV), min_length=1)
    # A diagnosis planted in 5 % of 2,000 encounters is found in 38 % of batches; with the Jensen-Shannon distance alone, in 14 %.
    category_methods: tuple[Method, ...] = Field((Method.JENSEN_SHANNON, Method.ONE_CATEGORY), min_length=1)
    # Without this minimum, values that are too rare to occur in the reference raise most false alarms. Of batches without drift
    # (8,000 encounters of random patients of the real data), 56 % raised an alarm; with a minimum of 5, 13 %; with 10, 5 %.
    min_changed_rows: int = Field(10, ge=1)
    sample_sizes: tuple[int, ...] = Field((200, 1000, 4000), min_length=1)
    # The smallest of the sample sizes: for smaller batches, limits are extrapolated.
    min_rows: int = Field(200, ge=1)
    # Moves a risk of 10 % by .3 percentage points.
    min_contribution_change: float = Field(0.03, gt=0)
    max_unknown_rise: float = Field(0.2, gt=0, le=1)
    # Chance explains 1. Between two batches of 8,000 encounters, 2 are 8 percentage points more or fewer missing specialties.
    min_jump: float = Field(2, ge=1)
    jump_deviations: float = Field(4, gt=0)
    # Fewer than half of them may be odd without moving the median: two, such as a break and its repair.
    min_earlier_jumps: int = Field(5, ge=2)
    concept_false_alarm_rate: float = Field(0.05, gt=0, lt=1)
    # Retraining on ten batches gains .017 on average. Less than half of that is not worth the work.
    min_auroc_drop: float = Field(0.008, ge=0)
    # On the real data in ten batches (CatBoost with its first parameters), the mean absolute offset is .0059 with this level, .0051
    # if every batch leads to a recalibration, and .0120 without recalibration.
    calibration_level: float = Field(0.05, gt=0, lt=1)
    calibration_rows: int = Field(5000, ge=1)
    min_readmissions: int = Field(100, ge=1)
    # A team that can follow up 20 of 100 patients gets 17 to 23.
    alert_rate_tolerance: float = Field(0.03, gt=0, lt=1)
    min_subgroup_rows: int = Field(500, ge=1)
    max_subgroup_offset: float = Field(0.02, ge=0)
    # The mean over nine retrainings on the real data in ten batches, each compared with the model before it.
    assumed_gain: float = Field(0.005, ge=-0.5, le=0.5)
    min_expected_gain: float = Field(0.001, ge=-0.5, le=0.5)
    # The gain from more data depends on the ratio: 8,000 new encounters matter for a model trained on 20,000, hardly for one
    # trained on 80,000. `make bench-drift`, section policy, compares with retraining at every batch and at every second one.
    min_new_share: float = Field(0.1, gt=0)
