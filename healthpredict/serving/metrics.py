"""The metrics of the service, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from healthpredict.bundle.model import Bundle
from healthpredict.data.contract import COLUMNS
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.problems import Problem

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_RISKS: Final = (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
"""Close together around .11, the share of encounters with a readmission."""
_FIELDS: Final = frozenset(column.name for column in COLUMNS)
_OTHER: Final = "other"
"""The label for all unknown names, because callers could fill the memory with labels."""


class Metrics:
    """The counters of one service.

    Attributes:
        endpoints: paths that are counted by name.
        in_flight: requests that are being answered.
    """

    def __init__(self, log: PredictionLog | None = None) -> None:
        """Create the counters.

        Args:
            log: prediction log, whose counters are shown too.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.endpoints: set[str] = set()
        self.in_flight = 0
        self._registry = registry = CollectorRegistry()
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self._requests = counter(
            "healthpredict_requests", "Requests answered, by endpoint and status", ("endpoint", "status")
        )
        self._seconds = histogram(
            "healthpredict_request_seconds",
            "Wall time of a request inside the service",
            ("endpoint",),
            buckets=_SECONDS,
        )
        self._risk = histogram("healthpredict_readmission_risk", "Predicted risk, 0-1", buckets=_RISKS)
        self._problems = counter(
            "healthpredict_validation_errors", "Values that broke the contract, by field", ("field",)
        )
        self._rows = counter("healthpredict_batch_rows", "Encounters of batches, by result", ("result",))
        self._model = gauge("healthpredict_model_info", "The model that is served; always 1", ("version", "digest"))
        in_flight = gauge("healthpredict_requests_in_flight", "Requests being answered")
        in_flight.set_function(lambda: self.in_flight)
        if log is not None:
            registry.register(_LogCollector(log))

    def endpoint(self, path: str) -> str:
        """Return the label of a path."""
        return path if path in self.endpoints else _OTHER

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            path: of the request.
            status: of the response; 499 if the client left or sent an invalid body, which the server does not distinguish.
            seconds: wall time.
        """
        endpoint = self.endpoint(path)
        self._requests.labels(endpoint, status).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def predicted(self, risk: float) -> None:
        """Count a prediction, 0-1."""
        self._risk.observe(risk)

    def rejected(self, problem: Problem) -> None:
        """Count what is wrong with an encounter, by field."""
        for error in problem.errors:
            self._problems.labels(error.field if error.field in _FIELDS else _OTHER).inc()

    def batch_done(self, predicted: int, refused: int) -> None:
        """Count the encounters of a batch."""
        self._rows.labels("predicted").inc(predicted)
        self._rows.labels("refused").inc(refused)

    def render(self, bundle: Bundle) -> bytes:
        """Return all counters, and the bundle that is served now, in the text format of Prometheus."""
        self._model.clear()
        self._model.labels(bundle.manifest.model_version, bundle.digest).set(1)
        text: bytes = generate_latest(self._registry)
        return text


class _LogCollector(Collector):
    """The counters of the prediction log."""

    def __init__(self, log: PredictionLog) -> None:
        self._log = log

    def collect(self) -> Iterator[Metric]:
        log = self._log
        yield GaugeMetricFamily("healthpredict_log_queue", "Predictions that are not in a file yet", value=log.waiting)
        yield GaugeMetricFamily("healthpredict_log_failing", "1 if the last write failed", value=int(log.failing))
        yield CounterMetricFamily("healthpredict_log_written", "Predictions written to files", value=log.written)
        yield CounterMetricFamily(
            "healthpredict_log_dropped", "Predictions lost because there was no room", value=log.dropped
        )
