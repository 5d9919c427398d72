"""The counters of pods, read from the metrics that the API itself renders."""

from __future__ import annotations

from healthpredict.bundle.model import Bundle
from healthpredict.rollout.counts import RequestCounts, exceeded_limit, growth, read_counts
from healthpredict.serving.metrics import Metrics


def test_only_predictions_count_and_only_a_status_of_500_or_above_is_an_error(bundle: Bundle) -> None:
    metrics = Metrics()
    metrics.endpoints = {"/predict", "/explain", "/model"}
    for path, status in (("/predict", 200), ("/predict", 422), ("/explain", 500), ("/model", 500)):
        metrics.answered(path, status, 0.25)
    assert read_counts(metrics.render(bundle)) == RequestCounts(requests=3, errors=1, seconds=0.75)


def test_growth_is_summed_over_pods_and_a_new_pod_started_at_zero() -> None:
    before = {"a": RequestCounts(10, 1, 1.0), "gone": RequestCounts(99, 9, 9.0)}
    now = {"a": RequestCounts(30, 1, 2.0), "new": RequestCounts(5, 5, 1.0)}
    assert growth(before, now) == RequestCounts(25, 5, 2.0)


def test_the_exceeded_limit_is_named() -> None:
    assert exceeded_limit(RequestCounts(19, 19, 100.0), 0.01, 0.1) is None, "too few requests"
    assert exceeded_limit(RequestCounts(100, 1, 10.0), 0.01, 0.1) is None, "at the limits, not above"
    assert exceeded_limit(RequestCounts(100, 2, 1.0), 0.01, 0.1) == "2.0% of 100 requests failed, the limit is 1.0%"
    assert "takes 0.200 s on average" in str(exceeded_limit(RequestCounts(100, 0, 20.0), 0.01, 0.1))
