"""The share of flagged encounters, and when it breaks the promise."""

from __future__ import annotations

import numpy as np
import pytest

from healthpredict.evaluation.metrics import threshold_for
from healthpredict.monitoring.alert_rate import check_alert_rate
from healthpredict.monitoring.params import DriftPolicy

POLICY = DriftPolicy()
RISK = np.arange(1, 8001) / 8001


def test_the_threshold_flags_the_promised_share() -> None:
    threshold = threshold_for(RISK, 0.2)
    found = check_alert_rate(RISK, threshold, 0.2, POLICY)
    assert found.flagged.value == pytest.approx(0.2, abs=1e-3)
    assert found.flagged.low < 0.2 < found.flagged.high
    assert not found.broken


@pytest.mark.parametrize(
    ("flagged", "broken"), [(0.165, True), (0.172, False), (0.2, False), (0.228, False), (0.235, True)]
)
def test_beyond_the_tolerance_the_promise_is_broken(flagged: float, broken: bool) -> None:
    assert check_alert_rate(RISK, 1 - flagged, 0.2, POLICY).broken is broken


def test_a_few_encounters_break_no_promise_by_chance() -> None:
    found = check_alert_rate(np.array([0.5] * 3 + [0.1] * 7), 0.4, 0.2, POLICY)
    assert found.flagged.value == 0.3
    assert not found.broken
    assert check_alert_rate(np.full(10, 0.5), 0.4, 0.2, POLICY).broken


def test_equal_risks_are_all_flagged_and_break_the_promise() -> None:
    """No threshold can flag a fifth of equal risks."""
    equal = np.full(1000, 0.1)
    found = check_alert_rate(equal, threshold_for(equal, 0.2), 0.2, POLICY)
    assert found.flagged.value == 1
    assert found.broken
