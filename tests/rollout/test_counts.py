"""What pods counted, read from the service's own text."""

from __future__ import annotations

from healthpredict.bundle.model import Bundle
from healthpredict.rollout.counts import RequestCounts, breach, growth, read_counts
from healthpredict.serving.metrics import Metrics


def test_only_predictions_count_and_only_the_service_s_own_faults_are_errors(bundle: Bundle) -> None:
    metrics = Metrics(lambda: bundle)
    metrics.endpoints = {"/predict", "/explain", "/model"}
    for path, status in (("/predict", 200), ("/predict", 422), ("/explain", 500), ("/model", 500)):
        metrics.answered(path, status, 0.25)
    assert read_counts(metrics.render()) == RequestCounts(requests=3, errors=1, seconds=0.75)


def test_growth_is_that_of_each_pod_and_a_new_one_began_at_nothing() -> None:
    before = {"a": RequestCounts(10, 1, 1.0), "gone": RequestCounts(99, 9, 9.0)}
    now = {"a": RequestCounts(30, 1, 2.0), "new": RequestCounts(5, 5, 1.0)}
    assert growth(before, now) == RequestCounts(25, 5, 2.0)


def test_breach() -> None:
    assert breach(RequestCounts(19, 19, 100.0), 0.01, 0.1) is None, "too few to say"
    assert breach(RequestCounts(100, 1, 10.0), 0.01, 0.1) is None, "at the limits"
    assert breach(RequestCounts(100, 2, 1.0), 0.01, 0.1) == "2.0% of 100 requests failed, 1.0% may"
    assert "takes 0.200 s on average" in str(breach(RequestCounts(100, 0, 20.0), 0.01, 0.1))
