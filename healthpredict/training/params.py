"""Parameters of training."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FamilyName = Literal["logistic_regression", "random_forest", "xgboost", "lightgbm", "catboost"]


class SearchParams(BaseModel):
    """Budget and scope of a search.

    Attributes:
        families: model families to try, the preferred one first. Each gets at least one trial, and another family replaces the
            preferred one only if it is better by more than chance.
        n_trials: number of trials of a full search.
        time_budget_seconds: time limit of a full search. One trial is always completed.
        retrain_n_trials: number of trials of a retraining, which starts with the first parameters and the champion's.
        retrain_time_budget_seconds: time limit of a retraining's search.
        retrain_growth: a retraining searches again if the encounters have grown by this share since the last search. Otherwise, it
            fits the first parameters and the champion's, and takes the better ones.
        retrain_families: number of families that a retraining tries besides the preferred one, the best of the last search first.
        max_concurrent: number of trials at the same time, on one core each. None means one per core that Ray has.
        seed: of the search and of every model.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    families: tuple[FamilyName, ...] = ("catboost", "lightgbm", "xgboost", "logistic_regression", "random_forest")
    n_trials: int = Field(15, ge=1)
    time_budget_seconds: float = Field(75, gt=0)
    retrain_n_trials: int = Field(4, ge=1)
    retrain_time_budget_seconds: float = Field(20, gt=0)
    # On the real data, no search with fewer new encounters has found better parameters.
    retrain_growth: float = Field(0.5, ge=0)
    retrain_families: int = Field(2, ge=1)
    max_concurrent: int | None = None
    seed: int = 7


class ModelParams(BaseModel):
    """The threshold of a model, its evaluation, and the limits that reveal a leak.

    Attributes:
        alert_capacity: what a discharge team can follow up: below 1, a share of all encounters; from 1 on, patients a week.
        encounters_a_week: discharges of patients with diabetes in a week, for an `alert_capacity` in patients a week.
        n_bootstrap: number of bootstrap resamples for each interval.
        min_subgroup_rows: smallest number of encounters of a subgroup that is evaluated.
        leak_auroc: a training with a higher AUROC fails as a suspected leak. No published model of this data set without a leak
            reaches it. Another hospital, or another outcome, may need a higher limit.
        leak_standard_errors: a training fails as well if its AUROCs out of fold and on the test side differ by more than so many
            standard errors. By chance, one in 16,000 trainings exceeds 4.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, protected_namespaces=())

    alert_capacity: float = Field(0.2, gt=0)
    encounters_a_week: float | None = Field(None, gt=0)
    n_bootstrap: int = Field(200, ge=20)
    min_subgroup_rows: int = Field(300, ge=1)
    leak_auroc: float = Field(0.72, gt=0.5, le=1)
    leak_standard_errors: float = Field(4, gt=0)

    @model_validator(mode="after")
    def _capacity_is_a_share(self) -> Self:
        if self.alert_capacity >= 1 and self.encounters_a_week is None:
            raise ValueError(
                f"an alert_capacity of {self.alert_capacity:g} patients a week needs encounters_a_week, the number of encounters "
                "that are predicted in a week. For a share of all encounters, give a number below 1"
            )
        if not self.alert_rate < 1:
            raise ValueError(
                f"an alert_capacity of {self.alert_capacity:g} patients a week is not less than the {self.encounters_a_week:g} "
                "encounters_a_week, so every encounter would be flagged"
            )
        return self

    @property
    def alert_rate(self) -> float:
        """The share (0-1) of encounters that the threshold should flag."""
        if self.alert_capacity < 1 or self.encounters_a_week is None:
            return self.alert_capacity
        return self.alert_capacity / self.encounters_a_week
