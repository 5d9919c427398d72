"""Measure what the flags prevented: the effect of the model on what it predicts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.errors import RegistryError
from healthpredict.evaluation.effect import (
    Discontinuity,
    TooFewEncounters,
    WeightedDifference,
    compare_at_threshold,
    hold_out_difference,
    regression_discontinuity,
    weighted_difference,
)
from healthpredict.evaluation.interval import Floats
from healthpredict.evaluation.threshold_plot import plot_around_threshold
from healthpredict.evaluation.untreated import Treatment, UntreatedOutcomes, untreated_outcomes
from healthpredict.operations.dataset import LABEL
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import Labelled
from healthpredict.operations.treatment import explaining_variables
from healthpredict.reporting.summary import KindEffect, MeasuredEffect

_FEWEST_ACCEPTED: Final = 200
"""Flagged encounters with a kind of intervention and no other. With fewer, an interval is too wide to be of use."""
_KINDS: Final = "accepted_kinds"


def measure_effect(installation: Installation, matured: Labelled) -> MeasuredEffect | None:
    """Estimate the readmissions prevented per flag, from all batches with reported interventions and known outcomes.

    Leaves out encounters in silence, and those that were predicted by a version that was deleted, because its threshold is unknown.

    Args:
        installation: where the models are.
        matured: all batches that have matured.

    Returns:
        The estimates, or None if there are no such batches.
    """
    with_flags = [(p, served) for p, served in zip(matured.parts, matured.served, strict=True) if served is not None]
    if not with_flags:
        return None
    encounters = pd.concat([part for part, _ in with_flags], ignore_index=True)
    batches = [served for _, served in with_flags]
    risk = np.concatenate([batch.risk for batch in batches])
    margin = risk - _thresholds(installation, pd.concat([batch.version for batch in batches], ignore_index=True))
    silent = np.concatenate([batch.silent for batch in batches])
    kinds = pd.concat([batch.accepted_kinds for batch in batches], ignore_index=True)
    all_flags = _Flags(
        encounters=encounters.assign(**{_KINDS: kinds}),
        treatment=Treatment.joined([batch.treatment for batch in batches]),
        risk=risk,
        margin=margin,
    ).take(~np.isnan(margin) & ~silent)
    issued = all_flags.without_hold_out()
    discontinuity = regression_discontinuity(issued.readmitted, issued.margin_by_flag, issued.patient_id)
    without = issued.estimate()
    weighted, comparison, plot = None, None, None
    if without.problem is None:
        weighted = weighted_difference(issued.readmitted, issued.treatment.flagged, without.outcome, issued.patient_id)
    if isinstance(discontinuity, Discontinuity):
        plot = plot_around_threshold(discontinuity, issued.readmitted, issued.margin_by_flag, issued.patient_id)
        if isinstance(weighted, WeightedDifference):
            comparison = compare_at_threshold(
                discontinuity, issued.readmitted, issued.margin_by_flag, without.outcome, issued.patient_id
            )
    return MeasuredEffect(
        discontinuity=discontinuity,
        weighted=weighted,
        problem=without.problem,
        comparison=comparison,
        plot=plot,
        hold_out=_of_hold_out(all_flags),
        kinds=_by_kind(issued),
    )


@dataclass(frozen=True)
class _Flags:
    """Encounters, with the kinds of their accepted interventions, and what was done in them, all of shape (n_encounters, ...)."""

    encounters: pd.DataFrame
    treatment: Treatment
    risk: Floats
    margin: Floats

    @property
    def readmitted(self) -> NDArray[np.bool_]:
        return self.encounters[LABEL].to_numpy(dtype=np.bool_)

    @property
    def patient_id(self) -> NDArray[np.int64]:
        return self.encounters["patient_id"].to_numpy(dtype=np.int64)

    @property
    def margin_by_flag(self) -> Floats:
        """The margin, moved to the side of its flag: served risks are rounded, and flags follow from unrounded ones."""
        flagged = self.treatment.flagged
        return np.where(flagged, np.maximum(self.margin, 0), np.minimum(self.margin, -np.finfo(float).eps))

    def take(self, rows: NDArray[np.bool_]) -> _Flags:
        encounters = self.encounters[rows].reset_index(drop=True)
        return _Flags(encounters, self.treatment.take(rows), self.risk[rows], self.margin[rows])

    def without_hold_out(self) -> _Flags:
        """Leave out the flags that were held back. Of those that were issued, none was to be held back."""
        issued = self.take(~self.treatment.held_back)
        zeros = np.zeros(len(issued.risk))
        return replace(issued, treatment=replace(issued.treatment, hold_out_probability=zeros))

    def estimate(self) -> UntreatedOutcomes:
        variables = explaining_variables(self.encounters, self.risk)
        return untreated_outcomes(self.readmitted, self.treatment, variables, self.patient_id)


def _thresholds(installation: Installation, versions: pd.Series[int]) -> Floats:
    """The threshold of the version that predicted each encounter, NaN if it is unknown, shape (n_encounters,)."""
    registry, thresholds = installation.registry, {}
    for version in versions.dropna().unique():
        try:
            thresholds[version] = registry.fetch_bundle(registry.version(int(version))).manifest.threshold
        except RegistryError:
            thresholds[version] = np.nan
    return versions.map(thresholds).to_numpy(dtype=np.float64)


def _of_hold_out(flags: _Flags) -> WeightedDifference | TooFewEncounters | None:
    within = flags.treatment.flagged & (flags.treatment.hold_out_probability > 0)
    if not within.any():
        return None
    could = flags.take(within)
    return hold_out_difference(
        could.readmitted, could.treatment.held_back, could.treatment.hold_out_probability, could.patient_id
    )


def _by_kind(flags: _Flags) -> dict[str, KindEffect]:
    """Compare the patients with each kind of intervention, and no other, with those without any."""
    kinds, found = flags.encounters[_KINDS], {}
    for kind in sorted(set().union(*kinds.dropna())):
        only = (kinds == frozenset([kind])).to_numpy(dtype=np.bool_) & flags.treatment.treated
        if only.sum() < _FEWEST_ACCEPTED:
            continue
        compared = flags.take(only | flags.treatment.untreated)
        without, treatment = compared.estimate(), compared.treatment
        if without.problem is not None:
            continue
        effect = weighted_difference(
            compared.readmitted, treatment.flagged, without.outcome, compared.patient_id, treatment.treated
        )
        if isinstance(effect, WeightedDifference):
            found[str(kind)] = KindEffect(accepted=int(only.sum()), prevented=effect.prevented)
    return found
