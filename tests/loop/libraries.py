"""Imports what the drift loop needs, which takes ten seconds. Processes that are forked afterwards need not do it."""

from importlib import import_module

from healthpredict.config import quiet_vendors

quiet_vendors()
for name in (
    "killed_at",
    "evidently.metrics",
    "lightgbm",
    "matplotlib.figure",
    "mlflow.onnx",
    "mlflow.store.tracking.sqlalchemy_store",
    "pandera.pandas",
    "ray.air.integrations.mlflow",
    "ray.tune.search.optuna",
    "skl2onnx",
):
    import_module(name)
