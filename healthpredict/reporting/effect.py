"""What the flags prevented, in sentences for people."""

from __future__ import annotations

from collections.abc import Iterator

from healthpredict.evaluation.effect import Discontinuity, ThresholdComparison, TooFewEncounters, WeightedDifference
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.untreated import Overlap
from healthpredict.reporting.summary import KindEffect, MeasuredEffect, Summary


def effect_sentences(summary: Summary) -> tuple[str, ...]:
    """Describe what was done for flagged patients and what it prevented, or why this cannot be known.

    Returns:
        One sentence on what was done, two on the benefit, and one for each kind of intervention; empty if no interventions were
        reported in batches with known outcomes.
    """
    return describe_effect(summary.overlap, summary.effect)


def describe_effect(overlap: Overlap | None, effect: MeasuredEffect | None) -> tuple[str, ...]:
    """Return the same from `Summary.overlap` and `Summary.effect`."""
    if overlap is None:
        return () if effect is None else ("No intervention was accepted, so there is no effect to measure.",)
    found = [_overlap(overlap)]
    if effect is not None:
        found += [*_benefit(effect), *(_kind(*each) for each in effect.kinds.items())]
    return tuple(found)


def _overlap(overlap: Overlap) -> str:
    known = "" if not overlap.unknown else f"; of {overlap.unknown:,}, it is not known what was done"
    return (
        f"Of {overlap.flagged:,} flagged encounters, {overlap.treated:,} had an accepted intervention{known}. Those without "
        f"an intervention are as informative as {overlap.effective:,.0f} encounters of equal weight."
    )


def _benefit(effect: MeasuredEffect) -> Iterator[str]:
    match effect.weighted:
        case WeightedDifference(prevented=prevented):
            yield (
                f"Per 100 flags, {_per_100(prevented)} readmissions are prevented, as a comparison of flagged patients with and "
                "without intervention shows."
            )
        case TooFewEncounters(reason=reason):
            yield f"A comparison of flagged patients with and without intervention is not possible: {reason}."
        case None if effect.problem is not None:
            yield effect.problem
    match effect.discontinuity:
        case TooFewEncounters(reason=reason):
            yield f"Patients just above and just below the threshold cannot be compared: {reason}."
        case Discontinuity(prevented=prevented):
            yield _at_threshold(prevented, effect.comparison)
    match effect.hold_out:
        case WeightedDifference(prevented=prevented, n_flagged=n_flagged):
            yield (
                f"Among the {n_flagged:,} flags that could be held back at random, {_per_100(prevented)} readmissions per 100 "
                "flags are prevented."
            )
        case TooFewEncounters(reason=reason):
            yield f"The hold-out does not tell yet: {reason}."


def _at_threshold(prevented: Interval, found: ThresholdComparison | None) -> str:
    if found is None:
        return (
            f"At the threshold, {_per_100(prevented)} readmissions per 100 flags are prevented, as a comparison of patients just "
            "above and just below it shows."
        )
    if found.agree:
        verdict = "they agree within chance"
    else:
        verdict = (
            f"they differ by {_per_100(found.difference)}, so something that was not recorded may decide who gets an intervention, "
            "and the comparison is not reliable"
        )
    return (
        f"At the threshold, it is {_per_100(found.discontinuity)} by the discontinuity and {_per_100(found.weighted)} by the "
        f"comparison: {verdict}."
    )


def _kind(name: str, effect: KindEffect) -> str:
    return (
        f"Per 100 accepted interventions of the kind {name} ({effect.accepted:,} flagged encounters had it and no other), "
        f"{_per_100(effect.prevented)} readmissions are prevented."
    )


def _per_100(share: Interval) -> str:
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
