"""The decision after a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from healthpredict.monitoring.alarms import Alarm
from healthpredict.monitoring.alert_rate import AlertRate
from healthpredict.monitoring.calibration import CalibrationCheck
from healthpredict.monitoring.concept import ConceptDrift
from healthpredict.monitoring.data_drift import DataDrift
from healthpredict.monitoring.params import DriftPolicy, DriftState
from healthpredict.monitoring.words import describe, measured, name_of


class DriftDecision(BaseModel):
    """What to do after a batch, and why.

    Attributes:
        state: stable, warn (a person should look), recalibrate or retrain.
        reasons: sentences for people, the most important first; never empty.
        columns: the features that drifted, the one farthest above its limit first.
    """

    model_config = ConfigDict(frozen=True)

    state: DriftState
    reasons: tuple[str, ...]
    columns: tuple[str, ...]


class Override(BaseModel):
    """A person's decision for the next batch, with the reason. The ledger contains it: never rename a field."""

    model_config = ConfigDict(frozen=True)

    state: DriftState
    because: str


class History(BaseModel):
    """What the ledger knows when a decision is made.

    Attributes:
        new_share: encounters with known outcomes that neither champion nor last challenger was trained on, divided by those that
            the champion was trained on.
        gains: gain in AUROC of each earlier retraining over the champion before it, on outcomes that neither was trained on.
        override: a person's decision, or None.
    """

    model_config = ConfigDict(frozen=True)

    new_share: float
    gains: tuple[float, ...] = ()
    override: Override | None = None


def expected_gain(gains: Sequence[float], policy: DriftPolicy) -> float:
    """Return the expected gain in AUROC of a retraining: the mean of the earlier gains and one assumed gain."""
    return (policy.assumed_gain + sum(gains)) / (1 + len(gains))


@dataclass(frozen=True)
class Findings:
    """What the checks of a batch found.

    Attributes:
        data: drift of the batch's features and risks.
        concept: the champion on matured outcomes, or None if there are none.
        calibration: on the newest matured outcomes, or None if it is unknown.
        alert_rate: of the batch.
        alarms: without acknowledged problems of groups.
        acknowledged: a sentence for each of these.
    """

    data: DataDrift
    concept: ConceptDrift | None
    calibration: CalibrationCheck | None
    alert_rate: AlertRate
    alarms: tuple[Alarm, ...] = ()
    acknowledged: tuple[str, ...] = ()


def decide(found: Findings, history: History, policy: DriftPolicy) -> DriftDecision:
    """Decide what to do after a batch: the smallest step that the evidence supports.

    - Retrain if there are enough new outcomes to learn from, or if there is evidence that the champion is behind. If earlier
      retrainings gained nothing, twice as many new outcomes are needed.
    - Recalibrate if the risks or the alert rate are off.
    - Warn if there is an alarm: neither step is sure to remove its cause. That features or risks differ from the training data is
      listed, and leads to nothing.

    A person's decision overrides this.

    Args:
        found: the results of the checks.
        history: what happened before.
        policy: limits, and how many new outcomes are enough.
    """
    data = found.data
    judged = data.rows >= policy.min_rows
    columns = tuple(column.column for column in data.drifted) if judged else ()
    retrain = _reasons_to_retrain(found.concept, history, policy)
    recalibrate = reasons_to_recalibrate(found.calibration, found.alert_rate)
    about_risk = []
    if judged and data.drifted_risk is not None:
        about_risk.append(f"Predicted risks differ from those at training ({measured(data.drifted_risk)}).")
    alarms = [alarm.sentence for alarm in found.alarms]
    reasons = [*retrain, *recalibrate, *alarms, *about_risk, *_about_features(data, policy)]
    if found.acknowledged:
        reasons.append(f"Acknowledged: {' '.join(found.acknowledged)}")
    if found.concept is not None and found.concept.matured is None:
        reasons += found.concept.reasons
    state: DriftState = "stable"
    if history.override is not None:
        state = history.override.state
        reasons.insert(0, f"Decided by hand: {history.override.because}")
    elif retrain:
        state = "retrain"
    elif recalibrate:
        state = "recalibrate"
    elif found.alarms:
        state = "warn"
    return DriftDecision(state=state, reasons=tuple(reasons), columns=columns)


def _reasons_to_retrain(concept: ConceptDrift | None, history: History, policy: DriftPolicy) -> list[str]:
    reasons = (
        [f"On outcomes known so far, {reason}." for reason in concept.reasons] if concept and concept.drifted else []
    )
    enough = policy.min_new_share
    gain = expected_gain(history.gains, policy)
    small = gain < policy.min_expected_gain
    if history.new_share >= enough * (2 if small else 1):
        reasons.append(
            f"Encounters with new outcomes amount to {history.new_share:.0%} of those that the model was trained on."
        )
    return reasons


def reasons_to_recalibrate(calibration: CalibrationCheck | None, alerts: AlertRate | None) -> list[str]:
    """Return a sentence for each thing that a recalibration repairs; empty if there is none, or if nothing is known."""
    reasons = []
    if calibration is not None and calibration.correction != "none":
        offset = calibration.offset
        newest = f"On the {calibration.rows} newest encounters with known outcomes"
        faults = []
        if calibration.correction == "intercept" or offset.low > 0 or offset.high < 0:
            faults.append(
                f"too high, by {offset} on average" if offset.value > 0 else f"too low, by {-offset} on average"
            )
        if calibration.correction == "intercept and slope":
            extreme = "too extreme" if calibration.slope < 1 else "not extreme enough"
            faults.append(f"{extreme} (calibration slope {calibration.slope:.2f})")
        reasons.append(f"{newest}, risks are {', and '.join(faults)}.")
    if alerts is not None and alerts.broken:
        reasons.append(f"{alerts.flagged} of the encounters are flagged; {alerts.promised:.3f} are promised.")
    return reasons


def _about_features(data: DataDrift, policy: DriftPolicy) -> list[str]:
    if data.rows < policy.min_rows:
        return [f"Features and risks are not judged: {data.rows} encounters are too few."]
    drifted, together = data.drifted, data.drifted_together
    most = f", most of all {'; '.join(describe(column) for column in drifted[:3])}" if drifted else ""
    reasons = [f"{len(drifted)} of {_count(len(data.features))} differ from the training data{most}."]
    if together:
        pairs = dict.fromkeys(frozenset((column.column, column.partner or "")) for column in together[:4])
        named = "; ".join(" and ".join(map(name_of, sorted(pair))) for pair in pairs)
        reasons.append(f"Relations to other features have changed for {_count(len(together))}: {named}.")
    return reasons


def _count(features: int) -> str:
    return "1 feature" if features == 1 else f"{features} features"
