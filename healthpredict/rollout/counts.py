"""What pods counted, from their `/metrics`, and whether it is still good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, Self

FEWEST_REQUESTS: Final = 20
"""Below it a rate says nothing."""
_FAILED: Final = 500
"""Statuses from here on are the service's fault."""


@dataclass(frozen=True)
class RequestCounts:
    """Sums since a pod started, or over pods and a time.

    Attributes:
        requests: answered, of predictions.
        errors: of them, answered with a status of 500 or above.
        seconds: wall time of all of them inside the pod.
    """

    requests: float = 0.0
    errors: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Self) -> RequestCounts:
        return RequestCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(RequestCounts)))

    def __sub__(self, other: Self) -> RequestCounts:
        return RequestCounts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(RequestCounts)))


def read_counts(metrics: bytes) -> RequestCounts:
    """Counts from the text that Prometheus reads."""
    from prometheus_client.parser import text_string_to_metric_families

    requests = errors = seconds = 0.0
    for family in text_string_to_metric_families(metrics.decode()):
        for sample in family.samples:
            if not sample.labels.get("endpoint", "").startswith(("/predict", "/explain")):
                continue
            if sample.name == "healthpredict_requests_total":
                requests += sample.value
                errors += sample.value if int(sample.labels["status"]) >= _FAILED else 0
            elif sample.name == "healthpredict_request_seconds_sum":
                seconds += sample.value
    return RequestCounts(requests, errors, seconds)


def growth(before: Mapping[str, RequestCounts], now: Mapping[str, RequestCounts]) -> RequestCounts:
    """What was counted between two looks, over all pods; by pod, one that is new began at nothing."""
    return sum((counts - before.get(pod, RequestCounts()) for pod, counts in now.items()), RequestCounts())


def breach(counts: RequestCounts, error_rate: float, mean_seconds: float) -> str | None:
    """What is not good about counts, in words; None where all is, or too little was counted to say."""
    if counts.requests < FEWEST_REQUESTS:
        return None
    if (rate := counts.errors / counts.requests) > error_rate:
        return f"{rate:.1%} of {counts.requests:.0f} requests failed, {error_rate:.1%} may"
    if (mean := counts.seconds / counts.requests) > mean_seconds:
        return f"a prediction takes {mean:.3f} s on average, {mean_seconds} s are allowed"
    return None
