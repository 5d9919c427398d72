"""Predict for many encounters in one request. Each is read and encoded like a single one; the model predicts for all at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import time_ns
from typing import Any, Final

import numpy as np
from pydantic import BaseModel

from healthpredict.bundle.model import Bundle
from healthpredict.features.encoder import Value
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.answers import Identified, classified
from healthpredict.serving.encounter import Encounter, read_encounter, record_of
from healthpredict.serving.json_body import read_list
from healthpredict.serving.limits import Limits
from healthpredict.serving.metrics import Metrics
from healthpredict.serving.problems import Problem, Refused

BATCH: Final = "/predict/batch"
_COMMAS_A_ROW: Final = 2 * len(Encounter.model_fields)
_ROWS_AT_ONCE: Final = 50
"""Encounters that are read before other requests are handled: about a millisecond."""


class RowResult(BaseModel):
    """The result for one encounter of a batch: a risk, or a problem.

    Attributes:
        readmission_risk: as in `Prediction`; null if there is a problem.
        high_risk: as in `Prediction`; null if there is a problem.
        problem: why there is no risk; null if there is one.
    """

    readmission_risk: float | None
    high_risk: bool | None
    problem: Problem | None


class BatchPrediction(Identified):
    """The response to a batch.

    Attributes:
        results: in the order of the encounters, one for each.
        predicted: encounters with a risk.
        refused: encounters with a problem.
    """

    results: list[RowResult]
    predicted: int
    refused: int


def batch_schema(rows: int) -> dict[str, Any]:
    """Return the JSON schema of a request with up to `rows` encounters."""
    encounters = {"type": "array", "maxItems": rows, "items": Encounter.model_json_schema()}
    return {
        "type": "object",
        "title": "Batch",
        "description": "Encounters at discharge. Each has a result of its own: a risk, or a problem.",
        "properties": {"encounters": encounters},
        "required": ["encounters"],
        "additionalProperties": False,
    }


def read_batch(body: bytes, at_most: int) -> list[Any]:
    """Read the body of a batch, but not its encounters.

    Args:
        body: one JSON object with the list `encounters`.
        at_most: encounters.

    Returns:
        The encounters, each for `read_encounter`.

    Raises:
        Refused: not JSON (400), not a batch (422), or too many encounters (413).
    """
    if body.count(b",") > at_most * _COMMAS_A_ROW:  # millions of tiny rows would take a gigabyte
        raise Refused(413, f"There are too many values: {at_most:,} encounters is the most. Send several batches.")
    rows = read_list(body, "encounters")
    if len(rows) > at_most:
        raise Refused(413, f"There are {len(rows):,} encounters, and {at_most:,} is the most. Send several batches.")
    return rows


@dataclass(frozen=True)
class Logged:
    """How the predictions of a batch are logged.

    Attributes:
        log: where to.
        who: the fields of the answer's `Identified`.
        dry_run: see `PredictionLine`.
    """

    log: PredictionLog
    who: dict[str, Any]
    dry_run: bool


async def predict_rows(
    bundle: Bundle, rows: list[Any], metrics: Metrics
) -> tuple[list[dict[str, Any]], list[tuple[Value, ...] | None]]:
    """Predict encounters, in their order.

    Args:
        bundle: to predict with.
        rows: encounters as `read_batch` returns them.
        metrics: where risks and problems are counted.

    Returns:
        For each row, the fields of a `RowResult`, and the values of the encounter or None if it has a problem.
    """
    features = np.empty((len(rows), len(bundle.encoder.feature_names)), dtype=np.float32)
    results: list[dict[str, Any]] = []
    encounters: list[tuple[Value, ...] | None] = []
    good: list[int] = []
    for i, row in enumerate(rows):
        if i % _ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)
        try:
            values = read_encounter(row)
        except Refused as refused:
            metrics.refused(refused.problem)
            results.append({"readmission_risk": None, "high_risk": None, "problem": refused.problem.model_dump()})
            encounters.append(None)
        else:
            features[len(good)] = bundle.encode(record_of(values))
            good.append(i)
            results.append({})
            encounters.append(values)
    risks = (await asyncio.to_thread(bundle.risks, features[: len(good)])).tolist() if good else []
    for i, risk in zip(good, risks, strict=True):
        metrics.predicted(risk)
        results[i] = classified(bundle, risk) | {"problem": None}
    metrics.batch_done(predicted=len(good), refused=len(rows) - len(good))
    return results, encounters


async def predict_batch(
    bundle: Bundle, body: bytes, limits: Limits, metrics: Metrics, logged: Logged | None = None
) -> dict[str, Any]:
    """Return the fields of a `BatchPrediction`, except those that name the model and the request.

    Raises:
        Refused: not a batch (400, 422), too large (413), or not finished in time (503).
    """
    try:
        async with asyncio.timeout(limits.batch_seconds):
            # In a thread, because ten thousand encounters take as long as thousands of predictions.
            rows = await asyncio.to_thread(read_batch, body, limits.batch_rows)
            results, encounters = await predict_rows(bundle, rows, metrics)
    except TimeoutError:
        detail = f"The batch was not finished within {limits.batch_seconds:g} seconds. Send it again, or smaller ones."
        raise Refused(503, detail, headers={"retry-after": "5"}) from None
    # After the timeout, so that a batch that is sent again is not logged twice.
    if logged is not None:
        for i, (result, encounter) in enumerate(zip(results, encounters, strict=True)):
            if i % _ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if encounter is not None:
                logged.log.add((time_ns(), BATCH, logged.dry_run, result | logged.who, encounter))
    refused = encounters.count(None)
    return {"results": results, "predicted": len(results) - refused, "refused": refused}
