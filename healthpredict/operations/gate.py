"""Compare a challenger with the champion on patients that neither has seen, and write down whether it may replace it."""

from __future__ import annotations

import pandas as pd

from healthpredict.config import Settings
from healthpredict.data.split import Side
from healthpredict.evaluation.report import report_on
from healthpredict.operations.context import Seconds, log_step, open_ledger, open_registry, timed
from healthpredict.operations.dataset import LABEL, matured_batches, sides
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.operations.risks import risks_of
from healthpredict.training.gate import Comparison, GateDecision, decide_promotion


def gate(settings: Settings, version: int, arriving: str) -> GateDecision:
    """Decide whether a version may replace the champion, and append the decision to the ledger; once for each arriving batch.

    Args:
        settings: the policy.
        version: the challenger's.
        arriving: the batch that is arriving; outcomes not known by then are not used.

    Raises:
        NotEnoughData: no test-side outcomes, or one class only.
        RegistryError: there is no such version, or MLflow failed.
    """
    registry, ledger = open_registry(settings), open_ledger(settings)
    decided = ledger.last("gate", version=version, arriving=arriving)
    if decided is not None:
        return GateDecision.model_validate({name: decided[name] for name in GateDecision.model_fields})
    seconds: Seconds = {}
    with timed(seconds, "gate"):
        challenger = registry.fetch_bundle(registry.version(version))
        champion = registry.by_alias("champion")
        champion_bundle = registry.fetch_bundle(champion) if champion and champion.version != version else None
        encounters = _newest_test_side(settings, arriving)
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
    ledger.append(
        "gate", version=version, arriving=arriving, champion=champion_version, **decision.model_dump(mode="json")
    )
    result = f"{'passed' if decision.promote else 'not passed'}: {' '.join(decision.reasons)}"
    log_step(f"version {version}", "gate", seconds["gate"], result)
    return decision


def _newest_test_side(settings: Settings, arriving: str) -> pd.DataFrame:
    """Test-side encounters of the newest matured batches, pooled back until there are enough."""
    parts: list[pd.DataFrame] = []
    for name in reversed(matured_batches(settings, arriving)):
        labelled = read_labelled(settings, [name])
        parts.insert(0, labelled[sides(labelled) == Side.TEST])
        if sum(map(len, parts)) >= settings.promotion.min_rows:
            break
    return pd.concat(parts, ignore_index=True)
