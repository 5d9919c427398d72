"""What the service counts, in the text format of Prometheus.

A request only adds to plain numbers, which takes about a microsecond; the format is written by prometheus-client when it is
asked for. One event loop does all the counting, so nothing is locked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, Final

from healthpredict.data.contract import COLUMNS
from healthpredict.serving.prediction_log import PredictionLog
from healthpredict.serving.problems import Problem

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_RISKS: Final = (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
"""Close together where readmissions are: about one encounter in nine."""
_FIELDS: Final = frozenset(column.name for column in COLUMNS)
_OTHER: Final = "other"
"""Names that callers make up share one label: they must not fill the memory."""


class Histogram:
    """Counts of values up to each of some bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Args: bounds, ascending, upper and inclusive; values above the last are counted too."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, int]]:
        """Bound and number of values up to it, as Prometheus wants them."""
        bounds = (*map(str, self._bounds), "+Inf")
        return list(zip(bounds, accumulate(self._counts), strict=True))


class Metrics:
    """The numbers of one service.

    Attributes:
        endpoints: paths that are counted by name.
        in_flight: requests that are being answered.
    """

    def __init__(self, log: PredictionLog | None = None) -> None:
        """Args: log, whose numbers are shown too; None where there is none."""
        self._log = log
        self.endpoints: frozenset[str] = frozenset()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, Histogram] = {}
        self._risk = Histogram(_RISKS)
        self._problems: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self.in_flight = 0

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request: its path, the status of its answer (499 where the caller left) and its wall time."""
        endpoint = path if path in self.endpoints else _OTHER
        self._requests[endpoint, status] += 1
        histogram = self._seconds.get(endpoint)
        if histogram is None:
            histogram = self._seconds[endpoint] = Histogram(_SECONDS)
        histogram.add(seconds)

    def predicted(self, risk: float) -> None:
        """Count a prediction, 0-1."""
        self._risk.add(risk)

    def refused(self, problem: Problem) -> None:
        """Count what was wrong with an encounter, by field."""
        for error in problem.errors:
            self._problems[error.field if error.field in _FIELDS else _OTHER] += 1

    def batch_done(self, predicted: int, refused: int) -> None:
        """Count the encounters of a batch."""
        self._rows["predicted"] += predicted
        self._rows["refused"] += refused

    def render(self, model: dict[str, str]) -> bytes:
        """Everything, as text.

        Args:
            model: labels that name what is served.
        """
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(lambda: self._families(model)))
        text: bytes = generate_latest(registry)
        return text

    def _families(self, model: dict[str, str]) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily(
            "healthpredict_requests", "Requests answered, by endpoint and status", labels=("endpoint", "status")
        )
        for (endpoint, status), count in sorted(self._requests.items()):
            requests.add_metric((endpoint, str(status)), count)
        yield requests
        seconds = HistogramMetricFamily(
            "healthpredict_request_seconds", "Wall time of a request inside the service", labels=("endpoint",)
        )
        for endpoint, histogram in sorted(self._seconds.items()):
            seconds.add_metric((endpoint,), histogram.buckets(), histogram.sum)
        yield seconds
        risk = HistogramMetricFamily("healthpredict_readmission_risk", "Predicted risk, 0-1")
        risk.add_metric((), self._risk.buckets(), self._risk.sum)
        yield risk
        problems = CounterMetricFamily(
            "healthpredict_validation_errors", "Values that broke the contract, by field", labels=("field",)
        )
        for field, count in sorted(self._problems.items()):
            problems.add_metric((field,), count)
        yield problems
        rows = CounterMetricFamily("healthpredict_batch_rows", "Encounters of batches, by result", labels=("result",))
        for result, count in sorted(self._rows.items()):
            rows.add_metric((result,), count)
        yield rows
        yield GaugeMetricFamily("healthpredict_requests_in_flight", "Requests being answered", value=self.in_flight)
        if self._log is not None:
            yield from _of_log(self._log)
        info = GaugeMetricFamily("healthpredict_model_info", "What is served; always 1", labels=tuple(model))
        info.add_metric(tuple(model.values()), 1)
        yield info


def _of_log(log: PredictionLog) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield GaugeMetricFamily("healthpredict_log_queue", "Predictions that are not in a file yet", value=log.waiting)
    yield GaugeMetricFamily("healthpredict_log_failing", "1 where the last write failed", value=int(log.failing))
    yield CounterMetricFamily("healthpredict_log_written", "Predictions written to files", value=log.written)
    yield CounterMetricFamily("healthpredict_log_dropped", "Predictions lost for want of room", value=log.dropped)


class _Collector:
    def __init__(self, collect: Callable[[], Iterator[Any]]) -> None:
        self.collect = collect
