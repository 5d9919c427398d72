"""Parameters of drift monitoring."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DriftPolicy(BaseModel):
    """When a difference counts as drift, and when drift leads to retraining.

    "Measured" in the comments: the real data set in ten batches of 8,000 encounters, LightGBM, outcomes known one batch
    later.

    Attributes:
        false_alarm_rate: chance (0-1) that a batch without any drift has a column over its limit.
        min_changed_rows: rows of a batch that a category column must at least have changed in.
        sample_sizes: effective sample sizes at which the null distribution is drawn, ascending.
        min_rows: encounters below which a batch says nothing about its features and risks.
        warn_share: share of drifted features (0-1) worth a warning.
        retrain_share: share of drifted features (0-1) that leads to retraining.
        max_auroc_drop: fall of the AUROC since promotion that is concept drift if its interval also excludes zero.
        max_calibration_offset: mean risk minus readmitted share (0-1) that its interval must exceed, up or down.
        min_batches_between: batches from one training to the next.
        min_batches_between_data_only: the same where neither risks nor outcomes show drift, only features.
    """

    model_config = ConfigDict(frozen=True)

    false_alarm_rate: float = Field(0.05, ge=0.01, lt=1)
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
    # What retraining wins back: measured .022 [.019, .025] over a model that is never retrained. The standard error of
    # an AUROC is .010 at 8,000 encounters, so only a fall of about .03 is sure to be seen in one batch.
    max_auroc_drop: float = Field(0.02, ge=0)
    # A tenth of the 11 % who are readmitted.
    max_calibration_offset: float = Field(0.01, ge=0)
    # Measured mean AUROC when retraining every batch .666, every 2nd .665, 3rd .663, 4th .662, never .651: every 2nd
    # batch gives up a thousandth for half the work, every 4th still wins back two thirds.
    min_batches_between: int = Field(2, ge=1)
    min_batches_between_data_only: int = Field(4, ge=1)
