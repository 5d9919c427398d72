"""Export a fitted model of any family to ONNX, with the same names of input and output."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from healthpredict.training.params import FamilyName

INPUT = "features"
OUTPUT = "probabilities"


def export_onnx(family: FamilyName, model: Any, n_features: int) -> bytes:
    """Export a model.

    Args:
        family: of the model.
        model: as `Family.fit` returns it.
        n_features: columns of the encoded matrix.

    Returns:
        An ONNX model: `features` float32 (n, n_features) to `probabilities` float32 (n, 2).
    """
    with warnings.catch_warnings():
        # The converters warn about their own deprecated imports. The parity check decides whether the export is right.
        warnings.simplefilter("ignore")
        match family:
            case "catboost":
                graph_model = _from_catboost(model)
            case "logistic_regression":
                graph_model = _linear(model, n_features)
            case _:
                graph_model = _converted(family, model, n_features)
    graph = graph_model.graph
    # Some converters add the predicted class as an output.
    for output in [output for output in graph.output if output.name != OUTPUT]:
        graph.output.remove(output)
    data: bytes = graph_model.SerializeToString()
    return data


def _converted(family: FamilyName, model: Any, n_features: int) -> Any:
    from onnxmltools import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType as SklearnFloatTensorType

    types = [(INPUT, FloatTensorType([None, n_features]))]
    if family == "lightgbm":
        return convert_lightgbm(model, initial_types=types, zipmap=False)
    if family == "xgboost":
        return convert_xgboost(model, initial_types=types)
    types = [(INPUT, SklearnFloatTensorType([None, n_features]))]
    return to_onnx(model, initial_types=types, options={"zipmap": False})


def _linear(model: Any, n_features: int) -> Any:
    """Build the graph of scaler and logistic regression in 64 bits. The converters support only 32 bits."""
    from onnx import TensorProto, helper, numpy_helper

    scaler, linear = model
    weights = linear.coef_[0] / scaler.scale_
    intercept = linear.intercept_[0] - weights @ scaler.mean_
    constants = {"weights": np.stack([-weights, weights], axis=1), "intercept": np.array([-intercept, intercept])}
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [INPUT], ["doubles"], to=TensorProto.DOUBLE),
            helper.make_node("MatMul", ["doubles", "weights"], ["products"]),
            helper.make_node("Add", ["products", "intercept"], ["log_odds"]),
            helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
            helper.make_node("Cast", ["probability"], [OUTPUT], to=TensorProto.FLOAT),
        ],
        "logistic_regression",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, n_features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(values.astype(np.float64), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _from_catboost(model: Any) -> Any:
    """Remove the last node of CatBoost's own export, which turns the tensor of probabilities into dictionaries."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model.save_model(str(path), format="onnx")
        graph_model = onnx.load(str(path))
    graph = graph_model.graph
    zip_map = next(node for node in graph.node if node.op_type == "ZipMap")
    graph.node.remove(zip_map)
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == zip_map.input[0]:
                node.output[i] = OUTPUT
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [None, 2]))
    return graph_model
