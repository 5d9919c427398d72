"""The other services of the serving benchmark, each one process: `python -m benchmarks.serving_peers NAME PORT MODEL`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop

from healthpredict.serving.http_server import listen, serving
from healthpredict.serving.limits import Limits


def bare() -> Any:
    """Return the HTTP server alone: it reads the body and sends as many bytes as a prediction has."""
    body = b"x" * 250
    headers = [(b"content-type", b"application/json"), (b"content-length", b"250")]

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def no_model() -> Any:
    """Return FastAPI with the same request and response, as in its documentation, and a constant instead of a model."""
    from fastapi import FastAPI

    from healthpredict.serving.encounter import Encounter
    from healthpredict.serving.predictions import Prediction

    app = FastAPI()

    async def predict(encounter: Any) -> Prediction:
        return Prediction(
            readmission_risk=0.1,
            high_risk=False,
            threshold=0.2,
            model_version=1,
            bundle_digest="0" * 64,
            request_id="0" * 36,
        )

    predict.__annotations__ = {"encounter": Encounter, "return": Prediction}
    app.post("/predict")(predict)
    return app


def dataframe(model: str) -> Any:
    """Return FastAPI that makes a frame of one row and calls the pipeline."""
    import mlflow.sklearn
    import pandas as pd
    from fastapi import FastAPI

    pipeline = mlflow.sklearn.load_model(model)
    app = FastAPI()

    @app.post("/predict")
    def predict(encounter: dict[str, Any]) -> dict[str, float]:
        return {"readmission_risk": float(pipeline.predict_proba(pd.DataFrame([encounter]))[0, 1])}

    return app


async def serve(app: Any, port: int) -> None:
    """Serve until the process is ended, with the same HTTP server as the API."""
    async with serving(app, listen("127.0.0.1", port), Limits().head_seconds):
        await asyncio.Event().wait()


if __name__ == "__main__":
    name, port, model = sys.argv[1:4]
    app = {"http_server": bare, "no_model": no_model, "dataframe": lambda: dataframe(model)}[name]()
    uvloop.run(serve(app, int(port)))
