"""Concept drift is seen in matured outcomes, and in nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from healthpredict.evaluation.metrics import Evaluation, evaluate
from healthpredict.monitoring.concept import ConceptDrift, detect_concept_drift
from healthpredict.monitoring.params import DriftPolicy

PATIENTS = np.arange(8000)


def outcomes(seed: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Risks, and labels drawn with them as probabilities; `noise` is the share of risks that mean nothing any more."""
    rng = np.random.default_rng(seed)
    risk = rng.beta(1, 8, len(PATIENTS))
    label = rng.random(len(PATIENTS)) < risk
    shuffled = rng.random(len(PATIENTS)) < noise
    risk[shuffled] = rng.permutation(risk[shuffled])
    return label, risk


@pytest.fixture(scope="module")
def promoted() -> Evaluation:
    label, risk = outcomes(seed=1)
    return evaluate(label, risk, PATIENTS)


def detect(label: np.ndarray, risk: np.ndarray, promoted: Evaluation) -> ConceptDrift:
    return detect_concept_drift(label, risk, PATIENTS[: len(label)], promoted, DriftPolicy())


def test_the_same_concept_is_no_drift(promoted: Evaluation) -> None:
    found = detect(*outcomes(seed=2), promoted)
    assert not found.drifted
    assert found.reasons == ()
    assert found.drop is not None
    assert found.drop.low < 0 < found.drop.high


def test_risks_that_no_longer_tell_patients_apart_are_drift(promoted: Evaluation) -> None:
    found = detect(*outcomes(seed=2, noise=0.5), promoted)
    assert found.drifted
    assert found.reasons[0].startswith("AUROC fell from")
    assert found.drop is not None
    assert found.drop.low > 0


@pytest.mark.parametrize(("factor", "direction"), [(1.3, "high"), (0.7, "low")])
def test_risks_that_are_off_on_average_are_drift(promoted: Evaluation, factor: float, direction: str) -> None:
    """The order of the patients, and so the AUROC, is unchanged."""
    label, risk = outcomes(seed=2)
    found = detect(label, risk * factor, promoted)
    assert found.drifted
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith(f"risks are too {direction}, by")


@pytest.mark.parametrize("label", [[], [False, False, False]])
def test_without_both_classes_nothing_is_said(label: list[bool], promoted: Evaluation) -> None:
    found = detect(np.array(label, dtype=bool), np.full(len(label), 0.1), promoted)
    assert not found.drifted
    assert found.matured is None
    assert "both classes are needed" in found.reasons[0]


def test_the_interval_of_the_drop_is_wider_than_either_of_the_two(promoted: Evaluation) -> None:
    """Both evaluations are uncertain, and the uncertainties add."""
    found = detect(*outcomes(seed=2), promoted)
    assert found.drop is not None
    assert found.matured is not None
    widths = [interval.high - interval.low for interval in (promoted.auroc, found.matured.auroc, found.drop)]
    assert widths[2] == pytest.approx(np.hypot(*widths[:2]), rel=0.05)


def test_it_survives_json(promoted: Evaluation) -> None:
    found = detect(*outcomes(seed=2), promoted)
    assert ConceptDrift.model_validate_json(found.model_dump_json()) == found
