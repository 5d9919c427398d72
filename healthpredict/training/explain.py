"""Build the explainer of a fitted model from the vendor's description of its trees or coefficients."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from healthpredict.bundle.explainer import Explainer, Linear, Scale, Trees
from healthpredict.training.families import probability
from healthpredict.training.params import FamilyName


@dataclass(frozen=True)
class _Leaf:
    value: float
    rows: float


@dataclass(frozen=True)
class _Split:
    """Encounters whose feature is at most `bound` go left. `rows` is the weight of the training data at the split."""

    feature: int
    bound: np.float32
    left: _Leaf | _Split
    right: _Leaf | _Split
    rows: float


_Node = _Leaf | _Split
_Step = tuple[int, np.float32, np.float32, float]
"""Feature, exclusive lower bound, inclusive upper bound, share of the rows."""


def explainer_of(family: FamilyName, model: Any, features: NDArray[np.float32]) -> Explainer:
    """Build the explainer of a model.

    Args:
        family: of the model.
        model: as `Family.fit` returns it.
        features: at least one encoded encounter, shape (n, n_features). The model's prediction for the first one minus the sum of
            its trees is the constant that the trees leave out (an initial score, a bias).
    """
    if family == "logistic_regression":
        scaler, regression = model[0], model[-1]
        coefficient = regression.coef_[0] / scaler.scale_
        return Explainer(Linear(coefficient, np.asarray(scaler.mean_)), float(regression.intercept_[0]), "log_odds")
    trees = _as_trees(list(_TREES[family](model)))
    scale: Scale = "probability" if family == "random_forest" else "log_odds"
    predicted = probability(model, features[:1])[0]
    if scale == "log_odds":
        predicted = np.log(predicted / (1 - predicted))
    return Explainer(trees, float(predicted - trees.contributions(features[0]).sum()), scale)


def _as_trees(roots: Iterable[_Node]) -> Trees:
    leaves = [(path, value, tree) for tree, root in enumerate(roots) for path, value in _leaves(root, ())]
    longest = max((len(path) for path, *_ in leaves), default=0) or 1
    shape = (longest, len(leaves))
    feature, share = np.zeros(shape, dtype=np.int32), np.ones(shape)
    low, high = np.full(shape, -np.inf, dtype=np.float32), np.full(shape, np.inf, dtype=np.float32)
    for i, (path, *_) in enumerate(leaves):
        for j, step in enumerate(path):
            feature[j, i], low[j, i], high[j, i], share[j, i] = step
    value, tree = np.array([value for _, value, _ in leaves]), np.array([tree for *_, tree in leaves], dtype=np.int32)
    return Trees(feature, low, high, share, value, tree)


def _leaves(node: _Node, path: tuple[_Step, ...]) -> Iterator[tuple[tuple[_Step, ...], float]]:
    """Yield path and value of each leaf. A path has one step per feature."""
    if isinstance(node, _Leaf):
        yield path, node.value
        return
    infinity = np.float32(np.inf)
    for child, low, high in ((node.left, -infinity, node.bound), (node.right, node.bound, infinity)):
        share = child.rows / node.rows if node.rows else 0.0
        earlier = next((step for step in path if step[0] == node.feature), (node.feature, -infinity, infinity, 1.0))
        step = (node.feature, max(earlier[1], low), min(earlier[2], high), earlier[3] * share)
        yield from _leaves(child, (*(known for known in path if known[0] != node.feature), step))


def _at_most(bound: float) -> np.float32:
    """Round a bound down to 32 bits. For 32-bit features, both bounds split alike."""
    rounded = np.float32(bound)
    return rounded if float(rounded) <= bound else np.nextafter(rounded, np.float32(-np.inf))


def _lightgbm(model: Any) -> Iterator[_Node]:
    def node(data: dict[str, Any]) -> _Node:
        if "leaf_value" in data:
            return _Leaf(data["leaf_value"], data.get("leaf_count", 1))  # a tree with one leaf has no count
        left, right = node(data["left_child"]), node(data["right_child"])
        return _Split(data["split_feature"], _at_most(data["threshold"]), left, right, data["internal_count"])

    return (node(tree["tree_structure"]) for tree in model.booster_.dump_model()["tree_info"])


def _xgboost(model: Any) -> Iterator[_Node]:
    def node(data: dict[str, Any]) -> _Node:
        if "leaf" in data:
            return _Leaf(data["leaf"], data["cover"])
        by_id = {child["nodeid"]: child for child in data["children"]}
        # XGBoost goes left if the feature is below the bound, but not if it is equal.
        bound = np.nextafter(np.float32(data["split_condition"]), np.float32(-np.inf))
        left, right = node(by_id[data["yes"]]), node(by_id[data["no"]])
        return _Split(int(data["split"].removeprefix("f")), bound, left, right, data["cover"])

    dumped = model.get_booster().get_dump(dump_format="json", with_stats=True)
    return (node(json.loads(tree)) for tree in dumped)


def _catboost(model: Any) -> Iterator[_Node]:
    """All nodes of a level have the same split. The bits of a leaf's index are the outcomes, the last split in the highest bit."""

    def node(tree: dict[str, Any], splits: list[dict[str, Any]], leaf: int) -> _Node:
        if not splits:
            return _Leaf(tree["leaf_values"][leaf], tree["leaf_weights"][leaf])
        *others, split = splits
        left, right = node(tree, others, leaf), node(tree, others, leaf + 2 ** len(others))
        return _Split(split["float_feature_index"], _at_most(split["border"]), left, right, left.rows + right.rows)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        described = json.loads(path.read_bytes())
    return (node(tree, tree["splits"] or [], 0) for tree in described["oblivious_trees"])


def _random_forest(model: Any) -> Iterator[_Node]:
    def node(tree: Any, i: int) -> _Node:
        rows = tree.weighted_n_node_samples[i]
        if tree.children_left[i] < 0:
            return _Leaf(tree.value[i, 0, 1] / len(model.estimators_), rows)
        left, right = node(tree, tree.children_left[i]), node(tree, tree.children_right[i])
        return _Split(int(tree.feature[i]), _at_most(tree.threshold[i]), left, right, rows)

    return (node(estimator.tree_, 0) for estimator in model.estimators_)


_TREES: Final[dict[FamilyName, Callable[[Any], Iterator[_Node]]]] = {
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "catboost": _catboost,
    "random_forest": _random_forest,
}
