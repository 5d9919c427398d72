"""Parameters of drift monitoring."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DriftPolicy(BaseModel):
    """When a difference counts as drift, and when drift leads to retraining.

    Attributes:
        false_alarm_rate: chance (0-1) that a batch without any drift has a column over its limit.
        min_changed_rows: rows of a batch that a category column must at least have changed in.
        n_resamples: size of the null distribution behind the limits.
        sample_sizes: effective sample sizes at which the null distribution is drawn, ascending.
    """

    model_config = ConfigDict(frozen=True)

    false_alarm_rate: float = Field(0.05, gt=0, lt=1)
    # On batches without drift (random patients of the real data, reference of 20,000 rows, 8,000 a batch) 56 % had a
    # column over its limit without this floor, all from values too rare for the reference to hold, and 6 % with it.
    min_changed_rows: int = Field(5, ge=1)
    n_resamples: int = Field(1000, ge=100)
    sample_sizes: tuple[int, ...] = Field((200, 1000, 4000), min_length=1)
