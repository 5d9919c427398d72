"""What changed since the batch before, and the alarms about changes that matter.

A column that merely still differs from the training data raises no alarm. It is listed in the table of drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

from healthpredict.monitoring.alarms import Alarm
from healthpredict.monitoring.contributions import Contribution
from healthpredict.monitoring.data_drift import BatchCounts, ColumnDrift, DataDrift, compare, count_values, severest
from healthpredict.monitoring.distances import MISSING, OTHER, SMALLEST_SPREAD, Method
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import NUMBERS, ReferenceProfile
from healthpredict.monitoring.words import describe, name_of


class Jump(BaseModel):
    """How far a column is from the batch before, by the distance that exceeds its limit most.

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
        contribution: mean contribution to the log-odds; None if the champion cannot be explained.
        contribution_change: its difference from the batch before; None if the champion cannot be explained.
    """

    model_config = ConfigDict(frozen=True)

    distribution: Jump
    relation: Jump | None
    unknown_rise: float
    contribution: Contribution | None = None
    contribution_change: Contribution | None

    @property
    def jump(self) -> Jump:
        """The larger of the two jumps."""
        return self.relation if self.relation and self.relation.size > self.distribution.size else self.distribution


def changes_since(
    before: tuple[BatchCounts, Mapping[str, Contribution]],
    now: tuple[BatchCounts, Mapping[str, Contribution]],
    profile: ReferenceProfile,
) -> dict[str, Change]:
    """Return the change of each feature between two batches.

    Args:
        before: counts of the batch before, and its contributions by column, which are empty if unknown.
        now: the same of the newer batch.
        profile: of the reference.
    """
    (counts_before, contributions_before), (counts_now, contributions_now) = before, now
    drift = compare(profile, counts_now, counts_before)
    distributions = severest(_single_columns(profile, drift, counts_before))
    relations = severest(drift.joint)
    return {
        name: Change(
            distribution=_jump(distributions[name]),
            relation=_jump(relations[name]) if name in relations else None,
            unknown_rise=_unknown_share(profile, name, counts_now) - _unknown_share(profile, name, counts_before),
            contribution=contributions_now.get(name),
            contribution_change=_difference(contributions_before.get(name), contributions_now.get(name)),
        )
        for name in drift.features
    }


def _single_columns(profile: ReferenceProfile, drift: DataDrift, before: BatchCounts) -> Iterator[ColumnDrift]:
    """Yield the drift of single columns, with limits that fewer than `min_changed_rows` changed rows cannot reach."""
    rows = min(before.rows, drift.rows)
    for column in drift.columns:
        if column.method is not Method.WASSERSTEIN:
            least = profile.least_distance(column.method, rows)
        elif set(profile.columns[column.column].limits) == {Method.WASSERSTEIN}:
            least = _least_wasserstein(profile, before.occurrences[column.column], rows)
        else:
            # It is divided by the spread of the batch before, which one odd batch can make tiny. The column has another method.
            continue
        yield column.model_copy(update={"threshold": max(column.threshold, least)})


def _least_wasserstein(profile: ReferenceProfile, before: Mapping[float, int], rows: int) -> float:
    """Return the Wasserstein distance from the batch before if `min_changed_rows` of its rows change by 1."""
    spread = np.repeat(list(before), list(before.values())).std()
    return min(profile.min_changed_rows / rows, 1.0) / max(float(spread), SMALLEST_SPREAD)


def _jump(column: ColumnDrift) -> Jump:
    return Jump(size=column.severity, description=describe(column), partner=column.partner)


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
    # By chance, any column exceeds this many standard errors with the probability `false_alarm_rate` (Bonferroni).
    n_errors = float(stats.norm.isf(policy.false_alarm_rate / 2 / max(1, len(changes))))

    def influence(column: str) -> float:
        change = changes[column].contribution_change
        return abs(change.mean) if change else 0.0

    found = []
    named_pairs = set[frozenset[str]]()
    for column in sorted(changes, key=influence, reverse=True):
        change = changes[column]
        earlier = [jumps[column] for jumps in earlier_jumps if column in jumps]
        sentences = [
            *_about_contribution(column, change, n_errors, policy),
            *_about_unknown_values(column, change, policy),
        ]
        pair = frozenset((column, change.jump.partner or column))
        # A relation has two sides. One alarm is enough.
        if (jumped := _about_jump(change.jump, earlier, policy)) and (sentences or pair not in named_pairs):
            sentences.append(jumped)
            named_pairs.add(pair)
        if sentences:
            found.append(Alarm(about=column, sentence=" ".join(sentences)))
    return tuple(found)


def _about_contribution(column: str, change: Change, n_errors: float, policy: DriftPolicy) -> Iterator[str]:
    now, shift = change.contribution, change.contribution_change
    # A feature of several columns counts for each of them. Skip a column whose own distribution changed no more than by chance.
    if now is None or shift is None or change.distribution.size < 1:
        return
    if abs(shift.mean) < max(policy.min_contribution_change, n_errors * shift.error):
        return
    before, size = now.mean - shift.mean, f"{abs(shift.mean):.3f} in log-odds on average"
    if now.mean * before < 0:
        both = "raises the risks, but lowered them" if now.mean > 0 else "lowers the risks, but raised them"
        yield f"{_as_subject(column)} {both} in the batch before; the difference is {size}."
    else:
        raises = "raises" if now.mean + before > 0 else "lowers"
        more = "more" if abs(now.mean) > abs(before) else "less"
        yield f"{_as_subject(column)} {raises} the risks {more} than in the batch before, by {size}."


def _about_unknown_values(column: str, change: Change, policy: DriftPolicy) -> Iterator[str]:
    if change.unknown_rise >= policy.max_unknown_rise:
        more = f"in {100 * change.unknown_rise:.0f} more of 100 encounters than in the batch before"
        yield f"{_as_subject(column)} is missing or unknown {more}."


def _about_jump(jump: Jump, earlier: list[float], policy: DriftPolicy) -> str | None:
    if len(earlier) < policy.min_earlier_jumps:
        return None
    spread = float(stats.median_abs_deviation(earlier, scale="normal"))
    limit = max(policy.min_jump, float(np.median(earlier)) + policy.jump_deviations * spread)
    if jump.size < limit:
        return None
    what = "A relation" if jump.partner else "A distribution"
    size = f"{jump.size:.1f} times what chance explains (an alarm begins at {limit:.1f})"
    return f"{what} has changed since the batch before, by {size}: {jump.description}."


def _as_subject(column: str) -> str:
    name = name_of(column)
    return name[0].upper() + name[1:]
