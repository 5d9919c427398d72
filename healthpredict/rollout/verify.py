"""Whether a service answers what its bundle was trained to answer, asked as its callers ask."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import httpx

from healthpredict.bundle.model import TOLERANCE, Bundle, largest_difference

DRY_RUN: Final = {"X-Dry-Run": "true"}
"""Golden rows are nobody's: the prediction log marks them."""


@dataclass(frozen=True)
class Asked:
    """What a service answered.

    Attributes:
        risks: one for each record.
        digests: of the bundles that answered.
        p50_seconds: median time of an answer.
    """

    risks: list[float]
    digests: frozenset[str]
    p50_seconds: float


def ask(client: httpx.Client, url: str, records: list[dict[str, Any]], headers: Mapping[str, str]) -> Asked:
    """Ask for predictions, one after the other.

    Raises:
        httpx.HTTPError: one was not answered, or refused.
    """
    answers, seconds = [], []
    for record in records:
        start = time.perf_counter()
        answers.append(client.post(f"{url}/predict", json=record, headers={**DRY_RUN, **headers}).raise_for_status())
        seconds.append(time.perf_counter() - start)
    said = [answer.json() for answer in answers]
    return Asked(
        [answer["readmission_risk"] for answer in said],
        frozenset(answer["bundle_digest"] for answer in said),
        median(seconds),
    )


@dataclass(frozen=True)
class Golden:
    """How a service answered its golden rows.

    Attributes:
        problem: what is wrong, as a predicate with a full stop ("serves another bundle."); None if nothing is.
        answered: whether it answered at all. If not, it is unknown what serves.
        p50_seconds: median time of an answer; 0 if there was none.
    """

    problem: str | None
    answered: bool
    p50_seconds: float


def ask_golden_rows(
    client: httpx.Client, url: str, bundle: Bundle, headers: Mapping[str, str] | None = None, patience: float = 0.0
) -> Golden:
    """Ask a service for the golden rows of a bundle.

    Args:
        client: for the requests.
        url: of the service.
        bundle: that is expected there.
        headers: of each request.
        patience: seconds for which another bundle may still answer.
    """
    records = [row.record for row in bundle.golden]
    deadline = time.monotonic() + patience
    try:
        while (asked := ask(client, url, records, headers or {})).digests != {bundle.digest}:
            if time.monotonic() > deadline:
                others = ", ".join(sorted(digest[:12] for digest in asked.digests - {bundle.digest}))
                return Golden(f"serves another bundle, {others}.", True, asked.p50_seconds)
            time.sleep(0.2)
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return Golden(f"did not answer its golden rows: {error or type(error).__name__}", False, 0.0)
    worst = largest_difference(asked.risks, [row.risk for row in bundle.golden])
    if not worst <= TOLERANCE:
        return Golden(f"differs from training by {worst:.1e} on its golden rows.", True, asked.p50_seconds)
    return Golden(None, True, asked.p50_seconds)
