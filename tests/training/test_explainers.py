"""Explanations are exact, of every family."""

from __future__ import annotations

from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import pytest

from healthpredict.bundle.explainer import Explainer, Trees
from healthpredict.training.explain import explainer_of
from healthpredict.training.families import FAMILIES, Examples, probability
from healthpredict.training.params import FamilyName

N_FEATURES = 6


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Features on a grid, as the encoder's are; the outcome depends on some, and on two of them together."""
    rng = np.random.default_rng(0)
    features = (rng.integers(-20, 20, (1500, N_FEATURES)) / 16).astype(np.float32)
    log_odds = features[:, 0] + features[:, 1] * features[:, 2] - 1
    return Examples(features, rng.random(1500) < 1 / (1 + np.exp(-log_odds)))


@pytest.fixture(scope="module", params=list(FAMILIES))
def fitted(request: pytest.FixtureRequest, examples: Examples) -> tuple[FamilyName, Any, Explainer]:
    family = FAMILIES[request.param]
    small = {"n_estimators": 30, "iterations": 30, "min_samples_leaf": 20, "max_features": 0.5}
    params = {**family.first, **{name: value for name, value in small.items() if name in family.first}}
    model = family.fit(params, examples, None, 0)
    return family.name, model, explainer_of(family.name, model, examples.features)


def log_odds(p: Any) -> Any:
    return np.log(p / (1 - p))


def test_contributions_add_up_to_the_log_odds(fitted: tuple[FamilyName, Any, Explainer], examples: Examples) -> None:
    _, model, explainer = fitted
    said = log_odds(probability(model, examples.features[:50]))
    for row, expected in zip(examples.features[:50], said, strict=True):
        start, contributions = explainer.log_odds(row)
        assert start + contributions.sum() == pytest.approx(expected, abs=1e-5)


def test_contributions_are_the_vendors_own(fitted: tuple[FamilyName, Any, Explainer], examples: Examples) -> None:
    """LightGBM, XGBoost and CatBoost have TreeSHAP built in."""
    name, model, explainer = fitted
    rows = examples.features[:50]
    if name == "lightgbm":
        theirs = model.predict_proba(rows, pred_contrib=True)
    elif name == "xgboost":
        import xgboost

        theirs = model.get_booster().predict(xgboost.DMatrix(rows), pred_contribs=True)
    elif name == "catboost":
        import catboost

        theirs = model.get_feature_importance(catboost.Pool(rows), type="ShapValues")
    else:
        pytest.skip("scikit-learn has none")
    ours = [explainer.log_odds(row) for row in rows]
    assert np.array([contributions for _, contributions in ours]) == pytest.approx(theirs[:, :-1], abs=1e-5)
    assert [start for start, _ in ours] == pytest.approx(theirs[:, -1], abs=1e-5)


def test_a_forest_is_explained_as_by_the_definition(examples: Examples) -> None:
    """Every subset of the features, each weighed by the share of orders in which it comes first (Shapley 1953)."""
    model = FAMILIES["random_forest"].fit(
        {"max_depth": 7, "min_samples_leaf": 10, "max_features": 0.5}, examples, None, 0
    )
    trees = explainer_of("random_forest", model, examples.features).model
    assert isinstance(trees, Trees)
    row = examples.features[7]
    assert trees.contributions(row) == pytest.approx(by_definition(trees, row), abs=1e-12)


def by_definition(trees: Trees, row: np.ndarray) -> list[float]:
    inside = (row[trees.feature] > trees.low) & (row[trees.feature] <= trees.high)

    def worth(known: tuple[int, ...]) -> float:
        factors = np.where(np.isin(trees.feature, known), inside, trees.share)
        return float((factors.prod(axis=0) * trees.value).sum())

    values = []
    for i in range(N_FEATURES):
        others = [j for j in range(N_FEATURES) if j != i]
        values.append(
            sum(
                factorial(size) * factorial(N_FEATURES - size - 1) / factorial(N_FEATURES) * (worth((*s, i)) - worth(s))
                for size in range(N_FEATURES)
                for s in combinations(others, size)
            )
        )
    return values


def test_a_linear_model_is_explained_by_distance_from_the_mean(examples: Examples) -> None:
    model = FAMILIES["logistic_regression"].fit({"C": 1.0}, examples, None, 0)
    explainer = explainer_of("logistic_regression", model, examples.features)
    mean = examples.features.mean(axis=0)
    assert explainer.log_odds(mean)[1] == pytest.approx(np.zeros(N_FEATURES), abs=1e-6)


def test_it_reads_back_what_it_wrote(fitted: tuple[FamilyName, Any, Explainer], examples: Examples) -> None:
    _, _, explainer = fitted
    again = Explainer.from_bytes(explainer.to_bytes())
    before, after = (e.log_odds(examples.features[0]) for e in (explainer, again))
    assert (before[0], before[1].tolist()) == (after[0], after[1].tolist())


def test_a_model_that_found_nothing_is_explained(examples: Examples) -> None:
    nothing = Examples(np.zeros_like(examples.features), examples.label)
    for name in ("lightgbm", "random_forest"):
        model = FAMILIES[name].fit(FAMILIES[name].first, nothing, None, 0)
        start, contributions = explainer_of(name, model, nothing.features).log_odds(nothing.features[0])
        assert contributions.tolist() == [0] * N_FEATURES
        assert start == pytest.approx(log_odds(probability(model, nothing.features[:1])[0]), abs=1e-6)
