"""Alarms for people: columns that have changed since the batch before, and matter.

A column that merely still differs from the training data raises no alarm. It is listed in the table of drift.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from healthpredict.monitoring.contributions import Contribution
from healthpredict.monitoring.data_drift import BatchCounts, DataDrift, count_values
from healthpredict.monitoring.distances import MISSING, OTHER
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import NUMBERS, ReferenceProfile
from healthpredict.monitoring.words import name_of


class Alarm(BaseModel):
    """Something that a person should look at, and can acknowledge.

    Attributes:
        about: the field name of a column, or a group of patients such as `age [90-100)`.
        sentence: what happened.
    """

    model_config = ConfigDict(frozen=True)

    about: str
    sentence: str


class OpenAlarm(Alarm):
    """An alarm that nobody has acknowledged.

    Attributes:
        since: the batch that raised it first.
        batch: the batch that raised it last, and that `sentence` is about.
        trained_version: the model that was in service then, see `Manifest.trained_version`.
    """

    since: str
    batch: str
    trained_version: int

    @property
    def command(self) -> str:
        """The command that acknowledges it."""
        return f'healthpredict acknowledge {shlex.quote(self.about)} --because "..."'


class Change(BaseModel):
    """How one column differs from the batch before.

    Attributes:
        jump: the largest of its distances in units of what chance explains: above 1, the column has changed.
        unknown: rise of the share (0-1) of values that are missing, or rare or unseen in the training data.
        contribution: difference of its mean contributions to the log-odds; None if the champion cannot be explained.
    """

    model_config = ConfigDict(frozen=True)

    jump: float
    unknown: float
    contribution: Contribution | None


def changes_since(
    profile: ReferenceProfile,
    drift: DataDrift,
    counts: tuple[BatchCounts, BatchCounts],
    contributions: tuple[Mapping[str, Contribution], Mapping[str, Contribution]],
) -> dict[str, Change]:
    """Return the change of each feature between two batches.

    Args:
        profile: of the reference.
        drift: the newer batch compared with the one before, see `compare`.
        counts: of the batch before, and of the newer batch.
        contributions: by column, of both batches; empty if they are unknown.
    """
    jumps: dict[str, float] = {}
    for column in (*drift.columns, *drift.joint):
        jumps[column.column] = max(jumps.get(column.column, 0.0), column.severity)
    before, after = contributions
    return {
        name: Change(
            jump=jump,
            unknown=_unknown(profile, name, counts[1]) - _unknown(profile, name, counts[0]),
            contribution=_difference(before[name], after[name]) if name in before and name in after else None,
        )
        for name, jump in jumps.items()
    }


def _unknown(profile: ReferenceProfile, name: str, batch: BatchCounts) -> float:
    if name in NUMBERS:
        return 0.0
    values, _, counts = count_values(profile, name, batch.occurrences[name])
    return float(counts[np.isin(values, (MISSING, OTHER))].sum() / counts.sum())


def _difference(before: Contribution, after: Contribution) -> Contribution:
    return Contribution(mean=after.mean - before.mean, error=float(np.hypot(after.error, before.error)))


def column_alarms(
    changes: Mapping[str, Change], earlier_jumps: Sequence[Mapping[str, float]], policy: DriftPolicy
) -> tuple[Alarm, ...]:
    """Return an alarm for each column whose change is new and matters, the columns that move the predictions most first.

    Args:
        changes: since the batch before.
        earlier_jumps: column -> jump, of each earlier batch.
        policy: limits.
    """
    # By chance, no column is beyond this in 95 of 100 batches (Bonferroni).
    errors = float(stats.norm.isf(policy.false_alarm_rate / 2 / max(1, len(changes))))
    moved = sorted(changes.items(), key=lambda item: -abs(item[1].contribution.mean if item[1].contribution else 0))
    found = []
    for column, change in moved:
        jumps = [jumps[column] for jumps in earlier_jumps if column in jumps]
        if sentences := list(_what_is_new(name_of(column), change, jumps, errors, policy)):
            found.append(Alarm(about=column, sentence=" ".join(sentences)))
    return tuple(found)


def _what_is_new(name: str, change: Change, jumps: list[float], errors: float, policy: DriftPolicy) -> Iterator[str]:
    moved = change.contribution
    if moved and abs(moved.mean) >= max(policy.min_contribution_change, errors * moved.error):
        change_of_mean = f"{'risen' if moved.mean > 0 else 'fallen'} by {abs(moved.mean):.3f} on average"
        yield f"Since the batch before, what {name} adds to the log-odds of the risk has {change_of_mean}."
    if change.unknown >= policy.max_unknown_rise:
        yield f"In {100 * change.unknown:.0f} more of 100 encounters than in the batch before, {name} is missing or unknown."
    if len(jumps) >= policy.min_earlier_jumps:
        spread = float(stats.median_abs_deviation(jumps, scale="normal"))
        usual = float(np.median(jumps)) + policy.jump_deviations * spread
        if change.jump >= max(policy.min_jump, usual):
            yield (
                f"Since the batch before, the distribution of {name} has changed by {change.jump:.1f} times what chance explains "
                f"(usually up to {usual:.1f})."
            )
