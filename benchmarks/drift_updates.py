"""Measure whether planted shifts of outcomes and risks lead to the update that repairs them.

The risks are those of a real champion for patients that it was not fitted on. The outcomes are drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit

from benchmarks.drift_population import Population, draw
from benchmarks.results import Target, at_least
from healthpredict.config import Settings
from healthpredict.evaluation.interval import Floats
from healthpredict.evaluation.metrics import evaluate, threshold_for
from healthpredict.monitoring.alert_rate import check_alert_rate
from healthpredict.monitoring.calibration import check_calibration
from healthpredict.monitoring.concept import detect_concept_drift
from healthpredict.monitoring.data_drift import ColumnDrift, DataDrift
from healthpredict.monitoring.distances import Method
from healthpredict.monitoring.policy import Findings, History, decide

N_SIMULATIONS = 100
BATCH_ROWS, TEST_ROWS = 8_000, 5_000
_STEADY = ColumnDrift(column="age", method=Method.JENSEN_SHANNON, score=0.0, threshold=1.0)
_NO_DATA_DRIFT = DataDrift(rows=BATCH_ROWS, columns=(_STEADY,), joint=(), prediction=())


@dataclass(frozen=True)
class Planted:
    """A shift of one batch, and the update that repairs it.

    Attributes:
        right: the correction of the recalibration that repairs it, or else the decision; `none` if no update is needed.
        outcome: log-odds of the risk -> log-odds of the outcome.
        stretch: by how much the champion's log-odds are stretched around their mean.
    """

    right: str
    outcome: Callable[[Floats, np.random.Generator], Floats] = lambda log_odds, _: log_odds
    stretch: float = 1.0


def _meaningless(log_odds: Floats, rng: np.random.Generator) -> Floats:
    """Swap the log-odds among half of the encounters, so that their risks say nothing about their outcomes."""
    changed = log_odds.copy()
    half = rng.random(len(log_odds)) < 0.5
    changed[half] = rng.permutation(log_odds[half])
    return changed


SHIFTS = {
    "nothing": Planted("none"),
    "prevalence: readmissions more frequent": Planted("intercept", lambda log_odds, _: log_odds + 0.25),
    "prevalence: readmissions less frequent": Planted("intercept", lambda log_odds, _: log_odds - 0.25),
    "calibration: risks too extreme": Planted("intercept and slope", stretch=1.5),
    "calibration: risks not extreme enough": Planted("intercept and slope", stretch=0.65),
    "concept: half of the risks meaningless": Planted("retrain", _meaningless),
}


def measure_updates(population: Population, settings: Settings) -> tuple[dict[str, Any], list[Target]]:
    """Simulate one batch after each planted shift, 100 times."""
    rng = np.random.default_rng(settings.search.seed)
    found: dict[str, dict[str, int]] = {}
    for name, planted in SHIFTS.items():
        updates = Counter(_update(population, planted, settings, rng) for _ in range(N_SIMULATIONS))
        found[name] = dict(updates)
        print(name, found[name], flush=True)
    return found, [
        at_least(
            f"right update after {name}, of {N_SIMULATIONS}",
            found[name].get(planted.right, 0),
            85 if name == "nothing" else 90,
        )
        for name, planted in SHIFTS.items()
    ]


def _update(population: Population, planted: Planted, settings: Settings, rng: np.random.Generator) -> str:
    """Return the correction of a recalibration, or else the decision; `none` for stable."""
    policy, rate = settings.drift, settings.model.alert_rate
    test, batch = (draw(population.others, rows, rng) for rows in (TEST_ROWS, BATCH_ROWS))
    test_risk, log_odds = population.fitted.risks(test), logit(population.fitted.risks(batch))
    test_label = rng.random(TEST_ROWS) < test_risk
    label = rng.random(BATCH_ROWS) < expit(planted.outcome(log_odds, rng))
    risk = expit(log_odds.mean() + planted.stretch * (log_odds - log_odds.mean()))
    promoted = evaluate(test_label, test_risk, test["patient_id"].to_numpy())
    calibration = check_calibration(label, risk, policy)
    findings = Findings(
        data=_NO_DATA_DRIFT,
        concept=detect_concept_drift(label, risk, batch["patient_id"].to_numpy(), promoted, policy),
        calibration=calibration,
        alert_rate=check_alert_rate(risk, threshold_for(risk, rate), rate, policy),
    )
    state = decide(findings, History(new_share=0.0), policy).state
    if state == "recalibrate" and calibration is not None:
        return calibration.correction
    return "none" if state == "stable" else state
