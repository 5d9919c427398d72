"""Alarms for people: what changed since the batch before and matters, and groups of patients that are served worse.

A column that merely still differs from the training data raises no alarm. It is listed in the table of drift.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from healthpredict.monitoring.contributions import Contribution
from healthpredict.monitoring.data_drift import BatchCounts, ColumnDrift, compare, count_values, severest
from healthpredict.monitoring.distances import MISSING, OTHER, Method
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import NUMBERS, ReferenceProfile
from healthpredict.monitoring.words import describe, name_of


class Alarm(BaseModel):
    """Something that a person should look at, and can acknowledge.

    Attributes:
        about: the field name of a column, or a group of patients with its problem, such as `age [90-100): sensitivity`.
        sentence: what happened.
        lasts: whether it is a state (of a group) that every check finds again. Otherwise, it is a change.
    """

    model_config = ConfigDict(frozen=True)

    about: str
    sentence: str
    lasts: bool = False


class OpenAlarm(Alarm):
    """An alarm that nobody has acknowledged.

    Attributes:
        first_batch: the batch that raised it; for a state, the first one.
        newest_batch: the same batch; for a state, the newest one, which `sentence` is about.
        trained_version: the model that was in service, see `Manifest.trained_version`.
    """

    first_batch: str
    newest_batch: str
    trained_version: int

    @property
    def command(self) -> str:
        """The command that acknowledges it."""
        return f'healthpredict acknowledge {shlex.quote(self.about)} {shlex.quote(self.newest_batch)} --because "..."'


class Jump(BaseModel):
    """How far a column is from the batch before, at the distance that changed most.

    Attributes:
        size: the distance in units of its limit. Chance explains up to 1.
        description: what changed, for people.
        partner: for a relation between two columns, the other column; otherwise None.
    """

    model_config = ConfigDict(frozen=True)

    size: float
    description: str
    partner: str | None


class Change(BaseModel):
    """How one column differs from the batch before.

    Attributes:
        distribution: of its values.
        relation: of the column with others.
        unknown_rise: rise of the share (0-1) of values that are missing, or rare or unseen in the training data.
        contribution_change: difference of its mean contributions to the log-odds; None if the champion cannot be explained.
    """

    model_config = ConfigDict(frozen=True)

    distribution: Jump
    relation: Jump | None
    unknown_rise: float
    contribution_change: Contribution | None

    @property
    def jump(self) -> Jump:
        """The larger of both jumps."""
        return self.relation if self.relation and self.relation.size > self.distribution.size else self.distribution


def changes_since(
    before: tuple[BatchCounts, Mapping[str, Contribution]],
    now: tuple[BatchCounts, Mapping[str, Contribution]],
    profile: ReferenceProfile,
) -> dict[str, Change]:
    """Return the change of each feature between two batches.

    Args:
        before: counts of the batch before, and its contributions by column; these are empty if they are unknown.
        now: the same of the newer batch.
        profile: of the reference.
    """
    (counts_before, contributions_before), (counts_now, contributions_now) = before, now
    drift = compare(profile, counts_now, counts_before)
    # The Wasserstein distance is in units of the spread of the batch before, which one odd batch can make tiny.
    distributions = severest(column for column in drift.columns if column.method is not Method.WASSERSTEIN)
    relations = severest(drift.joint)
    # In a column of numbers that hardly vary, a single row would be a large jump.
    least = min(profile.min_changed_rows / counts_now.rows, 1.0)
    return {
        name: Change(
            distribution=_jump(distributions[name], least if name in NUMBERS else 0.0),
            relation=_jump(relations[name]) if name in relations else None,
            unknown_rise=_unknown_share(profile, name, counts_now) - _unknown_share(profile, name, counts_before),
            contribution_change=_difference(contributions_before.get(name), contributions_now.get(name)),
        )
        for name in drift.features
    }


def _jump(column: ColumnDrift, least_threshold: float = 0.0) -> Jump:
    size = column.score / max(column.threshold, least_threshold)
    return Jump(size=size, description=describe(column), partner=column.partner)


def _unknown_share(profile: ReferenceProfile, name: str, batch: BatchCounts) -> float:
    if name in NUMBERS:
        return 0.0
    values, _, counts = count_values(profile, name, batch.occurrences[name])
    return float(counts[np.isin(values, (MISSING, OTHER))].sum() / counts.sum())


def _difference(before: Contribution | None, now: Contribution | None) -> Contribution | None:
    if before is None or now is None:
        return None
    return Contribution(mean=now.mean - before.mean, error=float(np.hypot(now.error, before.error)))


def column_alarms(
    changes: Mapping[str, Change], earlier_jumps: Sequence[Mapping[str, float]], policy: DriftPolicy
) -> tuple[Alarm, ...]:
    """Return an alarm for each column whose change is new and matters, the columns that move the predictions most first.

    Args:
        changes: since the batch before.
        earlier_jumps: column -> size of its jump, of each earlier batch.
        policy: limits.
    """
    # So many standard errors that, in 95 of 100 batches, no column exceeds them by chance (Bonferroni).
    n_errors = float(stats.norm.isf(policy.false_alarm_rate / 2 / max(1, len(changes))))

    def influence(column: str) -> float:
        change = changes[column].contribution_change
        return abs(change.mean) if change else 0.0

    found: dict[str, Alarm] = {}
    for column in sorted(changes, key=influence, reverse=True):
        earlier = [jumps[column] for jumps in earlier_jumps if column in jumps]
        sentences = [
            *_about_contribution(column, changes[column], n_errors, policy),
            *_about_unknown_values(column, changes[column], policy),
        ]
        # A relation has two sides. One alarm is enough.
        if changes[column].jump.partner not in found or sentences:
            sentences += _about_jump(changes[column].jump, earlier, policy)
        if sentences:
            found[column] = Alarm(about=column, sentence=" ".join(sentences))
    return tuple(found.values())


def _about_contribution(column: str, change: Change, n_errors: float, policy: DriftPolicy) -> Iterator[str]:
    shift = change.contribution_change
    # Features of several columns count for each of them. A column that did not change itself is not the cause.
    if shift is None or change.distribution.size < 1:
        return
    if abs(shift.mean) >= max(policy.min_contribution_change, n_errors * shift.error):
        risks = "raises the risks more" if shift.mean > 0 else "raises the risks less, or lowers them more,"
        yield (
            f"{name_of(column).capitalize()} {risks} than in the batch before: by {abs(shift.mean):.3f} in log-odds on average."
        )


def _about_unknown_values(column: str, change: Change, policy: DriftPolicy) -> Iterator[str]:
    if change.unknown_rise >= policy.max_unknown_rise:
        more = f"in {100 * change.unknown_rise:.0f} more of 100 encounters than in the batch before"
        yield f"{name_of(column).capitalize()} is missing or unknown {more}."


def _about_jump(jump: Jump, earlier: list[float], policy: DriftPolicy) -> Iterator[str]:
    if len(earlier) < policy.min_earlier_jumps:
        return
    spread = float(stats.median_abs_deviation(earlier, scale="normal"))
    usual = float(np.median(earlier)) + policy.jump_deviations * spread
    if jump.size >= max(policy.min_jump, usual):
        what = "A relation" if jump.partner else "A distribution"
        size = f"{jump.size:.1f} times what chance explains (usually up to {usual:.1f})"
        yield f"{what} has changed since the batch before, by {size}: {jump.description}."
