"""Compare a challenger with the champion and the anchor, and record whether it may replace the champion."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from healthpredict.bundle.model import Bundle
from healthpredict.data.split import Side
from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.interval import Floats
from healthpredict.evaluation.untreated import Overlap
from healthpredict.monitoring.profile import RISK
from healthpredict.operations.dataset import matured_batches, newest_batches, sides
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import outcomes_of, read_labelled, with_outcome
from healthpredict.operations.risks import risks_of
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.storage.tables import read_frame
from healthpredict.storage.uris import exists
from healthpredict.training.gate import Comparison, GateDecision, decide_promotion


def gate(installation: Installation, version: int, arriving: str) -> GateDecision:
    """Decide whether a version may replace the champion, and append the decision to the ledger, once for each arriving batch.

    Args:
        installation: where data and models are.
        version: the challenger.
        arriving: the batch that is arriving. Only outcomes that are known by then are used.

    Raises:
        NotEnoughData: no outcomes are known.
        RegistryError: there is no such version, or MLflow failed.
    """
    registry, settings = installation.registry, installation.settings
    decided = read_decision(installation, version, arriving)
    if decided is not None:
        return decided
    seconds: Seconds = {}
    with timed(seconds, "gate"):
        challenger = registry.fetch_bundle(registry.version(version))
        champion = registry.by_alias("champion")
        anchor = anchor_version(installation)
        champion_bundle, anchor_bundle = (
            registry.fetch_bundle(registry.version(other)) if other is not None and other != version else None
            for other in (champion.version if champion else None, anchor)
        )
        comparison, overlap = _compare(installation, challenger, champion_bundle, anchor_bundle, arriving)
        decision = decide_promotion(comparison, settings.promotion)
        if overlap is not None:
            decision = decision.model_copy(update={"reasons": (*decision.reasons, _about(overlap))})
    installation.ledger.append(
        "gate",
        version=version,
        arriving=arriving,
        champion=champion.version if champion else None,
        anchor=anchor,
        **decision.model_dump(mode="json"),
    )
    result = f"{'passed' if decision.promote else 'not passed'}: {' '.join(decision.reasons)}"
    log_step(f"version {version}", "gate", seconds["gate"], result)
    return decision


def read_decision(installation: Installation, version: int, arriving: str) -> GateDecision | None:
    """Return the decision that the ledger has for a version at the arrival of a batch, or None if there is none."""
    event = installation.ledger.last("gate", version=version, arriving=arriving)
    return None if event is None else GateDecision.model_validate(event)


def anchor_version(installation: Installation) -> int | None:
    """Return the version of the anchor, the best champion so far. None if there was no champion.

    It is the first champion, until the gate shows that a later one is better: the whole interval of the difference is above 0. A
    champion that is only as good as the anchor does not replace it. So the gate sees the sum of a series of small losses.
    """
    passed = {event["version"]: event for event in installation.ledger.events("gate") if event["promote"]}
    anchor: int | None = None
    for promotion in installation.ledger.events("promotion"):
        version = promotion["version"]
        event = passed.get(version, {})
        difference = event.get("anchor_difference")
        if anchor is None or (event.get("anchor") == anchor and difference is not None and difference["low"] > 0):
            anchor = version
    return anchor


def _compare(
    installation: Installation, challenger: Bundle, champion: Bundle | None, anchor: Bundle | None, arriving: str
) -> tuple[Comparison, Overlap | None]:
    """Predict all encounters that neither champion nor anchor was trained on with each model.

    Returns:
        The comparison, on encounters whose outcomes without intervention are observed or estimated, and the overlap of all matured
        batches, see `Labelled`.
    """
    settings, rivals = installation.settings, [bundle for bundle in (champion, anchor) if bundle]
    names = matured_batches(installation, arriving)
    labelled = read_labelled(installation, names)
    parts = [_unseen(with_outcome(part), name, rivals) for name, part in labelled.by_name.items()]
    if not sum(map(len, parts)):
        problem = labelled.overlap.problem if labelled.overlap else None
        raise NotEnoughData(problem or "No batch has known outcomes yet. Wait for the next one.")
    risks = [_challenger_risk(installation, challenger, part, name) for part, name in zip(parts, names, strict=True)]
    parts = [part[~np.isnan(risk)] for part, risk in zip(parts, risks, strict=True)]
    encounters, rows = pd.concat(parts, ignore_index=True), [len(part) for part in parts]
    same_model = champion and anchor and champion.manifest.trained_version == anchor.manifest.trained_version
    comparison = Comparison(
        encounters=encounters,
        label=outcomes_of(encounters),
        newest=np.repeat(np.arange(len(rows)), rows) >= newest_batches(rows, settings.drift.calibration_rows),
        risk=np.concatenate([risk[~np.isnan(risk)] for risk in risks]),
        champion_risk=risks_of(champion, encounters) if champion else None,
        anchor_risk=risks_of(anchor, encounters) if anchor and not same_model else None,
        threshold=challenger.manifest.threshold,
        alert_rate=settings.model.alert_rate,
    )
    return comparison, labelled.overlap


def _about(overlap: Overlap) -> str:
    """Describe what the comparison knows about interventions."""
    if overlap.problem is not None:
        return f"{overlap.problem} So the models are compared only on batches in which no flag changed an outcome."
    return (
        f"Outcomes are those without intervention. In the matured batches, {overlap.treated} of {overlap.flagged} flagged "
        f"encounters had an intervention, and those without one are as informative as {overlap.effective:.0f} of equal weight."
    )


def _unseen(labelled: pd.DataFrame, name: str, rivals: Iterable[Bundle]) -> pd.DataFrame:
    """Select the encounters of a batch that none of the rivals was trained on: all, or those of test-side patients."""
    seen = any(name in rival.manifest.trained_on for rival in rivals)
    return labelled[sides(labelled) == Side.TEST].reset_index(drop=True) if seen else labelled


def _challenger_risk(installation: Installation, challenger: Bundle, labelled: pd.DataFrame, name: str) -> Floats:
    """Return the challenger's risks for a batch, shape (n_encounters,).

    For encounters that it was trained on, they are out-of-fold risks: from models that were not fitted on the patient. If those
    were not kept, they are NaN.
    """
    if name not in challenger.manifest.trained_on:
        return risks_of(challenger, labelled)
    test = sides(labelled) == Side.TEST
    risk = np.full(len(labelled), np.nan)
    risk[test] = risks_of(challenger, labelled[test])
    uri = installation.layout.out_of_fold(challenger.manifest.model_version)
    if exists(uri):
        kept = read_frame(uri).set_index("encounter_id")[RISK]
        risk[~test] = kept.reindex(labelled["encounter_id"][~test]).to_numpy()
    return risk
