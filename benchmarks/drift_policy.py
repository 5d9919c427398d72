"""What the policy wins, and at how many retrainings, beside simpler ones; and how good the estimate before outcomes is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.drift_hospital import train_champion
from benchmarks.results import Target, at_least, at_most
from healthpredict.config import Settings
from healthpredict.data.split import Side, side_of
from healthpredict.evaluation.metrics import Evaluation, auroc, evaluate, expected_auroc
from healthpredict.monitoring.concept import detect_concept_drift
from healthpredict.monitoring.data_drift import DataDrift, detect_data_drift
from healthpredict.monitoring.distances import Method
from healthpredict.monitoring.policy import History, decide
from healthpredict.monitoring.profile import ReferenceProfile
from healthpredict.operations.dataset import LABEL
from healthpredict.training.fit import FittedModel

SEED = 7


@dataclass(frozen=True)
class Champion:
    """A model trained on the first `trained_on` batches, the initial data among them."""

    trained_on: int
    fitted: FittedModel
    profile: ReferenceProfile
    promoted: Evaluation


@dataclass
class Timeline:
    """Batches in order, the initial data first; outcomes are known one batch later. Champions are trained when asked for."""

    batches: list[pd.DataFrame]
    settings: Settings
    champions: dict[int, Champion] = field(default_factory=dict)

    def champion(self, trained_on: int) -> Champion:
        """Train on the first batches, once."""
        if trained_on not in self.champions:
            labelled = pd.concat(self.batches[:trained_on], ignore_index=True)
            fitted, profile = train_champion(labelled, SEED, self.settings)
            test = labelled[side_of(labelled["patient_id"].to_numpy()) == Side.TEST]
            promoted = evaluate(_label(test), fitted.risks(test), test["patient_id"].to_numpy())
            self.champions[trained_on] = Champion(trained_on, fitted, profile, promoted)
            print(f"champion of {trained_on} batches, {len(labelled):,} encounters", flush=True)
        return self.champions[trained_on]

    def auroc(self, trained_on: int, number: int) -> float:
        """Of a champion on a batch."""
        batch = self.batches[number]
        return auroc(_label(batch), self.champion(trained_on).fitted.risks(batch))


Rule = Callable[[Timeline, Champion, int, DataDrift, tuple[float, ...]], bool]


def build_timeline(batches: dict[str, pd.DataFrame], settings: Settings) -> Timeline:
    return Timeline(list(batches.values()), settings)


def ours(timeline: Timeline, champion: Champion, number: int, data: DataDrift, gains: tuple[float, ...]) -> bool:
    policy = timeline.settings.drift
    unseen = timeline.batches[champion.trained_on : number]
    concept, new_share = None, 0.0
    if unseen:
        labelled = pd.concat(unseen, ignore_index=True)
        new_share = len(labelled) / sum(map(len, timeline.batches[: champion.trained_on]))
        concept = detect_concept_drift(
            _label(labelled),
            champion.fitted.risks(labelled),
            labelled["patient_id"].to_numpy(),
            champion.promoted,
            policy,
            batch=np.repeat(np.arange(len(unseen)), [len(batch) for batch in unseen]),
        )
    decision = decide(data, concept, History(new_share=new_share, gains=gains), policy)
    print(
        f"batch {number}, champion of {champion.trained_on}: {decision.state}. {' '.join(decision.reasons)}", flush=True
    )
    return decision.state == "retrain"


def half_of_the_features(
    timeline: Timeline, champion: Champion, number: int, data: DataDrift, gains: tuple[float, ...]
) -> bool:
    """Evidently's data set flag at its defaults: distances of at least .1 in half of the features."""
    default = (Method.WASSERSTEIN, Method.JENSEN_SHANNON)
    far = {column.column for column in data.columns if column.method in default and column.score >= 0.1}
    return len(far) >= 0.5 * len(data.features)


RULES: dict[str, Rule] = {
    "ours": ours,
    "every batch": lambda *_: True,
    "every second batch": lambda timeline, champion, number, data, gains: number % 2 == 0,
    "data set flag (Evidently)": half_of_the_features,
    "never": lambda *_: False,
}


def follow(timeline: Timeline, rule: Rule) -> dict[str, Any]:
    """Let a rule decide at each batch; what it retrains predicts from the next batch on."""
    champion = timeline.champion(1)
    aurocs, retrained, gains = [], [], []
    for number in range(1, len(timeline.batches)):
        batch = timeline.batches[number]
        risk = champion.fitted.risks(batch)
        aurocs.append(auroc(_label(batch), risk))
        data = detect_data_drift(champion.profile, batch, risk)
        if not rule(timeline, champion, number, data, tuple(gains)):
            continue
        retrained.append(number)
        if number == champion.trained_on or number == len(timeline.batches) - 1:
            # Nothing new to learn from, or nobody left to predict.
            continue
        challenger = timeline.champion(number)
        gains.append(_gain(timeline.batches[number - 1], challenger, champion))
        champion = challenger
    return {"retrained_at": retrained, "retrainings": len(retrained), "auroc": aurocs}


def _gain(newest: pd.DataFrame, challenger: Champion, champion: Champion) -> float:
    """As the gate measures it: on the test side of the newest matured batch."""
    test = newest[side_of(newest["patient_id"].to_numpy()) == Side.TEST]
    return auroc(_label(test), challenger.fitted.risks(test)) - auroc(_label(test), champion.fitted.risks(test))


def measure_policy(real: Timeline, still: Timeline, settings: Settings) -> tuple[dict[str, Any], list[Target]]:
    found = {name: follow(real, rule) for name, rule in RULES.items()}
    never = np.mean(found["never"]["auroc"])
    for of in found.values():
        of["mean_auroc"] = float(np.mean(of["auroc"]))
        of["gain"] = of["mean_auroc"] - float(never)
        of["share_of_gain"] = of["gain"] / (float(np.mean(found["every batch"]["auroc"])) - float(never))
    without_drift = {"ours": follow(still, ours)}
    most = found["every batch"]["retrainings"] / 2
    return {"real": found, "without drift": without_drift}, [
        at_least("share of the gain of retraining at every batch", found["ours"]["share_of_gain"], 0.95),
        at_most("retrainings in ten batches", found["ours"]["retrainings"], most),
        at_most("retrainings in ten batches without drift", without_drift["ours"]["retrainings"], 1),
    ]


def measure_estimate(real: Timeline) -> tuple[dict[str, Any], list[Target]]:
    """AUROC expected from the risks alone beside what outcomes showed, of the champion in place and of the first one."""
    numbers = range(1, len(real.batches))
    in_place = follow(real, RULES["every second batch"])["retrained_at"]
    found = {}
    for name, of in {
        "champion": [max([1, *(at for at in in_place if at < number)]) for number in numbers],
        "first model": [1] * len(numbers),
    }.items():
        expected, shown = [], []
        for number, trained_on in zip(numbers, of, strict=True):
            expected.append(expected_auroc(real.champion(trained_on).fitted.risks(real.batches[number])))
            shown.append(real.auroc(trained_on, number))
        promised = [real.champion(trained_on).promoted.auroc.value for trained_on in of]
        found[name] = {
            "expected": expected,
            "shown": shown,
            "mean_absolute_error": float(np.abs(np.subtract(expected, shown)).mean()),
            "mean_absolute_error_of_promotion": float(np.abs(np.subtract(promised, shown)).mean()),
        }
    return found, [
        at_most("AUROC before outcomes, mean absolute error", found["champion"]["mean_absolute_error"], 0.02)
    ]


def _label(labelled: pd.DataFrame) -> NDArray[np.bool_]:
    return labelled[LABEL].to_numpy(dtype=np.bool_)
