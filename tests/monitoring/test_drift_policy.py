"""What leads to retraining, what to a warning, and that people can read why."""

from __future__ import annotations

import pytest

from healthpredict.evaluation.metrics import Evaluation, Interval
from healthpredict.monitoring.concept import ConceptDrift
from healthpredict.monitoring.data_drift import ColumnDrift, DataDrift
from healthpredict.monitoring.distances import Method
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.policy import DriftDecision, decide

ANY = Interval(value=0.1, low=0.1, high=0.1)
EVALUATION = Evaluation(
    rows=8000, patients=7000, prevalence=0.1, auroc=ANY, auprc=ANY, brier=ANY, ece=ANY, calibration_in_the_large=ANY
)
WORSE = ConceptDrift(promoted=EVALUATION, matured=EVALUATION, drop=ANY, drifted=True, reasons=("AUROC fell",))
UNKNOWN = ConceptDrift(promoted=EVALUATION, matured=None, drop=None, drifted=False, reasons=("No outcomes yet.",))


def column(name: str, distance: float) -> ColumnDrift:
    return ColumnDrift(column=name, method=Method.WASSERSTEIN, distance=distance, limit=0.1, drifted=distance >= 0.1)


def data(drifted: int, risk: float = 0.0, rows: int = 8000) -> DataDrift:
    """A batch of 20 features of which some drifted, the last of them the farthest."""
    columns = tuple(column(f"feature_{i}", (i + 1) * 0.2 if i < drifted else 0.0) for i in range(20))
    return DataDrift(rows=rows, columns=columns, prediction=column("readmission_risk", risk))


def state(batch: DataDrift, concept: ConceptDrift | None = None, since: int = 9) -> str:
    return decide(batch, concept, since, DriftPolicy()).state


def test_no_drift_is_stable() -> None:
    assert decide(data(0), None, 9, DriftPolicy()) == DriftDecision(
        state="stable", reasons=("0 of 20 features differ from the training data.",), columns=()
    )


def test_some_drifted_features_are_a_warning() -> None:
    assert state(data(3)) == "warn"


@pytest.mark.parametrize(("since", "expected"), [(1, "warn"), (2, "retrain"), (3, "retrain")])
def test_worse_results_and_shifted_risks_lead_to_retraining_after_a_short_rest(since: int, expected: str) -> None:
    assert state(data(0), WORSE, since) == expected
    assert state(data(0, risk=0.3), None, since) == expected


@pytest.mark.parametrize(("since", "expected"), [(1, "warn"), (3, "warn"), (4, "retrain")])
def test_shifted_features_alone_lead_to_retraining_after_a_long_rest(since: int, expected: str) -> None:
    assert state(data(10), None, since) == expected


def test_a_waiting_decision_says_so() -> None:
    reasons = decide(data(0), WORSE, 1, DriftPolicy()).reasons
    assert reasons[-1] == "Retraining waits for batch 2 after the last training; this is 1."


def test_few_rows_say_nothing_about_features_and_risks() -> None:
    """Outcomes still count: their intervals know how many rows there are."""
    few = data(20, risk=1.0, rows=10)
    decision = decide(few, UNKNOWN, 9, DriftPolicy())
    assert decision.state == "stable"
    assert decision.columns == ()
    assert decision.reasons == ("10 encounters are too few to judge features and risks.", "No outcomes yet.")
    assert state(few, WORSE) == "retrain"


def test_the_weightiest_reason_comes_first() -> None:
    decision = decide(data(7, risk=0.3), WORSE, 9, DriftPolicy())
    assert decision.reasons == (
        "On outcomes known by now AUROC fell.",
        "Predicted risks differ from those at training (distance 0.300, limit 0.100).",
        "7 of 20 features differ from the training data, "
        "most of all feature_6, feature_5, feature_4, feature_3, feature_2.",
    )
    assert decision.columns == tuple(f"feature_{i}" for i in range(6, -1, -1))
