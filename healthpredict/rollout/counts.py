"""The request counters of pods: read them from `/metrics`, and compare them with limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, Self

_MIN_REQUESTS: Final = 20
"""A rate of fewer requests is not judged."""
_FIRST_SERVER_ERROR: Final = 500


@dataclass(frozen=True)
class RequestCounts:
    """Counters of requests for predictions, of one pod since its start or of several pods in a period.

    Attributes:
        requests: number of responses.
        errors: number of responses with status 500 or above.
        seconds: wall time inside the pods, summed.
    """

    requests: float = 0.0
    errors: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Self) -> RequestCounts:
        return RequestCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(RequestCounts)))

    def __sub__(self, other: Self) -> RequestCounts:
        return RequestCounts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(RequestCounts)))


def read_counts(metrics: bytes) -> RequestCounts:
    """Parse the counters in the Prometheus text format."""
    from prometheus_client.parser import text_string_to_metric_families

    requests = errors = seconds = 0.0
    for family in text_string_to_metric_families(metrics.decode()):
        for sample in family.samples:
            if not sample.labels.get("endpoint", "").startswith(("/predict", "/explain")):
                continue
            if sample.name == "healthpredict_requests_total":
                requests += sample.value
                errors += sample.value if int(sample.labels["status"]) >= _FIRST_SERVER_ERROR else 0
            elif sample.name == "healthpredict_request_seconds_sum":
                seconds += sample.value
    return RequestCounts(requests, errors, seconds)


def growth(before: Mapping[str, RequestCounts], now: Mapping[str, RequestCounts]) -> RequestCounts:
    """Sum what the pods counted between two reads. The counters of a new pod started at zero."""
    return sum((counts - before.get(pod, RequestCounts()) for pod, counts in now.items()), RequestCounts())


def exceeded_limit(counts: RequestCounts, error_rate: float, mean_seconds: float) -> str | None:
    """Compare counters with the limits.

    Returns:
        A clause that names the exceeded limit, or None if no limit is exceeded or there were too few requests.
    """
    if counts.requests < _MIN_REQUESTS:
        return None
    if (rate := counts.errors / counts.requests) > error_rate:
        return f"{rate:.1%} of {counts.requests:.0f} requests failed, the limit is {error_rate:.1%}"
    if (mean := counts.seconds / counts.requests) > mean_seconds:
        return f"a prediction takes {mean:.3f} s on average, the limit is {mean_seconds} s"
    return None
