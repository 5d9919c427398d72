"""Parameters of drift monitoring."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from healthpredict.monitoring.distances import Method

DriftState = Literal["stable", "warn", "retrain"]
"""What a batch can lead to."""


class DriftPolicy(BaseModel):
    """When a difference counts as drift, and when drift leads to retraining.

    "Measured" in the comments: the real data set in ten batches of 8,000 encounters, LightGBM, outcomes known one batch
    later.

    Attributes:
        false_alarm_rate: chance (0-1) that a batch without any drift has anything over its limit.
        samples: drawn for the limits.
        count_methods: how numbers and the risk are compared.
        category_methods: how categories are compared, beside their missing and unseen values.
        min_changed_rows: rows of a batch that a category column must at least have changed in.
        sample_sizes: effective sample sizes at which the null distribution is drawn, ascending.
        min_rows: encounters below which a batch says nothing about its features and risks.
        warn_share: share of drifted features (0-1) worth a warning.
        retrain_share: share of drifted features (0-1) that leads to retraining.
        concept_false_alarm_rate: chance (0-1) that concept drift is ever reported for a champion without any.
        min_auroc_drop: fall of the AUROC since promotion that matters.
        min_calibration_offset: change of the mean risk minus the readmitted share (0-1) that matters, up or down.
        min_slope_change: change of the calibration slope that matters, up or down.
        min_subgroup_rows: encounters below which a sex, race or age band is not checked.
        max_subgroup_offset: mean risk minus readmitted share of a group (0-1) that its interval must exceed, up or down, to alarm.
        assumed_gain: AUROC that a retraining wins, assumed until the ledger knows better.
        min_expected_gain: expected gain below which retraining is done half as often.
        min_new_share: encounters with new outcomes, over those trained on, that are enough to retrain.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    false_alarm_rate: float = Field(0.05, ge=0.01, lt=1)
    samples: int = Field(1000, ge=100)
    # A few encounters with very many visits make the Wasserstein distance of visits vary so much that it misses one visit
    # more in a quarter of 2,000 encounters; Kolmogorov and Smirnov's distance never does.
    count_methods: tuple[Method, ...] = Field((Method.WASSERSTEIN, Method.KOLMOGOROV_SMIRNOV), min_length=1)
    # One diagnosis in 5 % of 2,000 encounters: found in 38 % of batches, with the distance of all of them alone in 14 %.
    category_methods: tuple[Method, ...] = Field((Method.JENSEN_SHANNON, Method.ONE_CATEGORY), min_length=1)
    # Without this floor values too rare for the reference to hold raise most false alarms: on batches without drift (random
    # patients of the real data, 8,000 rows a batch) 56 % had a column over its limit, 13 % with a floor of 5, 5 % with 10.
    min_changed_rows: int = Field(10, ge=1)
    sample_sizes: tuple[int, ...] = Field((200, 1000, 4000), min_length=1)
    # The smallest of the sample sizes: limits below it are extrapolated.
    min_rows: int = Field(200, ge=1)
    # Three features: one is over its limit by chance in 1 batch of 20.
    warn_share: float = Field(0.05, gt=0, le=1)
    # Evidently's own share for a drifted data set.
    retrain_share: float = Field(0.5, gt=0, le=1)
    concept_false_alarm_rate: float = Field(0.05, gt=0, lt=1)
    # Retraining on ten batches wins .017 on average; less than half of that is not worth the work.
    min_auroc_drop: float = Field(0.008, ge=0)
    # A tenth of the 11 % who are readmitted.
    min_calibration_offset: float = Field(0.01, ge=0)
    min_slope_change: float = Field(0.15, ge=0)
    min_subgroup_rows: int = Field(500, ge=1)
    max_subgroup_offset: float = Field(0.02, ge=0)
    # The mean over nine retrainings on the real data in ten batches, each compared with the model before it.
    assumed_gain: float = Field(0.005, ge=-0.5, le=0.5)
    min_expected_gain: float = Field(0.001, ge=-0.5, le=0.5)
    # What a model learns from more data depends on how much more it is: a batch of 8,000 matters beside 20,000 encounters and
    # hardly beside 80,000. `make bench-drift`, section policy, compares with retraining at every batch and at every second.
    min_new_share: float = Field(0.25, ge=0)
