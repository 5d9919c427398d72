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


class PromotionPolicy(BaseModel):
    """The limits of the gate.

    Attributes:
        min_readmissions: smallest number of readmissions to compare on, and in a subgroup that is compared.
        margin: largest loss of AUROC against the champion that counts as equally good.
        anchor_margin: the same against the anchor.
        confidence: one-sided confidence of the bounds of AUROC, offset and slope.
        max_offset: largest difference between mean risk and readmitted share, up or down (0-1).
        min_slope: smallest calibration slope.
        max_slope: largest calibration slope.
        max_subgroup_auroc_loss: largest loss of AUROC against the champion in a subgroup.
        max_subgroup_sensitivity_loss: the same for the sensitivity at the alert rate.
        subgroup_level: probability (0-1) that any subgroup of an equally good challenger fails by chance (Holm 1979).
        n_bootstrap: resamples of patients behind the intervals of offset and slope.
        require_governance: whether a promotion without all required texts of governance.yaml warns or is rejected.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    min_readmissions: int = Field(100, ge=1)
    # `make bench-quality`, section gate, shows how many equal, worse and biased challengers pass.
    margin: float = Field(0.006, ge=0, lt=0.5)
    anchor_margin: float = Field(0.01, ge=0, lt=0.5)
    confidence: float = Field(0.8, gt=0.5, lt=1)
    max_offset: float = Field(0.01, gt=0, lt=1)
    min_slope: float = Field(0.85, ge=0)
    max_slope: float = Field(1.15, gt=0)
    max_subgroup_auroc_loss: float = Field(0.03, ge=0, lt=1)
    max_subgroup_sensitivity_loss: float = Field(0.05, ge=0, le=1)
    subgroup_level: float = Field(0.05, gt=0, lt=1)
    n_bootstrap: int = Field(200, ge=20)
    require_governance: Literal["warn", "reject"] = "warn"

    @model_validator(mode="after")
    def _slopes_in_order(self) -> Self:
        if self.min_slope >= self.max_slope:
            raise ValueError(
                f"a min_slope of {self.min_slope:g} is not less than the max_slope of {self.max_slope:g}, so no model would pass"
            )
        return self
