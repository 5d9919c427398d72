"""Count the alarms that people get, on the real batches and without drift, and how often they point to something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.drift_policy import Champion, Timeline, follow, ours
from benchmarks.drift_population import FAMILY
from benchmarks.results import Target, at_least, at_most
from healthpredict.features.frame import encode_frame
from healthpredict.monitoring.alarms import Alarm
from healthpredict.monitoring.changes import changes_since, column_alarms
from healthpredict.monitoring.contributions import Contribution, column_contributions, sample
from healthpredict.monitoring.data_drift import BatchCounts, count_batch
from healthpredict.operations.dataset import LABEL
from healthpredict.training.explain import explainer_of

_OFFSET, _GAIN = 0.01, 0.005
"""An alarm points to something if the risks of the batch are off by this, or if a shadow gains this much AUROC."""


def measure_alarms(real: Timeline, without_drift: list[Timeline]) -> tuple[dict[str, Any], list[Target]]:
    """Raise alarms as the loop does, except for those of subgroups.

    Args:
        real: the real batches.
        without_drift: the same encounters with patients in random order, monitored by the first model.
    """
    retrained = follow(real, ours)["retrained_at"]
    numbers = range(1, len(real.batches))
    # A batch is checked before the retraining that it leads to.
    at_check = [max([1, *(at for at in retrained if at < number)]) for number in numbers]
    champion = list(_alarms(real, at_check))
    first_model = list(_alarms(real, [1] * len(numbers)))
    batches = {
        str(number): {
            "champion of": trained_on,
            "alarms": [alarm.sentence for alarm in alarms],
            "offset": offset,
            "shadow_gain": real.gain(number, trained_on, real.batches[number]).value if number > trained_on else 0.0,
        }
        for number, trained_on, alarms, offset in zip(
            numbers, at_check, champion, _offsets(real, at_check), strict=True
        )
    }
    quiet = [bool(alarms) for timeline in without_drift for alarms in _alarms(timeline, [1] * len(numbers))]
    matters = [abs(b["offset"]) >= _OFFSET or b["shadow_gain"] >= _GAIN for b in batches.values()]
    raised = [bool(alarms) for alarms in champion]
    measured = {
        "batches": batches,
        "batches_with_alarm": sum(raised),
        "columns": sum(map(len, champion)),
        "columns_for_the_first_model": sum(map(len, first_model)),
        "precision": float(np.mean([m for m, r in zip(matters, raised, strict=True) if r])) if any(raised) else None,
        "share_of_batches_that_matter": float(np.mean(matters)),
        "batches_without_drift": len(quiet),
        "without_drift_and_alarm": 1 - float(np.mean(quiet)),
    }
    return measured, [
        at_most("batches with an alarm, of ten", measured["batches_with_alarm"], 6),
        at_most("columns with an alarm, in ten batches", measured["columns"], 10),
        at_least("batches without drift that raise no alarm", measured["without_drift_and_alarm"], 0.95),
    ]


def _alarms(timeline: Timeline, at_check: list[int]) -> Iterator[tuple[Alarm, ...]]:
    """Yield the alarms of each batch after the initial data, with the champion that was trained on so many batches."""
    jumps: list[dict[str, float]] = []
    for number, trained_on in enumerate(at_check, start=1):
        champion = timeline.champion(trained_on)
        before, now = (_counts_and_contributions(champion, timeline.batches[i]) for i in (number - 1, number))
        changes = changes_since(before, now, champion.profile)
        yield column_alarms(changes, jumps, timeline.settings.drift)
        jumps.append({name: change.jump.size for name, change in changes.items()})


def _counts_and_contributions(champion: Champion, batch: pd.DataFrame) -> tuple[BatchCounts, dict[str, Contribution]]:
    fitted = champion.fitted
    features = encode_frame(fitted.encoder, sample(batch))
    explainer = explainer_of(FAMILY, fitted.model, features)
    slope = fitted.calibrator.slope
    contributions = column_contributions(explainer, slope, fitted.encoder.feature_names, features)
    return count_batch(champion.profile, batch, fitted.risks(batch)), contributions


def _offsets(timeline: Timeline, at_check: list[int]) -> Iterator[float]:
    for batch, trained_on in zip(timeline.batches[1:], at_check, strict=True):
        risk = timeline.champion(trained_on).fitted.risks(batch)
        yield float(risk.mean() - batch[LABEL].mean())
