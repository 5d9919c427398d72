"""Verify over HTTP that a service reproduces the golden rows of its bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import httpx

from healthpredict.bundle.model import TOLERANCE, Bundle, largest_difference

DRY_RUN: Final = {"X-Dry-Run": "true"}
"""The prediction log marks these requests: golden rows belong to no patient."""


@dataclass(frozen=True)
class Predictions:
    """The predictions of a service.

    Attributes:
        risks: one for each record.
        digests: of the bundles that predicted them.
        p50_seconds: median response time.
    """

    risks: list[float]
    digests: frozenset[str]
    p50_seconds: float


def request_predictions(
    client: httpx.Client, url: str, records: list[dict[str, Any]], headers: Mapping[str, str]
) -> Predictions:
    """Request a prediction for each record, one after the other.

    Raises:
        httpx.HTTPError: a request failed or was rejected.
    """
    responses, seconds = [], []
    for record in records:
        start = time.perf_counter()
        responses.append(client.post(f"{url}/predict", json=record, headers={**DRY_RUN, **headers}).raise_for_status())
        seconds.append(time.perf_counter() - start)
    bodies = [response.json() for response in responses]
    return Predictions(
        [body["readmission_risk"] for body in bodies],
        frozenset(body["bundle_digest"] for body in bodies),
        median(seconds),
    )


@dataclass(frozen=True)
class Verification:
    """Whether a service reproduces golden rows.

    Attributes:
        problem: the end of a sentence ("serves another bundle."), or None if the rows were reproduced.
        answered: False if a request failed. Then it is unknown what serves.
        p50_seconds: median response time; 0 if a request failed.
    """

    problem: str | None
    answered: bool
    p50_seconds: float


def verify_golden_rows(
    client: httpx.Client, url: str, bundle: Bundle, headers: Mapping[str, str] | None = None, patience: float = 0.0
) -> Verification:
    """Request the golden rows of a bundle from a service, and compare the risks.

    Args:
        client: for the requests.
        url: of the service.
        bundle: that the service should serve.
        headers: of each request.
        patience: seconds to go on if another bundle answers or a connection fails, because pods are being replaced. A
            rejected request is a problem at once.
    """
    records = [row.record for row in bundle.golden]
    deadline = time.monotonic() + patience
    while True:
        try:
            predictions = request_predictions(client, url, records, headers or {})
        except (httpx.HTTPError, ValueError, KeyError) as error:
            problem = Verification(f"did not answer its golden rows: {error or type(error).__name__}", False, 0.0)
            if not isinstance(error, httpx.TransportError):
                return problem
        else:
            if predictions.digests == {bundle.digest}:
                break
            others = ", ".join(sorted(digest[:12] for digest in predictions.digests - {bundle.digest}))
            problem = Verification(f"serves another bundle, {others}.", True, predictions.p50_seconds)
        if time.monotonic() > deadline:
            return problem
        time.sleep(0.2)
    worst = largest_difference(predictions.risks, [row.risk for row in bundle.golden])
    if not worst <= TOLERANCE:
        return Verification(f"differs from training by {worst:.1e} on its golden rows.", True, predictions.p50_seconds)
    return Verification(None, True, predictions.p50_seconds)
