"""Compare a challenger with the champion on patients that neither was trained on, and record whether it may replace it."""

from __future__ import annotations

import pandas as pd

from healthpredict.data.split import Side
from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.report import report_on
from healthpredict.operations.dataset import LABEL, matured_batches, sides
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.operations.risks import risks_of
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.training.gate import Comparison, GateDecision, decide_promotion


def gate(installation: Installation, version: int, arriving: str) -> GateDecision:
    """Decide whether a version may replace the champion, and append the decision to the ledger, once for each arriving batch.

    Args:
        installation: where data and models are.
        version: the challenger.
        arriving: the batch that is arriving. Only outcomes that are known by then are used.

    Raises:
        NotEnoughData: no test-side outcomes, or one class only.
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
        champion_bundle = registry.fetch_bundle(champion) if champion and champion.version != version else None
        encounters = _newest_test_side(installation, arriving)
        label = encounters[LABEL].to_numpy()
        risk = risks_of(challenger, encounters)
        comparison = Comparison(
            label=label,
            risk=risk,
            champion_risk=risks_of(champion_bundle, encounters) if champion_bundle else None,
            patient_id=encounters["patient_id"].to_numpy(),
            report=report_on(
                encounters,
                label,
                risk,
                threshold=challenger.manifest.threshold,
                min_subgroup_rows=settings.model.min_subgroup_rows,
                n_bootstrap=settings.model.n_bootstrap,
            ),
        )
        decision = decide_promotion(comparison, settings.promotion)
    champion_version = champion.version if champion else None
    installation.ledger.append(
        "gate", version=version, arriving=arriving, champion=champion_version, **decision.model_dump(mode="json")
    )
    result = f"{'passed' if decision.promote else 'not passed'}: {' '.join(decision.reasons)}"
    log_step(f"version {version}", "gate", seconds["gate"], result)
    return decision


def read_decision(installation: Installation, version: int, arriving: str) -> GateDecision | None:
    """Return the decision that the ledger has for a version at the arrival of a batch, or None if there is none."""
    event = installation.ledger.last("gate", version=version, arriving=arriving)
    if event is None:
        return None
    return GateDecision.model_validate({name: event[name] for name in GateDecision.model_fields})


def _newest_test_side(installation: Installation, arriving: str) -> pd.DataFrame:
    """Return test-side encounters of the newest matured batches, as many batches as are needed to have enough."""
    parts: list[pd.DataFrame] = []
    for name in reversed(matured_batches(installation, arriving)):
        labelled = read_labelled(installation, [name])
        parts.insert(0, labelled[sides(labelled) == Side.TEST])
        if sum(map(len, parts)) >= installation.settings.promotion.min_rows:
            break
    if not parts:
        raise NotEnoughData("No batch has known outcomes yet. Wait for the next one.")
    return pd.concat(parts, ignore_index=True)
