"""Parameters of training."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FamilyName = Literal["logistic_regression", "random_forest", "xgboost", "lightgbm", "catboost"]


class SearchParams(BaseModel):
    """Budget and shape of a search.

    Attributes:
        families: model families to try, the favourite first; each gets its first trial, and has to beat the
            favourite by more than chance.
        n_trials: trials of a full search.
        time_budget_seconds: a search ends then even if trials are left.
        retrain_n_trials: trials of a search that starts from the champion's parameters.
        retrain_time_budget_seconds: the same, in time.
        retrain_families: how many of the best families of the last search a retraining tries.
        finalists: how many of the best families a full search fits and compares on all training patients before it chooses one.
        retrain_finalists: the same, of a retraining.
        max_concurrent: trials at a time, one core each; None for as many as Ray sees cores.
        seed: of the searcher and of every model.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    families: tuple[FamilyName, ...] = ("catboost", "lightgbm", "xgboost", "logistic_regression", "random_forest")
    n_trials: int = Field(15, ge=1)
    time_budget_seconds: float = Field(75, gt=0)
    retrain_n_trials: int = Field(4, ge=1)
    retrain_time_budget_seconds: float = Field(20, gt=0)
    retrain_families: int = Field(2, ge=1)
    finalists: int = Field(3, ge=1)
    retrain_finalists: int = Field(1, ge=1)
    max_concurrent: int | None = None
    seed: int = 7


class ModelParams(BaseModel):
    """How a fitted model becomes a decision, and what it must not exceed.

    Attributes:
        alert_rate: share of encounters a discharge team can follow up; the threshold is the risk that flags that share.
        n_bootstrap: resamples behind each interval.
        min_subgroup_rows: smaller groups are not evaluated.
        leak_auroc: an AUROC above it fails the training as a leak: no published model of this data set without one reaches it.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, protected_namespaces=())

    alert_rate: float = Field(0.2, gt=0, lt=1)
    n_bootstrap: int = Field(200, ge=20)
    min_subgroup_rows: int = Field(300, ge=1)
    leak_auroc: float = Field(0.72, gt=0.5, le=1)
