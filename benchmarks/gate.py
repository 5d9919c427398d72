"""The operating characteristics of the gate: how often challengers of known quality pass, simulated with real risks.

The comparisons are those that the loop makes on the real data: a champion of the first batches, and a challenger that was also
trained on the batches that have matured since. Each simulated comparison draws its patients again, with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from benchmarks.results import Target, at_least, at_most
from healthpredict.bundle.model import calibrate
from healthpredict.config import Settings
from healthpredict.data.split import Side
from healthpredict.evaluation.interval import Floats
from healthpredict.evaluation.metrics import auroc
from healthpredict.monitoring.calibration import fit_intercept
from healthpredict.operations.dataset import LABEL, sides
from healthpredict.training.candidates import Candidate
from healthpredict.training.families import FAMILIES
from healthpredict.training.fit import FittedModel, fit_calibrator, fit_model
from healthpredict.training.gate import Comparison, GateDecision, decide_promotion

PAIRS = ((1, 2), (2, 3), (3, 5), (5, 7), (7, 10))
"""Number of batches that champion and challenger were trained on: those of the loop's own retrainings on the real data."""
N_SIMULATIONS = 100
"""For each pair and kind of challenger."""
N_CHAINS = 40
"""Series of challengers, each of which is compared with the champion of its time."""
N_STEPS = 10
"""Challengers in a chain."""
STEP = 0.004
"""AUROC by which each challenger of a chain is worse than the champion of its time."""
LOSSES = (0.005, 0.010)
"""AUROC by which the worse challengers are worse."""
BIASED_GROUP = ("race", "AfricanAmerican")
BIAS = 0.10
"""Sensitivity that a biased challenger loses in `BIASED_GROUP`."""


@dataclass(frozen=True)
class Pool:
    """The encounters of one comparison, see `Comparison`, with the log-odds of both models."""

    encounters: pd.DataFrame
    newest: NDArray[np.bool_]
    champion: Floats
    challenger: Floats

    @cached_property
    def label(self) -> NDArray[np.bool_]:
        """Whether the patient was readmitted."""
        return self.encounters[LABEL].to_numpy(dtype=np.bool_)

    @cached_property
    def rows_of(self) -> list[NDArray[np.intp]]:
        """The rows of each patient."""
        return [np.asarray(rows) for rows in self.encounters.groupby("patient_id").indices.values()]

    @cached_property
    def group(self) -> NDArray[np.bool_]:
        """The encounters of `BIASED_GROUP`."""
        return (self.encounters[BIASED_GROUP[0]] == BIASED_GROUP[1]).to_numpy()

    def noise(self, log_odds: Floats, loss: float) -> float:
        """Return the standard deviation of noise on the log-odds that lowers the AUROC of a model by this loss."""
        drawn, wanted = np.random.default_rng(1).normal(size=len(log_odds)), auroc(self.label, log_odds) - loss
        return _solve(lambda scale: auroc(self.label, log_odds + scale * drawn) - wanted)

    def bias(self, alert_rate: float) -> float:
        """Return by how much the log-odds of the group must fall for its sensitivity at the alert rate to fall by `BIAS`."""

        def sensitivity(shift: float) -> float:
            log_odds = self.challenger - shift * self.group
            flagged = log_odds >= np.quantile(log_odds, 1 - alert_rate)
            return float(flagged[self.group & self.label].mean())

        return _solve(lambda shift: sensitivity(shift) - sensitivity(0.0) + BIAS)


def _solve(falling: Callable[[float], float]) -> float:
    """Return where a falling function, positive at 0, crosses 0."""
    low, high = 0.0, 3.0
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return low


def gate(batches: Sequence[pd.DataFrame], settings: Settings) -> tuple[dict[str, Any], list[Target]]:
    """Pass challengers of known quality through the gate.

    In each simulated comparison, the two models of a pair swap roles for a random half of the patients. So the challenger is as
    good as the champion for every group, and differs from it as real challengers do. A worse challenger gets noise on its log-odds.
    A biased one underestimates one group.
    """
    models = {k: _fit(batches[:k], settings) for k in sorted({k for pair in PAIRS for k in pair})}
    pools = {pair: _pool(batches, models, *pair) for pair in PAIRS}
    rng = np.random.default_rng(settings.search.seed)
    by_pair = []
    for pair, pool in pools.items():
        by_pair.append({"trained_on": pair, **_passes(pool, settings, rng)})
        print(by_pair[-1], flush=True)
    losses = [_chain(pools[PAIRS[len(PAIRS) // 2]], settings, rng) for _ in range(N_CHAINS)]
    mean = {
        key: float(np.mean([measured[key] for measured in by_pair]))
        for key in by_pair[0]
        if key.endswith(("pass", "blocked"))
    }
    measured = {
        "policy": settings.promotion.model_dump(),
        "simulations": N_SIMULATIONS,
        "pairs": by_pair,
        **mean,
        "loss_after_ten_steps": float(np.mean(losses)),
        "loss_after_ten_steps_p90": float(np.quantile(losses, 0.9)),
    }
    return measured, [
        at_least("share of equal challengers that pass", mean["equal_pass"], 0.90),
        at_most("share of challengers worse by .010 that pass", mean["worse_010_pass"], 0.05),
        at_most("AUROC lost after ten challengers that are each worse by .004", float(np.mean(losses)), 0.010),
        at_least("share of challengers biased against a group that its check blocks", mean["biased_blocked"], 0.90),
        at_most("share of equal challengers that this check blocks", mean["equal_blocked"], 0.05),
    ]


def _fit(batches: Sequence[pd.DataFrame], settings: Settings) -> tuple[FittedModel, Floats]:
    """Fit the family that the search tries first. Returns: the model, and the risks (out of fold where it was fitted)."""
    labelled = pd.concat(batches, ignore_index=True)
    family = settings.search.families[0]
    candidate = Candidate(family=family, params=dict(FAMILIES[family].first), validation_auroc=0.0, steps=0)
    test = sides(labelled) == Side.TEST
    training = labelled[~test]
    fitted = fit_model(candidate, training, training[LABEL].to_numpy(), settings.search.seed)
    risk = np.empty(len(labelled))
    risk[~test], risk[test] = fitted.out_of_fold_risk, fitted.risks(labelled[test])
    return fitted, risk


def _pool(
    batches: Sequence[pd.DataFrame], models: dict[int, tuple[FittedModel, Floats]], before: int, after: int
) -> Pool:
    encounters = pd.concat(batches[:after], ignore_index=True)
    batch = np.repeat(np.arange(after), [len(batch) for batch in batches[:after]])
    unseen = (batch >= before) | (sides(encounters) == Side.TEST)
    encounters, batch = encounters[unseen].reset_index(drop=True), batch[unseen]
    risks = models[before][0].risks(encounters), models[after][1][unseen]
    return Pool(encounters, batch == after - 1, *map(logit, risks))


class _Draw:
    """One simulated comparison: patients drawn with replacement, whose predictions by the two models are swapped at random."""

    def __init__(self, pool: Pool, settings: Settings, rng: np.random.Generator) -> None:
        drawn = [pool.rows_of[i] for i in rng.integers(len(pool.rows_of), size=len(pool.rows_of))]
        self.rows, sizes = np.concatenate(drawn), [len(rows) for rows in drawn]
        patient = np.repeat(np.arange(len(drawn)), sizes)
        swapped = np.repeat(rng.random(len(drawn)) < 0.5, sizes)
        self.encounters = pool.encounters.iloc[self.rows].assign(patient_id=patient)
        self.label, self.newest, self.group = (values[self.rows] for values in (pool.label, pool.newest, pool.group))
        first, second = pool.champion[self.rows], pool.challenger[self.rows]
        self.champion, self.challenger = np.where(swapped, second, first), np.where(swapped, first, second)
        self.noise = rng.normal(size=len(first))
        self.settings = settings

    def risk(self, log_odds: Floats) -> Floats:
        """Calibrate as the loop does: on all encounters, and the intercept on the newest."""
        risk = calibrate(fit_calibrator(self.label, expit(log_odds)), expit(log_odds))
        return expit(logit(risk) + fit_intercept(self.label[self.newest], logit(risk[self.newest])))

    def decide(self, challenger: Floats, champion: Floats, anchor: Floats | None = None) -> GateDecision:
        """Compare models given by their log-odds."""
        risk, alert_rate = self.risk(challenger), self.settings.model.alert_rate
        comparison = Comparison(
            encounters=self.encounters,
            label=self.label,
            newest=self.newest,
            risk=risk,
            champion_risk=expit(champion),
            anchor_risk=None if anchor is None else expit(anchor),
            threshold=float(np.quantile(risk, 1 - alert_rate)),
            alert_rate=alert_rate,
        )
        return decide_promotion(comparison, self.settings.promotion)


def _passes(pool: Pool, settings: Settings, rng: np.random.Generator) -> dict[str, float]:
    noise = {loss: pool.noise(pool.challenger, loss) for loss in LOSSES}
    bias = pool.bias(settings.model.alert_rate)
    decisions: dict[str, list[GateDecision]] = {}
    for _ in range(N_SIMULATIONS):
        draw = _Draw(pool, settings, rng)
        challengers = {f"worse_{round(loss * 1000):03}": draw.challenger + noise[loss] * draw.noise for loss in LOSSES}
        challengers |= {"equal": draw.challenger, "biased": draw.challenger - bias * draw.group}
        for name, log_odds in challengers.items():
            decisions.setdefault(name, []).append(draw.decide(log_odds, draw.champion))
    differences = [decision.difference.value for decision in decisions["equal"] if decision.difference]
    return {
        "rows": len(pool.label),
        "real_gain": auroc(pool.label, pool.challenger) - auroc(pool.label, pool.champion),
        "standard_error": float(np.std(differences)),
        **{f"{name}_pass": float(np.mean([d.promote for d in made])) for name, made in decisions.items()},
        **{f"{name}_blocked": float(np.mean([_blocked(d) for d in decisions[name]])) for name in ("equal", "biased")},
    }


def _blocked(decision: GateDecision) -> bool:
    return any(reason.startswith("Worse than the champion for") for reason in decision.reasons)


def _chain(pool: Pool, settings: Settings, rng: np.random.Generator) -> float:
    """Return the AUROC lost to a series of challengers, each worse by `STEP` than the champion of its time."""
    lost = 0.0
    for _ in range(N_STEPS):
        draw = _Draw(pool, settings, rng)
        champion = draw.champion + pool.noise(pool.champion, lost) * rng.normal(size=len(draw.rows))
        challenger = draw.challenger + pool.noise(pool.challenger, lost + STEP) * draw.noise
        if draw.decide(challenger, champion, draw.champion if lost else None).promote:
            lost += STEP
    return lost
