"""The model as ONNX, a format that every model family and every tool supports."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

# ONNX Runtime reads this variable when it is imported. Otherwise it sends telemetry to its vendor.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_OUTPUTS = ("probabilities",)


class OnnxModel:
    """A model in ONNX Runtime, with one thread."""

    def __init__(self, data: bytes) -> None:
        """Args: data, a model with the input `features` float32 (n, n_features) and the output `probabilities` float32 (n, 2)."""
        # Imported here, because it takes a fifth of the API's start, and most bundles are served without it.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # One row takes microseconds; on a busy machine, a second thread would cost milliseconds of waiting.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def many(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities, shape (n,), of encoded encounters, shape (n, n_features)."""
        (probabilities,) = self._session.run(_OUTPUTS, {"features": np.ascontiguousarray(features)})
        return np.asarray(probabilities[:, 1], dtype=np.float64)

    def one(self, features: NDArray[np.float32]) -> float:
        """Return the probability of one encoded encounter, shape (n_features,)."""
        (probabilities,) = self._session.run(_OUTPUTS, {"features": features[None, :]})
        return float(probabilities[0, 1])
