"""The operating characteristic of the gate: how often a challenger of known quality passes, simulated with real risks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.results import Target, at_least, at_most
from healthpredict.bundle.model import calibrate
from healthpredict.config import Settings
from healthpredict.data.split import Side, splitmix64
from healthpredict.evaluation.metrics import Floats, auroc
from healthpredict.evaluation.report import report_on
from healthpredict.operations.dataset import LABEL, sides
from healthpredict.training.families import FAMILIES
from healthpredict.training.fit import fit_calibrator, fit_model
from healthpredict.training.gate import Comparison, GateDecision, decide_promotion
from healthpredict.training.search import Candidate

N_SIMULATIONS = 200
LOSSES = (0.0, 0.005, 0.010, 0.015, 0.020)
"""Loss of AUROC of the challenger, on the whole pool."""
ALERT_RATE = 0.2
REPORT_BOOTSTRAP = 50
"""Resamples of the report. The gate uses only its intervals of subgroups, and with 200 the simulation takes twice as long."""


@dataclass(frozen=True)
class Pool:
    """Encounters of patients that neither model was fitted on, shape (n_encounters, ...), and the champion's risk."""

    encounters: pd.DataFrame
    label: NDArray[np.bool_]
    champion: Floats


def gate(encounters: pd.DataFrame, settings: Settings) -> tuple[dict[str, Any], list[Target]]:
    """Pass challengers through the gate on test sets made of resampled patients.

    Champion and challenger are the same family with the same parameters, fitted on two halves of the patients of the training
    side: as different as two equally good models can well be, more so than two that share most of their data. Where one is
    better on the pool by chance, noise makes it equal. A worse challenger is the equal one with noise on its log-odds,
    calibrated again, so that only its discrimination is worse.
    """
    pool, challenger = _pool(encounters, settings)
    challengers = {loss: _worse(pool, challenger, loss) for loss in LOSSES}
    rng = np.random.default_rng(settings.search.seed)
    decisions: dict[float, list[GateDecision]] = {loss: [] for loss in LOSSES}
    _, patient = np.unique(pool.encounters["patient_id"], return_inverse=True)
    rows_of = pd.Series(np.arange(len(patient))).groupby(patient).indices
    for _ in range(N_SIMULATIONS):
        rows, patient_id = _draw(rows_of, settings.promotion.min_rows, rng)
        for loss, risk in challengers.items():
            decisions[loss].append(_decide(pool, risk, rows, patient_id, settings))
    curve = [_row(loss, decisions[loss]) for loss in LOSSES]
    equal, worse = curve[0]["passed"], curve[-1]["passed"]
    measured = {
        "margin": settings.promotion.margin,
        "simulations": N_SIMULATIONS,
        "rows": settings.promotion.min_rows,
        "pool_rows": len(pool.label),
        "pool_auroc": auroc(pool.label, pool.champion),
        "equal_passes": equal,
        "worse_passes": worse,
        "curve": curve,
    }
    return measured, [
        at_least("share of equal challengers that pass", equal, 0.90),
        at_most("share of challengers worse by .02 that pass", worse, 0.05),
    ]


def _pool(encounters: pd.DataFrame, settings: Settings) -> tuple[Pool, Floats]:
    side = sides(encounters)
    training, unseen = encounters[side == Side.TRAIN], encounters[side != Side.TRAIN].reset_index(drop=True)
    # Hashed a third time: the first hash decides the side, the second the folds.
    half = splitmix64(splitmix64(splitmix64(training["patient_id"].to_numpy()))) % np.uint64(2)
    candidate = Candidate(family="lightgbm", params=dict(FAMILIES["lightgbm"].first), validation_auroc=0.0, steps=0)
    label = unseen[LABEL].to_numpy()
    risks = []
    for part in (training[half == 0], training[half == 1]):
        fitted = fit_model(candidate, part, part[LABEL].to_numpy(), settings.search.seed)
        risks.append(fitted.risks(unseen))
    better, other = sorted(risks, key=lambda risk: auroc(label, risk), reverse=True)
    # Only the challenger gets noise; the champion keeps its own risks.
    return Pool(unseen, label, other), better


def _worse(pool: Pool, risk: Floats, loss: float) -> Floats:
    """Add so much noise to the risk that its AUROC on the pool is the champion's minus `loss`, and calibrate it again."""
    log_odds, noise = np.log(risk / (1 - risk)), np.random.default_rng(1).normal(size=len(risk))
    wanted = auroc(pool.label, pool.champion) - loss
    low, high = 0.0, 3.0
    for _ in range(30):
        scale = (low + high) / 2
        low, high = (scale, high) if auroc(pool.label, log_odds + scale * noise) > wanted else (low, scale)
    noisy = 1 / (1 + np.exp(-(log_odds + low * noise)))
    return calibrate(fit_calibrator(pool.label, noisy), noisy)


def _draw(
    rows_of: dict[int, NDArray[np.intp]], min_rows: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Rows of patients drawn with replacement until there are enough, and a new patient id for each draw."""
    drawn: list[NDArray[np.intp]] = []
    total = 0
    while total < min_rows:
        drawn.append(rows_of[int(rng.integers(len(rows_of)))])
        total += len(drawn[-1])
    return np.concatenate(drawn), np.repeat(np.arange(len(drawn)), [len(rows) for rows in drawn])


def _decide(
    pool: Pool, risk: Floats, rows: NDArray[np.intp], patient_id: NDArray[np.int64], settings: Settings
) -> GateDecision:
    label, drawn = pool.label[rows], risk[rows]
    report = report_on(
        pool.encounters.iloc[rows].assign(patient_id=patient_id),
        label,
        drawn,
        threshold=float(np.quantile(risk, 1 - ALERT_RATE)),
        min_subgroup_rows=settings.model.min_subgroup_rows,
        n_bootstrap=REPORT_BOOTSTRAP,
    )
    return decide_promotion(Comparison(label, drawn, pool.champion[rows], patient_id, report), settings.promotion)


def _row(loss: float, decisions: list[GateDecision]) -> dict[str, float]:
    differences = [decision.difference for decision in decisions if decision.difference is not None]
    return {
        "loss": loss,
        "passed": float(np.mean([decision.promote for decision in decisions])),
        "mean_difference": float(np.mean([difference.value for difference in differences])),
        "standard_error": float(np.std([difference.value for difference in differences])),
    }
