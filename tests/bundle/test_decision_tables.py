"""Decision tables predict the same as their trees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import build_tiny_bundle
from hypothesis import given
from hypothesis import strategies as st

from healthpredict.bundle.build import build_bundle
from healthpredict.bundle.decision_tables import DecisionTables
from healthpredict.bundle.explainer import Explainer, Trees
from healthpredict.bundle.model import Bundle, GoldenRow
from healthpredict.errors import BundleError

N_FEATURES = 5
BOUNDS = st.integers(-3, 3).map(float)


@st.composite
def nodes(draw: st.DrawFn, depth: int) -> Any:
    """A leaf's value, or feature, bound and two nodes."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.floats(-2, 2))
    below = nodes(depth - 1)
    return draw(st.integers(0, N_FEATURES - 1)), draw(BOUNDS), draw(below), draw(below)


def walk(node: Any, row: np.ndarray) -> float:
    while isinstance(node, tuple):
        feature, bound, left, right = node
        node = right if row[feature] > bound else left
    return float(node)


def leaves(node: Any, path: tuple[tuple[int, float, float], ...] = ()) -> list[tuple[Any, float]]:
    if not isinstance(node, tuple):
        return [(path, node)]
    feature, bound, left, right = node
    return [
        *leaves(left, (*path, (feature, -np.inf, bound))),
        *leaves(right, (*path, (feature, bound, np.inf))),
    ]


def explainer_of(roots: list[Any], scale: Any = "log_odds", start: float = 0.25) -> Explainer:
    """As training makes it, but that the splits of one feature stay apart; no split has a share of its own."""
    found = [(path, value, tree) for tree, root in enumerate(roots) for path, value in leaves(root)]
    shape = (max(1, *(len(path) for path, *_ in found)), len(found)) if found else (1, 0)
    feature, low, high = np.zeros(shape, np.int32), np.full(shape, -np.inf), np.full(shape, np.inf)
    for i, (path, *_) in enumerate(found):
        for j, step in enumerate(path):
            feature[j, i], low[j, i], high[j, i] = step
    value = np.array([value for _, value, _ in found])
    tree = np.array([tree for *_, tree in found], dtype=np.int32)
    trees = Trees(feature, low.astype(np.float32), high.astype(np.float32), np.ones(shape), value, tree)
    return Explainer(trees, start + trees.expected, scale)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


@given(roots=st.lists(nodes(3), min_size=1, max_size=4), seed=st.integers(0, 100))
def test_tables_add_up_to_the_trees(roots: list[Any], seed: int) -> None:
    """Features between, at and beyond the bounds; impossible paths (above 2 and at most 1) among the leaves."""
    tables = DecisionTables.of(explainer_of(roots))
    assert tables is not None
    rows = np.random.default_rng(seed).integers(-8, 9, (40, N_FEATURES)).astype(np.float32) / 2
    expected = [sigmoid(0.25 + sum(walk(root, row) for root in roots)) for row in rows]
    assert tables.many(rows) == pytest.approx(expected, abs=1e-12)
    assert [tables.one(row) for row in rows] == pytest.approx(expected, abs=1e-12)


def balanced(depth: int, at: int = 0) -> Any:
    """A tree that asks something else at every node."""
    if depth == 0:
        return float(at)
    return at % N_FEATURES, at / 64, balanced(depth - 1, 2 * at + 1), balanced(depth - 1, 2 * at + 2)


def test_a_tree_that_asks_more_than_a_byte_holds_is_cut() -> None:
    """31 questions, and a row for each leaf."""
    tree = balanced(5)
    tables = DecisionTables.of(explainer_of([tree]))
    assert tables is not None
    assert len(tables.value) > 1
    rows = np.random.default_rng(0).random((500, N_FEATURES)).astype(np.float32)
    assert tables.many(rows) == pytest.approx([sigmoid(0.25 + walk(tree, row)) for row in rows], abs=1e-12)


def test_more_rows_than_are_taken_at_a_time_keep_their_order() -> None:
    tables = DecisionTables.of(explainer_of([balanced(3)]))
    assert tables is not None
    rows = np.random.default_rng(0).random((40_000, N_FEATURES)).astype(np.float32)
    alone = [tables.one(rows[i]) for i in (0, 16_383, 16_384, 39_999)]
    for order in ("C", "F"):
        assert tables.many(np.asarray(rows, order=order))[[0, 16_383, 16_384, 39_999]] == pytest.approx(alone)
    assert tables.many(rows[:0]).shape == (0,)


def chain(depth: int) -> Any:
    return 1.0 if depth == 0 else (depth % N_FEATURES, float(depth), 0.0, chain(depth - 1))


def test_what_does_not_fit_has_no_tables() -> None:
    """A path of nine questions; leaves that add up to a probability; no trees at all."""
    assert DecisionTables.of(explainer_of([chain(8)])) is not None
    assert DecisionTables.of(explainer_of([chain(9)])) is None
    assert DecisionTables.of(explainer_of([chain(3)], scale="probability")) is None


@pytest.fixture
def in_tables(bundle: Bundle, tmp_path: Path) -> dict[str, Any]:
    """What a bundle is built from whose model is one tree: more than two inpatient visits."""
    import onnx
    from onnx import TensorProto, helper

    at = bundle.encoder.feature_names.index("number_inpatient")
    tree = (at, 2.0, -1.0, 1.0)
    nodes = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["log_odds"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[at, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[2.0, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[-1.0, 1.0],
        base_values=[0.25],
    )
    n = len(bundle.encoder.feature_names)
    graph = helper.make_graph(
        [
            nodes,
            helper.make_node("Neg", ["log_odds"], ["other"]),
            helper.make_node("Concat", ["other", "log_odds"], ["both"], axis=1),
            helper.make_node("Sigmoid", ["both"], ["probabilities"]),
        ],
        "tree",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, n])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    calibrator = bundle.manifest.calibrator
    golden = [
        GoldenRow(
            row.record,
            float(sigmoid(calibrator.slope * (0.25 + walk(tree, bundle.encode(row.record))) + calibrator.intercept)),
        )
        for row in bundle.golden
    ]
    return {
        "manifest": bundle.manifest.model_dump(exclude={"code_systems", "files"}),
        "encoder": bundle.encoder,
        "onnx_model": model.SerializeToString(),
        "reference": {},
        "golden": golden,
        "explainer": explainer_of([tree]),
    }


def test_a_bundle_of_small_trees_is_served_without_a_runtime(in_tables: dict[str, Any], tmp_path: Path) -> None:
    built = build_bundle(tmp_path / "built", **in_tables)
    assert isinstance(built.model, DecisionTables)
    program = (
        "import sys; from pathlib import Path; from healthpredict.bundle.model import load_bundle;"
        "load_bundle(Path(sys.argv[1])).verify(); assert 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(built.path)], check=True)


def test_tables_and_onnx_both_have_to_reproduce_training(in_tables: dict[str, Any], tmp_path: Path) -> None:
    """The model that other tools read is wrong here, the tables are right, and the other way about."""
    other = (build_tiny_bundle(tmp_path / "other", seed=3).path / "model.onnx").read_bytes()
    with pytest.raises(BundleError, match="differs from training"):
        build_bundle(tmp_path / "built", **in_tables | {"onnx_model": other})
    wrong = explainer_of([(0, 2.0, -1.0, 1.0)])
    with pytest.raises(BundleError, match="differs from training"):
        build_bundle(tmp_path / "built", **in_tables | {"explainer": wrong})
    assert not (tmp_path / "built").exists()
