"""Concept drift shows in matured outcomes only."""

from __future__ import annotations

import numpy as np
import pytest

from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.metrics import Evaluation, evaluate
from healthpredict.monitoring.concept import ConceptDrift, detect_concept_drift, evidence_of_change
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
    assert found.fall is not None
    change = found.fall.change
    assert change.low < 0 < change.high


def test_risks_that_no_longer_tell_patients_apart_are_drift(promoted: Evaluation) -> None:
    found = detect(*outcomes(seed=2, noise=0.5), promoted)
    assert found.drifted
    assert found.reasons[0].startswith("AUROC fell from")
    assert found.fall is not None
    assert found.fall.change.high < 0


def test_risks_that_are_off_on_average_are_no_concept_drift(promoted: Evaluation) -> None:
    """The order of the patients is unchanged. A recalibration repairs the rest."""
    label, risk = outcomes(seed=2)
    assert not detect(label, risk * 0.7, promoted).drifted


def gains(*values: float, error: float = 0.004) -> list[Interval]:
    return [Interval(value=value, low=value - 1.96 * error, high=value + 1.96 * error) for value in values]


def test_a_shadow_that_is_better_batch_after_batch_is_evidence(promoted: Evaluation) -> None:
    label, risk = outcomes(seed=2)

    def behind(*values: float) -> ConceptDrift:
        return detect_concept_drift(label, risk, PATIENTS, promoted, DriftPolicy(), shadow_gains=gains(*values))

    assert not behind(0.01).drifted, "one batch is not enough"
    found = behind(0.01, 0.012, 0.015)
    assert found.drifted
    assert found.reasons == ("a model fitted on newer outcomes gains 0.012 [0.008, 0.017] AUROC over the champion",)
    assert not behind(-0.01, -0.012, -0.015).drifted, "a worse shadow is none"
    assert behind().behind is None


def test_shadows_that_are_equal_are_hardly_ever_evidence(promoted: Evaluation) -> None:
    """1,000 champions that are up to date, compared after each of ten batches."""
    rng, ever = np.random.default_rng(0), 0
    for _ in range(1000):
        drawn = rng.normal(0, 0.004, 10)
        means, errors = np.cumsum(drawn) / np.arange(1, 11), 0.004 / np.sqrt(np.arange(1, 11))
        ever += any(evidence_of_change(m, e, 0.01) >= 40 for m, e in zip(means, errors, strict=True))
    assert ever / 1000 <= 0.025


@pytest.mark.parametrize("label", [[], [False, False, False]])
def test_without_both_classes_nothing_is_said(label: list[bool], promoted: Evaluation) -> None:
    found = detect(np.array(label, dtype=bool), np.full(len(label), 0.1), promoted)
    assert not found.drifted
    assert found.matured is None
    assert "both classes are needed" in found.reasons[0]


def test_the_interval_of_the_change_is_wider_than_either_of_the_two(promoted: Evaluation) -> None:
    """Both evaluations are uncertain, and the uncertainties add."""
    found = detect(*outcomes(seed=2), promoted)
    assert found.matured is not None
    assert found.fall is not None
    of = (promoted.auroc, found.matured.auroc, found.fall.change)
    widths = [interval.high - interval.low for interval in of]
    assert widths[2] == pytest.approx(np.hypot(*widths[:2]), rel=0.05)


def test_looking_at_every_batch_does_not_inflate_false_alarms() -> None:
    """1,000 champions without drift, looked at after each of ten batches: hardly any is ever said to have drifted.

    A test at 5 % of each look, as it is usual, says so of three times as many.
    """
    rng = np.random.default_rng(0)
    error, ever, naive = 0.01, 0, 0
    for _ in range(1000):
        promoted = rng.normal(0, error / 4)
        means = np.cumsum(rng.normal(0, error, 10)) / np.arange(1, 11)
        errors = error * np.sqrt(1 / 16 + 1 / np.arange(1, 11))
        seen = [evidence_of_change(promoted - mean, e, 0.02) for mean, e in zip(means, errors, strict=True)]
        ever += max(seen) >= 20
        naive += bool(((promoted - means) / errors > 1.645).any())
    assert ever / 1000 <= 0.05
    assert naive / 1000 > 0.15


def test_a_small_fall_is_found_over_batches_though_not_in_one(promoted: Evaluation) -> None:
    parts = [outcomes(seed=seed, noise=0.2) for seed in range(10, 16)]
    label, risk = (np.concatenate(of) for of in zip(*parts, strict=True))
    batch = np.repeat(np.arange(6), 8000)
    patients = np.arange(48_000)
    one = detect(*parts[0], promoted)
    all_of_them = detect_concept_drift(label, risk, patients, promoted, DriftPolicy(), batch=batch)
    assert one.fall is not None
    assert all_of_them.fall is not None
    assert one.fall.e_value < all_of_them.fall.e_value
    assert all_of_them.drifted


def test_it_survives_json(promoted: Evaluation) -> None:
    found = detect(*outcomes(seed=2), promoted)
    assert ConceptDrift.model_validate_json(found.model_dump_json()) == found
