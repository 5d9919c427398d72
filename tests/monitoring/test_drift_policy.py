"""What leads to retraining or to a warning, and the reasons that people read."""

from __future__ import annotations

import pytest

from healthpredict.evaluation.metrics import Evaluation, Interval
from healthpredict.monitoring.concept import ConceptDrift
from healthpredict.monitoring.data_drift import ColumnDrift, DataDrift
from healthpredict.monitoring.distances import Method
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.policy import DriftDecision, History, Override, decide, expected_gain

ANY = Interval(value=0.1, low=0.1, high=0.1)
EVALUATION = Evaluation(
    rows=8000,
    patients=7000,
    prevalence=0.1,
    auroc=ANY,
    auprc=ANY,
    brier=ANY,
    ece=0.01,
    calibration_in_the_large=ANY,
    calibration_slope=ANY,
)
WORSE = ConceptDrift(promoted=EVALUATION, matured=EVALUATION, drifted=True, reasons=("AUROC fell",))
UNKNOWN = ConceptDrift(promoted=EVALUATION, matured=None, drifted=False, reasons=("No outcomes yet.",))


def column(name: str, score: float) -> ColumnDrift:
    return ColumnDrift(column=name, method=Method.WASSERSTEIN, score=score, threshold=0.1)


def data(drifted: int, risk: float = 0.0, rows: int = 8000, joint: tuple[ColumnDrift, ...] = ()) -> DataDrift:
    """A batch of 20 features of which some drifted, the last of them the farthest."""
    columns = tuple(column(f"feature_{i}", (i + 1) * 0.2 if i < drifted else 0.0) for i in range(20))
    return DataDrift(rows=rows, columns=columns, joint=joint, prediction=(column("readmission_risk", risk),))


def after(new_share: float) -> History:
    return History(new_share=new_share)


def state(batch: DataDrift, concept: ConceptDrift | None = None, since: float = 9) -> str:
    return decide(batch, concept, after(since), DriftPolicy()).state


def test_no_drift_is_stable() -> None:
    assert decide(data(0), None, after(9), DriftPolicy()) == DriftDecision(
        state="stable", reasons=("0 of 20 features differ from the training data.",), columns=()
    )


def test_some_drifted_features_are_a_warning() -> None:
    assert state(data(3)) == "warn"


def test_features_that_no_longer_go_together_are_a_warning_that_names_both() -> None:
    joint = ColumnDrift(column="age", method=Method.ASSOCIATION, score=2, threshold=1, partner="payer_code")
    decision = decide(data(0, joint=(joint,)), None, after(9), DriftPolicy())
    assert decision.state == "warn"
    assert decision.reasons[-1] == ("Relations to other features have changed for 1 feature: age and payer code.")


def test_what_a_person_decided_comes_first_and_is_quoted() -> None:
    history = History(new_share=0.1, override=Override(state="retrain", because="new laboratory system"))
    decision = decide(data(0), None, history, DriftPolicy())
    assert decision.state == "retrain"
    assert decision.reasons[0] == "Decided by hand: new laboratory system"


def test_where_retraining_won_nothing_it_is_done_half_as_often() -> None:
    useless = History(new_share=0.3, gains=(0.0, -0.001, -0.002, 0.0, -0.003))
    assert expected_gain(useless.gains, DriftPolicy()) < DriftPolicy().min_expected_gain
    waiting = decide(data(0), WORSE, useless, DriftPolicy())
    assert waiting.state == "warn"
    assert "expected gain of retraining is small" in " ".join(waiting.reasons)
    rested = useless.model_copy(update={"new_share": 0.6})
    assert decide(data(0), WORSE, rested, DriftPolicy()).state == "retrain"


@pytest.mark.parametrize(("since", "expected"), [(0.1, "warn"), (0.25, "retrain"), (0.4, "retrain")])
def test_worse_results_and_shifted_risks_lead_to_retraining_with_enough_to_learn_from(
    since: float, expected: str
) -> None:
    assert state(data(0), WORSE, since) == expected
    assert state(data(0, risk=0.3), None, since) == expected


def test_shifts_of_most_features_lead_to_retraining_of_some_to_a_warning() -> None:
    assert state(data(10), None, 0.3) == "retrain"
    assert state(data(9), None, 0.3) == "warn"


def test_a_waiting_decision_says_so() -> None:
    reasons = decide(data(0), WORSE, after(0.1), DriftPolicy()).reasons
    assert reasons[-1] == (
        "Retraining waits until the encounters with new outcomes amount to 25% of those that the model was trained on; "
        "now: 10%."
    )


def test_few_rows_say_nothing_about_features_and_risks() -> None:
    """Outcomes still count: their intervals know how many rows there are."""
    few = data(20, risk=1.0, rows=10)
    decision = decide(few, UNKNOWN, after(9), DriftPolicy())
    assert decision.state == "stable"
    assert decision.columns == ()
    assert decision.reasons == ("Features and risks are not judged: 10 encounters are too few.", "No outcomes yet.")
    assert state(few, WORSE) == "retrain"


def test_the_weightiest_reason_comes_first() -> None:
    decision = decide(data(7, risk=0.3), WORSE, after(9), DriftPolicy())
    assert decision.reasons == (
        "On outcomes known so far, AUROC fell.",
        "Predicted risks differ from those at training (distance 0.300, limit 0.100).",
        "7 of 20 features differ from the training data, most of all feature 6 (distance 1.400, limit 0.100); "
        "feature 5 (distance 1.200, limit 0.100); feature 4 (distance 1.000, limit 0.100).",
    )
    assert decision.columns == tuple(f"feature_{i}" for i in range(6, -1, -1))
