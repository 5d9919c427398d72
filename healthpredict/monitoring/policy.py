"""The decision after a batch."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from healthpredict.monitoring.concept import ConceptDrift
from healthpredict.monitoring.data_drift import DataDrift
from healthpredict.monitoring.params import DriftPolicy, DriftState
from healthpredict.monitoring.words import describe, measured, name_of


class DriftDecision(BaseModel):
    """What to do after a batch, and why.

    Attributes:
        state: stable, warn (a person should look) or retrain.
        reasons: sentences for people, the most important first; never empty.
        columns: the features that drifted, the one farthest above its limit first.
    """

    model_config = ConfigDict(frozen=True)

    state: DriftState
    reasons: tuple[str, ...]
    columns: tuple[str, ...]


class Override(BaseModel):
    """A person's decision for the next batch, with the reason."""

    model_config = ConfigDict(frozen=True)

    state: DriftState
    because: str


class History(BaseModel):
    """What the ledger knows when a decision is made.

    Attributes:
        new_share: encounters with known outcomes that the champion was not trained on, divided by those that it was trained on.
        gains: gain in AUROC of each earlier retraining over the champion of its time, on the same encounters, in order.
        override: a person's decision, or None.
    """

    model_config = ConfigDict(frozen=True)

    new_share: float
    gains: tuple[float, ...] = ()
    override: Override | None = None


def expected_gain(gains: Sequence[float], policy: DriftPolicy) -> float:
    """Return the expected gain in AUROC of a retraining: the mean of the earlier gains and one assumed gain."""
    return (policy.assumed_gain + sum(gains)) / (1 + len(gains))


def decide(data: DataDrift, concept: ConceptDrift | None, history: History, policy: DriftPolicy) -> DriftDecision:
    """Decide what to do after a batch.

    Concept drift, drift of the risks, or drift of at least half of the features leads to retraining once there are enough new
    outcomes to learn from. If earlier retrainings gained nothing, twice as many are needed. A person's decision overrides this.

    Args:
        data: drift of the batch's features and risks.
        concept: the champion on matured outcomes, or None if it was not checked.
        history: what happened before.
        policy: limits, and how many new outcomes are enough.
    """
    judged = data.rows >= policy.min_rows
    drifted = data.drifted if judged else []
    columns = tuple(column.column for column in drifted)
    serious = (
        [f"On outcomes known so far, {reason}." for reason in concept.reasons] if concept and concept.drifted else []
    )
    if judged and data.drifted_risk is not None:
        serious.append(f"Predicted risks differ from those at training ({measured(data.drifted_risk)}).")
    reasons = [*serious, *_about_features(data, policy)]
    if concept is not None and concept.matured is None:
        reasons += concept.reasons
    if history.override is not None:
        decided, because = history.override.state, history.override.because
        return DriftDecision(state=decided, reasons=(f"Decided by hand: {because}", *reasons), columns=columns)

    state: DriftState = "stable"
    if serious or len(columns) >= policy.retrain_share * len(data.features):
        enough = policy.min_new_share
        gain = expected_gain(history.gains, policy)
        if gain < policy.min_expected_gain:
            enough *= 2
            reasons.append(
                f"The expected gain of retraining is small ({gain:+.3f} AUROC), so it needs twice as many new outcomes."
            )
        state = "retrain" if history.new_share >= enough else "warn"
        if state == "warn":
            reasons.append(
                f"Retraining waits until the encounters with new outcomes amount to {enough:.0%} of those that the model was "
                f"trained on; now: {history.new_share:.0%}."
            )
    elif len(columns) >= policy.warn_share * len(data.features) or (judged and data.drifted_together):
        state = "warn"
    return DriftDecision(state=state, reasons=tuple(reasons), columns=columns)


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
