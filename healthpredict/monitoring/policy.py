"""What a batch's drift leads to."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from healthpredict.monitoring.concept import ConceptDrift
from healthpredict.monitoring.data_drift import DataDrift
from healthpredict.monitoring.params import DriftPolicy


class DriftDecision(BaseModel):
    """What to do after a batch, and why.

    Attributes:
        state: stable, warn (a person should look) or retrain.
        reasons: sentences for people, the weightiest first; never empty.
        columns: the features that drifted, the farthest over its limit first.
    """

    model_config = ConfigDict(frozen=True)

    state: Literal["stable", "warn", "retrain"]
    reasons: tuple[str, ...]
    columns: tuple[str, ...]


def decide(
    data: DataDrift, concept: ConceptDrift | None, batches_since_training: int, policy: DriftPolicy
) -> DriftDecision:
    """Decide what a batch's drift leads to.

    Worse results on matured outcomes and shifted risks lead to retraining after a short rest; shifted features alone,
    which need not matter to the outcome, only after a long one.

    Args:
        data: drift of the batch's features and risks.
        concept: the champion on matured outcomes; None where it was not looked at.
        batches_since_training: batches that arrived after the champion was trained, this one included.
        policy: what counts, and how long to rest.
    """
    judged = data.rows >= policy.min_rows
    columns = tuple(column.column for column in data.drifted) if judged else ()
    share = len(columns) / len(data.columns)

    serious: list[str] = []
    if concept is not None and concept.drifted:
        serious += [f"On outcomes known by now {reason}." for reason in concept.reasons]
    if judged and data.prediction.drifted:
        distance, limit = data.prediction.distance, data.prediction.limit
        serious.append(f"Predicted risks differ from those at training (distance {distance:.3f}, limit {limit:.3f}).")
    reasons = [*serious]
    if judged:
        most = f", most of all {', '.join(columns[:5])}" if columns else ""
        reasons.append(f"{len(columns)} of {len(data.columns)} features differ from the training data{most}.")
    else:
        reasons.append(f"{data.rows} encounters are too few to judge features and risks.")
    if concept is not None and concept.matured is None:
        reasons += concept.reasons

    state: Literal["stable", "warn", "retrain"]
    if serious or share >= policy.retrain_share:
        wait = policy.min_batches_between if serious else policy.min_batches_between_data_only
        state = "retrain" if batches_since_training >= wait else "warn"
        if state == "warn":
            reasons.append(
                f"Retraining waits for batch {wait} after the last training; this is {batches_since_training}."
            )
    else:
        state = "warn" if share >= policy.warn_share else "stable"
    return DriftDecision(state=state, reasons=tuple(reasons), columns=columns)
