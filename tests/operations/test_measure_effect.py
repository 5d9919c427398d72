"""The effect of the flags: what counts, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labelled import labelled_encounters

from healthpredict.errors import RegistryError
from healthpredict.evaluation.effect import Discontinuity, TooFewEncounters, WeightedDifference
from healthpredict.evaluation.untreated import Treatment
from healthpredict.operations.dataset import LABEL
from healthpredict.operations.measure_effect import measure_effect
from healthpredict.operations.read_labelled import Labelled
from healthpredict.operations.treatment import ServedBatch
from healthpredict.reporting.summary import MeasuredEffect

THRESHOLD, EFFECT = 0.15, 0.6
ENCOUNTERS = labelled_encounters(12_000, 0)
ROWS = len(ENCOUNTERS)
RNG = np.random.default_rng(0)
RISK = RNG.beta(1.5, 9, ROWS)
HIGH = RISK >= THRESHOLD
NOBODY = np.zeros(ROWS, dtype=bool)
WITHOUT = RNG.random(ROWS) < RISK
"""Outcomes that no flag changed."""
PREVENTABLE = RNG.random(ROWS) < EFFECT


def served(treated: np.ndarray, **changes: Any) -> tuple[ServedBatch, np.ndarray]:
    """A batch in which all interventions were reported, and its outcomes."""
    treatment = Treatment(HIGH, treated & HIGH, ~NOBODY, NOBODY, np.zeros(ROWS))
    batch = ServedBatch(treatment, RISK, pd.Series(np.ones(ROWS, dtype=int)), pd.Series(), NOBODY)
    return replace(batch, **changes), WITHOUT & ~(treated & HIGH & PREVENTABLE)


@pytest.fixture
def measure() -> Callable[..., MeasuredEffect | None]:
    """Measure the effect in an installation with one batch."""

    def version(number: int) -> int:
        if number == 2:
            raise RegistryError("There is no version 2.")
        return number

    def bundle(_: int) -> Any:
        return SimpleNamespace(manifest=SimpleNamespace(threshold=THRESHOLD))

    def run(batch: ServedBatch, readmitted: np.ndarray) -> MeasuredEffect | None:
        part = ENCOUNTERS.assign(**{LABEL: readmitted, "patient_id": np.arange(ROWS)})
        kinds = pd.Series([frozenset(["call"]) if treated else None for treated in batch.treatment.treated])
        labelled = Labelled(("batch-01",), (part,), (replace(batch, accepted_kinds=kinds),), overlap=None)
        registry = SimpleNamespace(version=version, fetch_bundle=bundle)
        installation: Any = SimpleNamespace(registry=registry)
        return measure_effect(installation, labelled)

    return run


SOME = np.random.default_rng(1).random(ROWS) < 0.5


def test_a_planted_effect_is_measured_in_each_way(measure: Callable[..., MeasuredEffect | None]) -> None:
    batch, readmitted = served(SOME)
    found = measure(batch, readmitted)
    assert found is not None
    prevented = (WITHOUT & ~readmitted)[HIGH].mean()
    assert isinstance(found.weighted, WeightedDifference)
    assert found.weighted.prevented.low < prevented < found.weighted.prevented.high
    assert found.weighted.prevented.low > 0
    assert isinstance(found.discontinuity, Discontinuity)
    assert found.comparison is not None and found.comparison.agree
    assert found.plot is not None
    assert found.hold_out is None
    (call,) = found.kinds.values()
    assert call.accepted == (SOME & HIGH).sum()
    of_treated = (WITHOUT & ~readmitted)[SOME & HIGH].mean()
    assert call.prevented.low < of_treated < call.prevented.high


def test_encounters_in_silence_are_left_out(measure: Callable[..., MeasuredEffect | None]) -> None:
    """Otherwise those with the highest risks would seem to be just below the threshold."""
    silent = np.random.default_rng(2).random(ROWS) < 0.5
    nothing, readmitted = served(SOME & ~silent)
    treatment = replace(nothing.treatment, flagged=HIGH & ~silent)
    found = measure(replace(nothing, treatment=treatment, silent=silent), readmitted)
    assert found is not None and isinstance(found.discontinuity, Discontinuity)
    assert found.discontinuity.prevented.high < 0.2
    assert isinstance(found.weighted, WeightedDifference)
    assert found.weighted.n_flagged == (HIGH & ~silent).sum()


def test_a_hold_out_tells_if_all_other_flags_are_accepted(measure: Callable[..., MeasuredEffect | None]) -> None:
    within = HIGH & (RISK < THRESHOLD + 0.1)
    held_back = within & (np.random.default_rng(3).random(ROWS) < 0.2)
    batch, readmitted = served(~held_back)
    treatment = replace(
        batch.treatment, held_back=held_back, hold_out_probability=np.where(within, 0.2, 0.0), known=~held_back
    )
    found = measure(replace(batch, treatment=treatment), readmitted)
    assert found is not None
    assert found.weighted is None, "nobody is like those with an intervention"
    assert isinstance(found.hold_out, WeightedDifference)
    assert found.hold_out.n_flagged == within.sum()
    truth = (WITHOUT & PREVENTABLE)[within].mean()
    assert found.hold_out.prevented.low < truth < found.hold_out.prevented.high
    assert found.hold_out.prevented.low > 0


def test_a_version_that_was_deleted_leaves_out_its_encounters(measure: Callable[..., MeasuredEffect | None]) -> None:
    batch, readmitted = served(SOME)
    versions = pd.Series(np.where(np.arange(ROWS) < ROWS // 2, 1, 2))
    found = measure(replace(batch, version=versions), readmitted)
    assert found is not None and isinstance(found.weighted, WeightedDifference)
    assert found.weighted.n_flagged == HIGH[: ROWS // 2].sum()


def test_too_few_are_said_to_be_too_few(measure: Callable[..., MeasuredEffect | None]) -> None:
    few = np.arange(ROWS) < 30
    batch, readmitted = served(SOME)
    found = measure(replace(batch, silent=~few), readmitted)
    assert found is not None
    assert isinstance(found.discontinuity, TooFewEncounters)
    assert (found.weighted, found.comparison, found.plot, found.kinds) == (None, None, None, {})
