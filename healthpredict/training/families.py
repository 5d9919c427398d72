"""The model families. Each has a search space, parameters for the first trial, and a fit that reports its progress.

All are fitted on the encoder's matrix, which is dense and has no missing values. So every family can be exported to ONNX, and the
exported model takes the same branches (see `features.encoder`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from healthpredict.evaluation.metrics import auroc
from healthpredict.training.params import FamilyName

Params = Mapping[str, Any]
Report = Callable[[int, float], None]
"""Called with the step, 1 to STEPS, and the AUROC on the validation side so far."""

STEPS: Final = 10
"""Number of reports of a fit. ASHA can stop a trial at a report."""

_THREADS: Final = 1
"""Threads of a fit. Several fits run at the same time. On a busy machine, the threads of one fit wait for each other and cost up to
ten times the CPU (measured on two busy cores: LightGBM takes 5 s with one thread and 17 s with two)."""


@dataclass(frozen=True)
class Examples:
    """Encoded encounters, shape (n_encounters, n_features), and their outcomes, shape (n_encounters,)."""

    features: NDArray[np.float32]
    label: NDArray[np.bool_]

    @property
    def classes(self) -> NDArray[np.int64]:
        """The outcomes as 0 and 1, because the converters to ONNX do not support boolean classes."""
        return self.label.astype(np.int64)


@dataclass(frozen=True)
class Watch:
    """Validation data, and a callback for the AUROC on it."""

    examples: Examples
    report: Report

    def evaluate(self, step: int, probability: NDArray[np.floating[Any]]) -> None:
        """Report the AUROC of probabilities, shape (n_encounters,)."""
        self.report(step, auroc(self.examples.label, probability.astype(np.float64)))


@dataclass(frozen=True)
class Family:
    """A model family.

    Attributes:
        name: as in `SearchParams.families`.
        first: parameters of the first trial, by name.
        suggest: draws the same parameters from an Optuna trial, as `FAMILY.PARAMETER`.
        fit: (params, training examples, watch or None, seed) -> a fitted vendor model with `predict_proba`.
    """

    name: FamilyName
    first: Params
    suggest: Callable[[Any], None]
    fit: Callable[[Params, Examples, Watch | None, int], Any]


def probability(model: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the vendor model's probability of readmission, shape (n_encounters,)."""
    return np.asarray(model.predict_proba(features)[:, 1], dtype=np.float64)


def _step_at(iteration: int, total: int) -> int | None:
    """Return the step that ends with this iteration (counted from 1), or None."""
    done = iteration * STEPS // total
    return done if done > (iteration - 1) * STEPS // total else None


def _suggest_lightgbm(trial: Any) -> None:
    trial.suggest_int("lightgbm.n_estimators", 200, 700, step=100)
    trial.suggest_float("lightgbm.learning_rate", 0.015, 0.06, log=True)
    trial.suggest_int("lightgbm.num_leaves", 4, 16)
    trial.suggest_int("lightgbm.min_child_samples", 50, 400, log=True)
    trial.suggest_float("lightgbm.reg_lambda", 1.0, 100.0, log=True)
    trial.suggest_float("lightgbm.colsample_bytree", 0.1, 0.5)
    trial.suggest_float("lightgbm.subsample", 0.3, 0.8)


def _fit_lightgbm(params: Params, train: Examples, watch: Watch | None, seed: int) -> Any:
    import lightgbm

    def callback(env: Any) -> None:
        step = _step_at(env.iteration + 1, params["n_estimators"])
        if step is not None and watch is not None:
            watch.evaluate(step, env.model.predict(watch.examples.features, num_threads=_THREADS))

    model = lightgbm.LGBMClassifier(
        **params, subsample_freq=1, n_jobs=_THREADS, random_state=seed, deterministic=True, verbose=-1
    )
    model.fit(train.features, train.classes, callbacks=[callback])
    return model


def _suggest_xgboost(trial: Any) -> None:
    trial.suggest_int("xgboost.n_estimators", 150, 500, step=50)
    trial.suggest_float("xgboost.learning_rate", 0.02, 0.1, log=True)
    trial.suggest_int("xgboost.max_depth", 2, 5)
    trial.suggest_float("xgboost.min_child_weight", 5.0, 100.0, log=True)
    trial.suggest_float("xgboost.reg_lambda", 1.0, 100.0, log=True)
    trial.suggest_float("xgboost.colsample_bytree", 0.1, 0.5)
    trial.suggest_float("xgboost.subsample", 0.3, 0.8)


def _fit_xgboost(params: Params, train: Examples, watch: Watch | None, seed: int) -> Any:
    import xgboost

    class Reporter(xgboost.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            step = _step_at(epoch + 1, params["n_estimators"])
            if step is not None and watch is not None:
                watch.evaluate(step, model.inplace_predict(watch.examples.features))
            return False

    model = xgboost.XGBClassifier(
        **params, n_jobs=_THREADS, random_state=seed, tree_method="hist", callbacks=[Reporter()]
    )
    model.fit(train.features, train.classes)
    # The callback refers to the validation data, which must not be stored with the model.
    return model.set_params(callbacks=None)


def _suggest_catboost(trial: Any) -> None:
    trial.suggest_int("catboost.iterations", 150, 450, step=50)
    trial.suggest_float("catboost.learning_rate", 0.03, 0.1, log=True)
    trial.suggest_int("catboost.depth", 4, 6)
    trial.suggest_float("catboost.l2_leaf_reg", 5.0, 100.0, log=True)
    trial.suggest_float("catboost.rsm", 0.05, 0.3)
    trial.suggest_float("catboost.subsample", 0.3, 0.8)


_LEAF_NEWTON_STEPS: Final = 4
"""Newton steps for the value of a leaf. With the vendor's default of 10, a fit takes a quarter longer and is not better.
With one step, it is worse."""


def _fit_catboost(params: Params, train: Examples, watch: Watch | None, seed: int) -> Any:
    import catboost

    class Reporter:
        def after_iteration(self, info: Any) -> bool:
            step = _step_at(info.iteration, params["iterations"])
            if step is not None and watch is not None:
                watch.report(step, float(info.metrics["validation"]["AUC"][-1]))
            return True

    model = catboost.CatBoostClassifier(
        **params,
        leaf_estimation_iterations=_LEAF_NEWTON_STEPS,
        thread_count=_THREADS,
        random_seed=seed,
        custom_metric=["AUC:hints=skip_train~true"],
        verbose=0,
        allow_writing_files=False,
    )
    watched = None if watch is None else (watch.examples.features, watch.examples.classes)
    model.fit(
        train.features,
        train.classes,
        eval_set=watched,
        use_best_model=False,
        callbacks=None if watch is None else [Reporter()],
    )
    return model


def _suggest_random_forest(trial: Any) -> None:
    trial.suggest_int("random_forest.max_depth", 5, 11)
    trial.suggest_int("random_forest.min_samples_leaf", 20, 200, log=True)
    trial.suggest_float("random_forest.max_features", 0.08, 0.3)


_FOREST_TREES: Final = 100


def _fit_random_forest(params: Params, train: Examples, watch: Watch | None, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(**params, n_jobs=_THREADS, random_state=seed, max_samples=0.25, warm_start=True)
    for step in range(1, STEPS + 1):
        model.set_params(n_estimators=_FOREST_TREES * step // STEPS)
        model.fit(train.features, train.classes)
        if watch is not None:
            watch.evaluate(step, probability(model, watch.examples.features))
    return model


def _suggest_logistic_regression(trial: Any) -> None:
    trial.suggest_float("logistic_regression.C", 1e-5, 0.1, log=True)


def _fit_logistic_regression(params: Params, train: Examples, watch: Watch | None, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(**params, solver="newton-cholesky"))
    model.fit(train.features, train.classes)
    # In 32 bits, the sum over all features would be rounded by more than a bundle may differ from training.
    linear = model[-1]
    linear.coef_, linear.intercept_ = linear.coef_.astype(np.float64), linear.intercept_.astype(np.float64)
    if watch is not None:
        predicted = probability(model, watch.examples.features)
        # Newton's method converges in about four iterations, so every report is final.
        for step in range(1, STEPS + 1):
            watch.evaluate(step, predicted)
    return model


FAMILIES: Final[Mapping[FamilyName, Family]] = {
    family.name: family
    for family in (
        Family(
            "lightgbm",
            {
                "n_estimators": 400,
                "learning_rate": 0.03,
                "num_leaves": 8,
                "min_child_samples": 100,
                "reg_lambda": 20.0,
                "colsample_bytree": 0.3,
                "subsample": 0.4,
            },
            _suggest_lightgbm,
            _fit_lightgbm,
        ),
        Family(
            "xgboost",
            {
                "n_estimators": 300,
                "learning_rate": 0.05,
                "max_depth": 3,
                "min_child_weight": 20.0,
                "reg_lambda": 20.0,
                "colsample_bytree": 0.3,
                "subsample": 0.4,
            },
            _suggest_xgboost,
            _fit_xgboost,
        ),
        Family(
            "catboost",
            {
                "iterations": 300,
                "learning_rate": 0.06,
                "depth": 5,
                "l2_leaf_reg": 30.0,
                "rsm": 0.15,
                "subsample": 0.4,
            },
            _suggest_catboost,
            _fit_catboost,
        ),
        Family(
            "random_forest",
            {"max_depth": 9, "min_samples_leaf": 50, "max_features": 0.15},
            _suggest_random_forest,
            _fit_random_forest,
        ),
        Family("logistic_regression", {"C": 0.0005}, _suggest_logistic_regression, _fit_logistic_regression),
    )
}
