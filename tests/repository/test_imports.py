"""Every module imports with the installed versions of the libraries."""

from __future__ import annotations

import importlib
import pkgutil

import flows
import healthpredict

VENDORS = (
    "catboost",
    "evidently",
    "kubernetes",
    "lightgbm",
    "mlflow.onnx",
    "onnxmltools",
    "ray.tune",
    "skl2onnx",
    "xgboost",
)
"""Libraries that modules import where they use them."""


def test_every_module_imports() -> None:
    for package in (healthpredict, flows):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)


def test_every_vendor_imports() -> None:
    for name in VENDORS:
        importlib.import_module(name)
