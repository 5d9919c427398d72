"""The model families: for each a search space, a first guess and a fit that reports as it goes.

All are fitted on the encoder's matrix, which is dense and has no missing values, so that every family exports to ONNX and the
exported model takes the same branches (see `features.encoder`).
"""

from __future__ import annotations

import warnings
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
"""Reports of a fit: what ASHA can stop a trial at."""

_THREADS: Final = 1
"""Of a fit. Several fits run side by side; threads of one that wait for each other on a busy machine cost up to ten times the
CPU (measured: LightGBM 5 s with one thread, 17 s with two, on two busy cores)."""


@dataclass(frozen=True)
class Examples:
    """Encoded encounters, shape (n_encounters, n_features), and their outcomes, shape (n_encounters,)."""

    features: NDArray[np.float32]
    label: NDArray[np.bool_]

    @property
    def classes(self) -> NDArray[np.int64]:
        """The outcomes as 0 and 1: the converters to ONNX know no boolean classes."""
        return self.label.astype(np.int64)


@dataclass(frozen=True)
class Watch:
    """Validation data and whom to tell how the fit does on it."""

    examples: Examples
    report: Report

    def told(self, step: int, probability: NDArray[np.floating[Any]]) -> None:
        """Report the AUROC of a probability, shape (n_encounters,)."""
        self.report(step, auroc(self.examples.label, probability.astype(np.float64)))


@dataclass(frozen=True)
class Family:
    """A model family.

    Attributes:
        name: as in `SearchParams.families`.
        first: parameters of the first trial; also the keys that `suggest` returns.
        suggest: draws parameters from an Optuna trial.
        fit: (params, training examples, watch or None, seed) to a fitted vendor model with `predict_proba`.
    """

    name: FamilyName
    first: Params
    suggest: Callable[[Any], None]
    fit: Callable[[Params, Examples, Watch | None, int], Any]


def probability(model: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """The vendor model's own probability of readmission, shape (n_encounters,)."""
    return np.asarray(model.predict_proba(features)[:, 1], dtype=np.float64)


def _step_at(iteration: int, total: int) -> int | None:
    """The step that ends with this iteration (counted from 1), or None."""
    done = iteration * STEPS // total
    return done if done > (iteration - 1) * STEPS // total else None


def _suggest_lightgbm(trial: Any) -> None:
    trial.suggest_int("lightgbm.n_estimators", 200, 700, step=100)
    trial.suggest_float("lightgbm.learning_rate", 0.015, 0.06, log=True)
    trial.suggest_int("lightgbm.num_leaves", 4, 16)
    trial.suggest_int("lightgbm.min_child_samples", 50, 400, log=True)
    trial.suggest_float("lightgbm.reg_lambda", 1.0, 100.0, log=True)
    trial.suggest_float("lightgbm.colsample_bytree", 0.1, 0.5)


def _fit_lightgbm(params: Params, train: Examples, watch: Watch | None, seed: int) -> Any:
    import lightgbm

    def callback(env: Any) -> None:
        step = _step_at(env.iteration + 1, params["n_estimators"])
        if step is not None and watch is not None:
            watch.told(step, env.model.predict(watch.examples.features, num_threads=_THREADS))

    model = lightgbm.LGBMClassifier(**params, n_jobs=_THREADS, random_state=seed, deterministic=True, verbose=-1)
    model.fit(train.features, train.classes, callbacks=[callback])
    return model


def _suggest_xgboost(trial: Any) -> None:
    trial.suggest_int("xgboost.n_estimators", 150, 500, step=50)
    trial.suggest_float("xgboost.learning_rate", 0.02, 0.1, log=True)
    trial.suggest_int("xgboost.max_depth", 2, 5)
    trial.suggest_float("xgboost.min_child_weight", 5.0, 100.0, log=True)
    trial.suggest_float("xgboost.reg_lambda", 1.0, 100.0, log=True)
    trial.suggest_float("xgboost.colsample_bytree", 0.1, 0.5)
    trial.suggest_float("xgboost.subsample", 0.5, 1.0)


def _fit_xgboost(params: Params, train: Examples, watch: Watch | None, seed: int) -> Any:
    import xgboost

    class Reporter(xgboost.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            step = _step_at(epoch + 1, params["n_estimators"])
            if step is not None and watch is not None:
                watch.told(step, model.inplace_predict(watch.examples.features))
            return False

    model = xgboost.XGBClassifier(
        **params, n_jobs=_THREADS, random_state=seed, tree_method="hist", callbacks=[Reporter()]
    )
    model.fit(train.features, train.classes)
    # A callback holds the validation data; the model must not.
    return model.set_params(callbacks=None)


def _suggest_catboost(trial: Any) -> None:
    trial.suggest_int("catboost.iterations", 150, 400, step=50)
    trial.suggest_float("catboost.learning_rate", 0.03, 0.12, log=True)
    trial.suggest_int("catboost.depth", 4, 7)
    trial.suggest_float("catboost.l2_leaf_reg", 5.0, 100.0, log=True)
    trial.suggest_float("catboost.rsm", 0.1, 0.5)


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

    model = RandomForestClassifier(**params, n_jobs=_THREADS, random_state=seed, max_samples=0.5, warm_start=True)
    for step in range(1, STEPS + 1):
        model.set_params(n_estimators=_FOREST_TREES * step // STEPS)
        model.fit(train.features, train.classes)
        if watch is not None:
            watch.told(step, probability(model, watch.examples.features))
    return model


def _suggest_logistic_regression(trial: Any) -> None:
    trial.suggest_float("logistic_regression.C", 1e-4, 1.0, log=True)


_NEWTON_STEPS: Final = 10


def _fit_logistic_regression(params: Params, train: Examples, watch: Watch | None, seed: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.features)
    scaled = scaler.transform(train.features)
    model = LogisticRegression(**params, max_iter=_NEWTON_STEPS, warm_start=True)
    pipeline = make_pipeline(scaler, model)
    for step in range(1, STEPS + 1):
        with warnings.catch_warnings():
            # Each step is cut short on purpose, to report; the next goes on from there.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaled, train.classes)
        if watch is not None:
            watch.told(step, probability(pipeline, watch.examples.features))
    return pipeline


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
                "subsample": 0.8,
            },
            _suggest_xgboost,
            _fit_xgboost,
        ),
        Family(
            "catboost",
            {"iterations": 250, "learning_rate": 0.06, "depth": 6, "l2_leaf_reg": 30.0, "rsm": 0.3},
            _suggest_catboost,
            _fit_catboost,
        ),
        Family(
            "random_forest",
            {"max_depth": 9, "min_samples_leaf": 50, "max_features": 0.15},
            _suggest_random_forest,
            _fit_random_forest,
        ),
        Family("logistic_regression", {"C": 0.003}, _suggest_logistic_regression, _fit_logistic_regression),
    )
}
