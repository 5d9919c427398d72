"""Measure what the flags prevented: the effect of the model on what it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.evaluation.effect import (
    Discontinuity,
    WeightedDifference,
    compare_at_threshold,
    plot_around_threshold,
    regression_discontinuity,
    weighted_difference,
)
from healthpredict.evaluation.interval import Floats, Interval
from healthpredict.evaluation.untreated import Treatment, untreated_outcomes
from healthpredict.operations.dataset import LABEL, has_matured
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import batch_events
from healthpredict.operations.read_labelled import UNTREATED, read_labelled
from healthpredict.operations.treatment import explaining_variables, has_interventions, joined, read_treatment
from healthpredict.reporting.summary import KindEffect, MeasuredEffect
from healthpredict.storage.tables import read_frame

_FEWEST_ACCEPTED: Final = 200
"""Of a kind of intervention."""


def measure_effect(installation: Installation) -> MeasuredEffect | None:
    """Estimate the readmissions prevented per flag, from all batches with reported interventions and known outcomes.

    Flags that were held back at random are left out.

    Returns:
        The estimates, or None without such batches.

    Raises:
        RegistryError: MLflow failed.
        StorageError: something cannot be read.
    """
    layout = installation.layout
    names = [
        name for name in batch_events(installation) if has_interventions(layout, name) and has_matured(layout, name)
    ]
    if not names:
        return None
    labelled = read_labelled(installation, names)
    encounters = labelled.frame
    treatment, risk = _read_treatments(installation, names, labelled.parts)
    margin = risk - _thresholds(installation, names, encounters)
    # A flag follows from the risk before it is rounded.
    margin = np.where(treatment.flagged, np.maximum(margin, 0), np.minimum(margin, -np.finfo(float).eps))
    compared = ~treatment.held_back
    readmitted, without, patient_id = (
        encounters[column].to_numpy(dtype=kind)[compared]
        for column, kind in ((LABEL, np.bool_), (UNTREATED, np.float64), ("patient_id", np.int64))
    )
    margin = margin[compared]
    discontinuity = regression_discontinuity(readmitted, margin, patient_id)
    known = not np.isnan(without).any()
    weighted = weighted_difference(readmitted, margin, without, patient_id) if known else None
    comparison, plot = None, None
    if isinstance(discontinuity, Discontinuity):
        plot = plot_around_threshold(discontinuity, readmitted, margin, patient_id)
        if isinstance(weighted, WeightedDifference):
            comparison = compare_at_threshold(discontinuity, readmitted, margin, without, patient_id)
    return MeasuredEffect(
        discontinuity=discontinuity,
        weighted=weighted,
        comparison=comparison,
        plot=plot,
        kinds=_by_kind(installation, names, encounters, treatment, risk),
    )


def _read_treatments(
    installation: Installation, names: Sequence[str], parts: Sequence[pd.DataFrame]
) -> tuple[Treatment, Floats]:
    found = [read_treatment(installation.layout, name, part) for name, part in zip(names, parts, strict=True)]
    return joined([treatment for treatment, _ in found]), np.concatenate([risk for _, risk in found])


def _thresholds(installation: Installation, names: Sequence[str], encounters: pd.DataFrame) -> Floats:
    """The threshold of the version that predicted each encounter, shape (n_encounters,)."""
    registry = installation.registry
    predicted = pd.concat([read_frame(installation.layout.predictions(name)) for name in names])
    versions = predicted.set_index("encounter_id")["model_version"].reindex(encounters["encounter_id"])
    thresholds = {
        version: registry.fetch_bundle(registry.version(int(version))).manifest.threshold
        for version in versions.unique()
    }
    return versions.map(thresholds).to_numpy(dtype=np.float64)


def _by_kind(
    installation: Installation, names: Sequence[str], encounters: pd.DataFrame, treatment: Treatment, risk: Floats
) -> dict[str, KindEffect]:
    """Compare the patients with each kind of intervention, and no other, with those without any."""
    reported = pd.concat([read_frame(installation.layout.known_interventions(name)) for name in names])
    accepted = reported[reported["response"] == "accepted"].groupby("encounter_id")["kind"].agg(set)
    kinds = encounters["encounter_id"].map(accepted)
    found = {}
    for kind in sorted(set().union(*accepted)):
        only = kinds.map(lambda of_encounter, kind=kind: of_encounter == {kind}).to_numpy(dtype=np.bool_)
        rows = (only | treatment.untreated) & ~treatment.held_back
        flagged = rows & treatment.flagged
        if (only & flagged).sum() >= _FEWEST_ACCEPTED:
            effect = _effect_of(encounters[rows], _select(treatment, rows), risk[rows])
            if effect is not None:
                found[str(kind)] = KindEffect(accepted=int((only & flagged).sum()), prevented=effect)
    return found


def _select(treatment: Treatment, rows: NDArray[np.bool_]) -> Treatment:
    return Treatment(**{name: getattr(treatment, name)[rows] for name in Treatment.__dataclass_fields__})


def _effect_of(encounters: pd.DataFrame, treatment: Treatment, risk: Floats) -> Interval | None:
    """Return the readmissions prevented per treated patient who was flagged, or None if they cannot be known."""
    readmitted = encounters[LABEL].to_numpy(dtype=np.bool_)
    patient_id = encounters["patient_id"].to_numpy(dtype=np.int64)
    without = untreated_outcomes(readmitted, treatment, explaining_variables(encounters, risk), patient_id)
    if without.overlap is None or not without.overlap.is_enough:
        return None
    margin = np.where(treatment.flagged, 1.0, -1.0)
    weighted = weighted_difference(readmitted, margin, without.outcome, patient_id)
    if not isinstance(weighted, WeightedDifference):
        return None
    per_treated = weighted.n_flagged / int((treatment.treated & treatment.flagged).sum())
    prevented = weighted.prevented
    return Interval(**{name: getattr(prevented, name) * per_treated for name in Interval.model_fields})
