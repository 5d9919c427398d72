"""Compare gain and number of retrainings of the policy with simpler rules, and evaluate the AUROC estimate before outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.drift_population import first_candidate, train_champion
from benchmarks.results import Target, at_least, at_most
from healthpredict.config import Settings
from healthpredict.data.split import Side, side_of
from healthpredict.evaluation.gain import auroc_gain
from healthpredict.evaluation.interval import Floats, Interval
from healthpredict.evaluation.metrics import Evaluation, auroc, evaluate, expected_auroc
from healthpredict.features.encoder import Encoder
from healthpredict.features.frame import encode_frame
from healthpredict.monitoring.alert_rate import AlertRate
from healthpredict.monitoring.concept import ConceptDrift, detect_concept_drift
from healthpredict.monitoring.data_drift import DataDrift, detect_data_drift
from healthpredict.monitoring.distances import Method
from healthpredict.monitoring.policy import Findings, History, decide
from healthpredict.monitoring.profile import ReferenceProfile
from healthpredict.operations.dataset import LABEL
from healthpredict.training.families import probability
from healthpredict.training.fit import FittedModel, fit_uncalibrated

SEED = 7
_PROMISE_KEPT = AlertRate(promised=0.2, flagged=Interval(value=0.2, low=0.2, high=0.2), broken=False)
"""Only the decision to retrain is compared here."""


@dataclass(frozen=True)
class Champion:
    """A model trained on the first `trained_on` batches (the initial data count as the first), with its evaluation at promotion."""

    trained_on: int
    fitted: FittedModel
    profile: ReferenceProfile
    promoted: Evaluation


@dataclass
class Timeline:
    """Batches in order, the initial data first. Outcomes are known one batch later. Models are trained on first use."""

    batches: list[pd.DataFrame]
    settings: Settings
    champions: dict[int, Champion] = field(default_factory=dict)
    models: dict[int, tuple[Encoder, Any]] = field(default_factory=dict)

    def champion(self, trained_on: int) -> Champion:
        """Train on the first batches as the loop does, once."""
        if trained_on not in self.champions:
            labelled = pd.concat(self.batches[:trained_on], ignore_index=True)
            fitted, profile = train_champion(labelled, SEED, self.settings)
            test = labelled[side_of(labelled["patient_id"].to_numpy()) == Side.TEST]
            promoted = evaluate(_label(test), fitted.risks(test), test["patient_id"].to_numpy())
            self.champions[trained_on] = Champion(trained_on, fitted, profile, promoted)
            self.models[trained_on] = fitted.encoder, fitted.model
        return self.champions[trained_on]

    def score(self, trained_on: int, encounters: pd.DataFrame) -> Floats:
        """Predict with the model of the first batches, uncalibrated: calibration would take five more fits."""
        if trained_on not in self.models:
            labelled = pd.concat(self.batches[:trained_on], ignore_index=True)
            training = labelled[side_of(labelled["patient_id"].to_numpy()) != Side.TEST]
            self.models[trained_on] = fit_uncalibrated(first_candidate(), training, _label(training), SEED)
        encoder, model = self.models[trained_on]
        return probability(model, encode_frame(encoder, encounters))

    def auroc(self, trained_on: int, encounters: pd.DataFrame) -> float:
        """AUROC of the model of the first batches."""
        return auroc(_label(encounters), self.score(trained_on, encounters))

    def gain(self, trained_on: int, over: int, encounters: pd.DataFrame) -> Interval:
        """AUROC of one model minus that of another, paired."""
        models = (self.score(trained_on, encounters), self.score(over, encounters))
        return auroc_gain(_label(encounters), *models, encounters["patient_id"].to_numpy())


Rule = Callable[[Timeline, int, int, tuple[float, ...]], bool]
"""Timeline, batches that the champion was trained on, number of the batch, gains of earlier retrainings -> retrain."""


def build_timeline(batches: dict[str, pd.DataFrame], settings: Settings) -> Timeline:
    return Timeline(list(batches.values()), settings)


def ours(timeline: Timeline, trained_on: int, number: int, gains: tuple[float, ...]) -> bool:
    """The policy of the drift loop."""
    policy, unseen = timeline.settings.drift, timeline.batches[trained_on:number]
    concept, new_share = None, 0.0
    if unseen:
        new_share = _new_share(timeline, trained_on, number)
        concept = _concept(timeline, trained_on, number)
    drift = _drift(timeline, trained_on, number)
    decision = decide(Findings(drift, concept, None, _PROMISE_KEPT), History(new_share=new_share, gains=gains), policy)
    print(f"batch {number}, champion of {trained_on}: {decision.state}. {' '.join(decision.reasons)}", flush=True)
    return decision.state == "retrain"


def _new_share(timeline: Timeline, trained_on: int, number: int) -> float:
    return sum(map(len, timeline.batches[trained_on:number])) / sum(map(len, timeline.batches[:trained_on]))


def _concept(timeline: Timeline, trained_on: int, number: int) -> ConceptDrift:
    """Check the champion as the loop does when a batch arrives."""
    champion, unseen = timeline.champion(trained_on), timeline.batches[trained_on:number]
    labelled = pd.concat(unseen, ignore_index=True)
    return detect_concept_drift(
        _label(labelled),
        champion.fitted.risks(labelled),
        labelled["patient_id"].to_numpy(),
        champion.promoted,
        timeline.settings.drift,
        batch=np.repeat(np.arange(len(unseen)), [len(batch) for batch in unseen]),
        # A shadow that is fitted on what the champion was fitted on equals it.
        shadow_gains=[timeline.gain(i, trained_on, timeline.batches[i]) for i in range(trained_on + 1, number)],
    )


def data_set_flag(timeline: Timeline, trained_on: int, number: int, gains: tuple[float, ...]) -> bool:
    """Evidently's rule with its defaults: distances of at least .1 in half of the features."""
    data = _drift(timeline, trained_on, number)
    default = (Method.WASSERSTEIN, Method.JENSEN_SHANNON)
    far = {column.column for column in data.columns if column.method in default and column.score >= 0.1}
    return len(far) >= 0.5 * len(data.features)


def _drift(timeline: Timeline, trained_on: int, number: int) -> DataDrift:
    champion, batch = timeline.champion(trained_on), timeline.batches[number]
    return detect_data_drift(champion.profile, batch, champion.fitted.risks(batch))


RULES: dict[str, Rule] = {
    "ours": ours,
    "new outcomes reach 25 %": lambda timeline, trained_on, number, _: _new_share(timeline, trained_on, number) >= 0.25,
    "every batch": lambda *_: True,
    "every second batch": lambda timeline, trained_on, number, gains: number % 2 == 0,
    "data set flag (Evidently)": data_set_flag,
    "never": lambda *_: False,
}


def follow(timeline: Timeline, rule: Rule) -> dict[str, Any]:
    """Let a rule decide at each batch, and predict the batch afterwards: with the retrained model if the rule retrains."""
    trained_on, previous = 1, None
    aurocs, retrained, gains = [], [], list[float]()
    for number in range(1, len(timeline.batches)):
        if previous is not None and number > trained_on and len(gains) < len(retrained):
            gains.append(timeline.gain(trained_on, previous, timeline.batches[trained_on]).value)
        if number > trained_on and rule(timeline, trained_on, number, tuple(gains)):
            retrained.append(number)
            trained_on, previous = number, trained_on
        aurocs.append(timeline.auroc(trained_on, timeline.batches[number]))
    return {"retrained_at": retrained, "retrainings": len(retrained), "auroc": aurocs, "gains": gains}


def recognised(timeline: Timeline) -> dict[str, Any]:
    """Check the first model at each batch. Returns: the evidence that it is behind, and the first batch where that is enough."""
    evidence = {number: _concept(timeline, 1, number) for number in range(2, len(timeline.batches))}
    first = next((number for number, found in evidence.items() if found.drifted), None)
    e_values = {number: found.behind.e_value if found.behind else None for number, found in evidence.items()}
    return {"at_batch": first, "e_value": e_values}


def measure_policy(real: Timeline, no_drift: Timeline, settings: Settings) -> tuple[dict[str, Any], list[Target]]:
    found = {name: follow(real, rule) for name, rule in RULES.items()}
    never = np.mean(found["never"]["auroc"])
    for of in found.values():
        of["mean_auroc"] = float(np.mean(of["auroc"]))
        of["gain"] = of["mean_auroc"] - float(never)
        of["share_of_gain"] = of["gain"] / (float(np.mean(found["every batch"]["auroc"])) - float(never))
    # More outcomes improve a model even without drift, so retraining without drift is no false alarm.
    without_drift = {name: follow(no_drift, RULES[name]) for name in ("ours", "never")}
    for of in without_drift.values():
        of["mean_auroc"] = float(np.mean(of["auroc"]))
    behind = recognised(real)
    most = (found["every batch"]["retrainings"] + 1) // 2
    return {"real": found, "without drift": without_drift, "first model recognised as behind": behind}, [
        at_least("share of the gain of retraining at every batch", found["ours"]["share_of_gain"], 0.95),
        at_most("retrainings in ten batches", found["ours"]["retrainings"], most),
        at_most("batch at which the first model is recognised as behind", behind["at_batch"] or len(real.batches), 4),
    ]


def measure_estimate(real: Timeline) -> tuple[dict[str, Any], list[Target]]:
    """Compare the AUROC estimated from the risks alone with the true one, for our champions and for the first model."""
    numbers = range(1, len(real.batches))
    retrained = follow(real, ours)["retrained_at"]
    found = {}
    for name, of in {
        "champion": [max([1, *(at for at in retrained if at <= number)]) for number in numbers],
        "first model": [1] * len(numbers),
    }.items():
        models = [real.champion(trained_on) for trained_on in of]
        batches = [real.batches[number] for number in numbers]
        expected = [expected_auroc(m.fitted.risks(batch)) for m, batch in zip(models, batches, strict=True)]
        measured = [real.auroc(trained_on, batch) for trained_on, batch in zip(of, batches, strict=True)]
        at_promotion = [champion.promoted.auroc.value for champion in models]
        found[name] = {
            "expected": expected,
            "shown": measured,
            "mean_absolute_error": float(np.abs(np.subtract(expected, measured)).mean()),
            "mean_absolute_error_of_promotion": float(np.abs(np.subtract(at_promotion, measured)).mean()),
        }
    return found, [
        at_most("AUROC before outcomes, mean absolute error", found["champion"]["mean_absolute_error"], 0.02)
    ]


def _label(labelled: pd.DataFrame) -> NDArray[np.bool_]:
    return labelled[LABEL].to_numpy(dtype=np.bool_)
