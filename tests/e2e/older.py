"""What a team did with releases of last year: `python older.py prefect|mlflow`, with such a release in the path."""

from __future__ import annotations

import os
import sys


def of_prefect() -> None:
    from prefect import flow

    # Without a server's address Prefect serves itself, from the database that the environment names.
    flow(name="of-last-year")(lambda: None)()


def of_mlflow() -> None:
    import mlflow

    mlflow.set_tracking_uri(os.environ["MLFLOW_BACKEND_STORE_URI"])
    experiment = mlflow.create_experiment("of-last-year", artifact_location="mlflow-artifacts:/of-last-year")
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_metric("auroc", 0.625)
    client = mlflow.MlflowClient()
    client.create_registered_model("readmission")
    client.create_model_version("readmission", "mlflow-artifacts:/of-last-year/bundle", run.info.run_id)
    client.set_registered_model_alias("readmission", "champion", "1")


{"prefect": of_prefect, "mlflow": of_mlflow}[sys.argv[1]]()
