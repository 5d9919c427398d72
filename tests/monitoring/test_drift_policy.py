"""What leads to retraining, recalibration or a warning, and the reasons that people read."""

from __future__ import annotations

import pytest

from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.metrics import Evaluation
from healthpredict.monitoring.alarms import Alarm
from healthpredict.monitoring.alert_rate import AlertRate
from healthpredict.monitoring.calibration import CalibrationCheck, Correction
from healthpredict.monitoring.concept import ConceptDrift
from healthpredict.monitoring.data_drift import ColumnDrift, DataDrift
from healthpredict.monitoring.distances import Method
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.policy import DriftDecision, Findings, History, Override, decide, expected_gain

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


def after(new_share: float = 0.0) -> History:
    return History(new_share=new_share)


def alerts(rate: float = 0.2) -> AlertRate:
    flagged = Interval(value=rate, low=rate - 0.01, high=rate + 0.01)
    return AlertRate(promised=0.2, flagged=flagged, broken=abs(rate - 0.2) > 0.03)


def calibration(offset: float, correction: Correction = "intercept", slope: float = 1.0) -> CalibrationCheck:
    interval = Interval(value=offset, low=offset - 0.007, high=offset + 0.007)
    return CalibrationCheck(
        rows=8000, readmissions=900, offset=interval, correction=correction, intercept=-10 * offset, slope=slope
    )


def made(
    batch: DataDrift,
    concept: ConceptDrift | None = None,
    history: History | None = None,
    *,
    found: CalibrationCheck | None = None,
    rate: float = 0.2,
    raised: tuple[Alarm, ...] = (),
    known: tuple[str, ...] = (),
) -> DriftDecision:
    return decide(Findings(batch, concept, found, alerts(rate), raised, known), history or after(), DriftPolicy())


def state(batch: DataDrift, concept: ConceptDrift | None = None, new_share: float = 0.0) -> str:
    return made(batch, concept, after(new_share)).state


def test_no_drift_is_stable() -> None:
    assert made(data(0), found=calibration(0.001, "none")) == DriftDecision(
        state="stable", reasons=("0 of 20 features differ from the training data.",), columns=()
    )


def test_what_only_differs_from_the_training_data_is_listed() -> None:
    joint = ColumnDrift(column="age", method=Method.ASSOCIATION, score=2, threshold=1, partner="payer_code")
    decision = made(data(20, risk=0.3, joint=(joint,)))
    assert decision.state == "stable", "a difference that is not new needs nobody"
    assert [reason.partition(" ")[0] for reason in decision.reasons] == ["Predicted", "20", "Relations"]
    assert decision.reasons[-1] == ("Relations to other features have changed for 1 feature: age and payer code.")


def test_an_alarm_is_a_warning_with_its_reason() -> None:
    sentence = "For age [90-100), the sensitivity is 0.300, lower than for other patients by 0.150."
    alarm = Alarm(about="age [90-100)", sentence=sentence)
    decision = made(data(0), raised=(alarm,))
    assert decision.state == "warn"
    assert decision.reasons[0] == sentence
    assert made(data(0), WORSE, raised=(alarm,)).state == "retrain"


def test_what_a_person_knows_of_is_one_line() -> None:
    decision = made(data(0), known=("For race Asian, risks are too high.", "For age [90-100), the sensitivity is 0.1."))
    assert decision.state == "stable"
    assert decision.reasons[-1] == (
        "Acknowledged: For race Asian, risks are too high. For age [90-100), the sensitivity is 0.1."
    )


def test_risks_that_are_off_lead_to_a_recalibration() -> None:
    decision = made(data(0), found=calibration(0.012))
    assert decision.state == "recalibrate"
    assert decision.reasons[0] == (
        "On the 8000 newest encounters with known outcomes, risks are too high, by 0.012 [0.005, 0.019] on average."
    )
    decision = made(data(0), found=calibration(-0.012, "intercept and slope", slope=0.7))
    assert "risks are too low, by 0.012 [0.005, 0.019] on average" in decision.reasons[0]
    assert decision.reasons[0].endswith("and too extreme (calibration slope 0.70).")


@pytest.mark.parametrize(("rate", "expected"), [(0.16, "recalibrate"), (0.18, "stable"), (0.24, "recalibrate")])
def test_a_broken_promise_of_alerts_leads_to_a_recalibration(rate: float, expected: str) -> None:
    decision = made(data(0), rate=rate)
    assert decision.state == expected
    assert ("are flagged; 0.200 are promised" in decision.reasons[0]) is (expected == "recalibrate")


@pytest.mark.parametrize(("new_share", "expected"), [(0.09, "stable"), (0.1, "retrain"), (0.4, "retrain")])
def test_enough_new_outcomes_lead_to_retraining(new_share: float, expected: str) -> None:
    assert state(data(0), None, new_share) == expected


def test_a_champion_that_is_behind_is_retrained_at_once() -> None:
    assert state(data(0), WORSE, 0.1) == "retrain"


def test_the_largest_step_that_is_needed_is_taken() -> None:
    decision = made(data(20, risk=0.3), WORSE, after(9), found=calibration(0.02), rate=0.3)
    assert decision.state == "retrain"
    assert [reason.split(" ")[0] for reason in decision.reasons] == [
        "On",
        "Encounters",
        "On",
        "0.300",
        "Predicted",
        "20",
    ]


def test_what_a_person_decided_comes_first_and_is_quoted() -> None:
    history = History(new_share=0.1, override=Override(state="retrain", because="new laboratory system"))
    decision = made(data(0), history=history)
    assert decision.state == "retrain"
    assert decision.reasons[0] == "Decided by hand: new laboratory system"
    calm = History(new_share=9, override=Override(state="stable", because="known"))
    assert made(data(20), WORSE, calm, found=calibration(0.02)).state == "stable"


def test_if_retraining_gained_nothing_it_waits_for_twice_as_many_outcomes() -> None:
    useless = History(new_share=0.15, gains=(0.0, -0.001, -0.002, 0.0, -0.003))
    assert expected_gain(useless.gains, DriftPolicy()) < DriftPolicy().min_expected_gain
    assert made(data(0), history=useless).state == "stable"
    assert made(data(0), WORSE, useless).state == "retrain", "evidence does not wait"
    rested = useless.model_copy(update={"new_share": 0.3})
    assert made(data(0), history=rested).state == "retrain"


def test_few_rows_say_nothing_about_features_and_risks() -> None:
    """Outcomes still count: their intervals know how many rows there are."""
    few = data(20, risk=1.0, rows=10)
    decision = made(few, UNKNOWN)
    assert decision.state == "stable"
    assert decision.columns == ()
    assert decision.reasons == ("Features and risks are not judged: 10 encounters are too few.", "No outcomes yet.")
    assert state(few, WORSE) == "retrain"


def test_the_weightiest_reason_comes_first() -> None:
    decision = made(data(7, risk=0.3), WORSE)
    assert decision.reasons == (
        "On outcomes known so far, AUROC fell.",
        "Predicted risks differ from those at training (distance 0.300, limit 0.100).",
        "7 of 20 features differ from the training data, most of all feature 6 (distance 1.400, limit 0.100); "
        "feature 5 (distance 1.200, limit 0.100); feature 4 (distance 1.000, limit 0.100).",
    )
    assert decision.columns == tuple(f"feature_{i}" for i in range(6, -1, -1))
