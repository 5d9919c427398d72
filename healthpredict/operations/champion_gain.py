"""What the champion gained over the one before it, and what a shadow would gain over the champion.

The shadow is the champion's recipe, fitted on all outcomes before the newest batch. If it is better on the newest batch, then the
champion is behind.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from healthpredict.bundle.model import Bundle
from healthpredict.data.split import Side
from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.gain import auroc_gain
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.metrics import require_two_classes
from healthpredict.features.frame import encode_frame
from healthpredict.operations.dataset import LABEL, sides
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import FOR_TRAINING, read_labelled
from healthpredict.operations.risks import risks_of
from healthpredict.operations.search import CANDIDATES_TAG
from healthpredict.operations.unseen_outcomes import UnseenOutcomes
from healthpredict.registry.models import ModelVersion
from healthpredict.training.candidates import Candidate
from healthpredict.training.families import probability
from healthpredict.training.fit import fit_uncalibrated


def earlier_gains(installation: Installation) -> tuple[float, ...]:
    """The gain in AUROC of each earlier champion over the one before it, in order."""
    return tuple(event["gain"]["value"] for event in _batch_events_with(installation, "gain"))


def champion_gain(installation: Installation, bundle: Bundle, unseen: UnseenOutcomes) -> Interval | None:
    """Compare the champion with the one before it, on outcomes that neither was trained on. Recalibrations do not count.

    Returns:
        The gain in AUROC. None if it was measured before, there was no earlier champion, or there are too few outcomes.
    """
    registry, version = installation.registry, bundle.manifest.trained_version
    if any(event["trained_version"] == version for event in _batch_events_with(installation, "gain")):
        return None
    promoted = (registry.version(event["version"]) for event in reversed(installation.ledger.events("promotion")))
    bundles = (registry.fetch_bundle(other) for other in promoted)
    # The one before it was trained earlier. After a rollback, the last promotions may be of newer models.
    before = next((other for other in bundles if other.manifest.trained_version < version), None)
    if before is None:
        return None
    unseen_by_both = [i for i, name in enumerate(unseen.names) if name not in before.manifest.trained_on]
    rows = np.isin(unseen.batch, unseen_by_both)
    label, labelled = unseen.label[rows], unseen.labelled[rows]
    try:
        require_two_classes(label)
        return auroc_gain(label, unseen.risk[rows], risks_of(before, labelled), unseen.patient_id[rows])
    except NotEnoughData:
        return None


def earlier_shadow_gains(installation: Installation, bundle: Bundle) -> dict[str, Interval]:
    """Newest batch at the time -> the gain in AUROC of the shadow over the champion on it, as the ledger has it."""
    return {
        event["newest_matured"]: Interval.model_validate(event["shadow_gain"])
        for event in _batch_events_with(installation, "shadow_gain")
        if event["trained_version"] == bundle.manifest.trained_version
    }


def shadow_gain(
    installation: Installation, champion: ModelVersion, bundle: Bundle, unseen: UnseenOutcomes
) -> Interval | None:
    """Fit the shadow, and compare it with the champion on the newest batch.

    Returns:
        The gain in AUROC. None if the shadow would equal the champion, or if the newest batch is too small to estimate the error.
    """
    if len(unseen.names) < 2:  # the shadow would be fitted on the champion's data
        return None
    earlier = [*bundle.manifest.trained_on, *unseen.names[:-1]]
    candidate = Candidate.model_validate(json.loads(champion.tags[CANDIDATES_TAG])[0])
    labelled = read_labelled(installation, earlier).frame
    training = labelled[(sides(labelled) != Side.TEST) & labelled[FOR_TRAINING]]  # as for the champion
    newest = unseen.newest
    encounters, label = unseen.labelled[newest], unseen.label[newest]
    try:
        encoder, model = fit_uncalibrated(
            candidate, training, training[LABEL].to_numpy(), installation.settings.search.seed
        )
        risk = probability(model, encode_frame(encoder, encounters))
        gain = auroc_gain(label, risk, unseen.risk[newest], unseen.patient_id[newest])
    except NotEnoughData:
        return None
    # In a very small batch, the error may be 0. Such a gain would outweigh those of all other batches.
    return gain if gain.low < gain.high else None


def _batch_events_with(installation: Installation, fact: str) -> list[dict[str, Any]]:
    return [event for event in installation.ledger.events("batch") if event.get(fact) is not None]
