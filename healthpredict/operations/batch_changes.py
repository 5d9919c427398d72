"""Compare a batch with the one before it, from the champion's point of view."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from healthpredict.bundle.model import Bundle
from healthpredict.data.batches import INITIAL
from healthpredict.features.frame import encode_frame
from healthpredict.monitoring.changes import Change, changes_since
from healthpredict.monitoring.contributions import Contribution, column_contributions, sample
from healthpredict.monitoring.data_drift import BatchCounts, count_batch
from healthpredict.monitoring.profile import ReferenceProfile
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import batch_events
from healthpredict.storage.tables import read_frame, read_json


def earlier_jumps(installation: Installation) -> list[dict[str, float]]:
    """Return the jumps (see `Change`) of each earlier batch: feature -> jump. Earlier versions of this system recorded none."""
    return [event["jumps"] for event in batch_events(installation).values() if event.get("jumps")]


def changes_since_batch_before(
    installation: Installation,
    bundle: Bundle,
    profile: ReferenceProfile,
    counts: BatchCounts,
    contributions: Mapping[str, Contribution],
) -> dict[str, Change]:
    """Return the change of each feature since the last batch that is large enough, or since the initial data.

    Args:
        installation: where the batch before is.
        bundle: of the champion.
        profile: its reference.
        counts: of the new batch. If it is too small to be judged, the result is empty.
        contributions: to the new batch, see `champion_contributions`.
    """
    smallest = installation.settings.drift.min_rows
    if counts.rows < smallest:
        return {}
    done = [name for name, event in batch_events(installation).items() if event.get("rows", 0) >= smallest]
    name = done[-1] if done else INITIAL
    encounters = read_frame(installation.layout.processed(name))
    counts_before = count_batch(profile, encounters, np.zeros(len(encounters)))  # only features are compared
    contributions_before = _stored_contributions(installation, bundle, name)
    if contributions_before is None:
        contributions_before = champion_contributions(bundle, encounters)
    return changes_since((counts_before, contributions_before), (counts, contributions), profile)


def _stored_contributions(installation: Installation, bundle: Bundle, name: str) -> dict[str, Contribution] | None:
    """Return what the check of a batch stored, or None if it used another model or there was none."""
    check = read_json(installation.layout.check(name)) if name != INITIAL else {}
    if check.get("trained_version") != bundle.manifest.trained_version or "contributions" not in check:
        return None
    return {column: Contribution.model_validate(stored) for column, stored in check["contributions"].items()}


def champion_contributions(bundle: Bundle, encounters: pd.DataFrame) -> dict[str, Contribution]:
    """Return the mean contribution of each column, with the calibrator from training; empty if the bundle has no explainer."""
    if bundle.explainer is None:
        return {}
    features = encode_frame(bundle.encoder, sample(encounters))
    slope = bundle.manifest.trained_calibrator.slope
    return column_contributions(bundle.explainer, slope, bundle.encoder.feature_names, features)
