"""What the flags prevented, in sentences for people."""

from __future__ import annotations

from collections.abc import Iterator

from healthpredict.evaluation.effect import Discontinuity, ThresholdComparison, TooFewEncounters, WeightedDifference
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.untreated import CANNOT_BE_KNOWN, Overlap
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
    # An intervention can also be accepted for a patient without a flag.
    known = (
        "is known of all flagged ones" if not overlap.unknown else f"is not known of {overlap.unknown:,} flagged ones"
    )
    return (
        f"{overlap.flagged:,} encounters were flagged, and an intervention was accepted in {overlap.treated:,}; what was done "
        f"{known}, and those without an intervention count as {overlap.effective:,.0f} encounters of equal weight."
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
        case None:
            yield CANNOT_BE_KNOWN
    match effect.discontinuity:
        case TooFewEncounters(reason=reason):
            yield f"Patients just above and just below the threshold cannot be compared: {reason}."
        case Discontinuity(prevented=prevented) if effect.comparison is None:
            yield f"At the threshold, {_per_100(prevented)} readmissions per 100 flags are prevented, by the discontinuity."
        case Discontinuity():
            assert effect.comparison is not None
            yield _at_threshold(effect.comparison)


def _at_threshold(found: ThresholdComparison) -> str:
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
        f"Per 100 accepted interventions of the kind {name} ({effect.accepted:,} were accepted for flagged patients), "
        f"{_per_100(effect.prevented)} readmissions are prevented."
    )


def _per_100(share: Interval) -> str:
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
