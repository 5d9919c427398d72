"""The discontinuity is that of rdrobust, intervals cover, and confounding shows as a disagreement."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdrobust import rdrobust

from healthpredict.evaluation.effect import (
    Discontinuity,
    ThresholdComparison,
    TooFewEncounters,
    WeightedDifference,
    compare_at_threshold,
    regression_discontinuity,
    weighted_difference,
)
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.threshold_plot import BINS_PER_SIDE, plot_around_threshold

THRESHOLD = 0.15
ACCEPTANCE = 0.6


class Hospital(NamedTuple):
    """Encounters as the functions take them, and what they return if there are enough."""

    readmitted: np.ndarray
    margin: np.ndarray
    without: np.ndarray
    patient: np.ndarray

    @property
    def discontinuity(self) -> Discontinuity:
        found = regression_discontinuity(self.readmitted, self.margin, self.patient)
        assert isinstance(found, Discontinuity)
        return found

    @property
    def comparison(self) -> ThresholdComparison:
        return compare_at_threshold(self.discontinuity, self.readmitted, self.margin, self.without, self.patient)

    @property
    def weighted(self) -> WeightedDifference:
        found = weighted_difference(self.readmitted, self.margin >= 0, self.without, self.patient)
        assert isinstance(found, WeightedDifference)
        return found


def hospital(
    seed: int, rows: int = 2500, *, effect: float = 0.0, visits: int = 1, confounding: float = 0.0
) -> Hospital:
    """An intervention multiplies the risk by 1 - `effect`. With more visits, a patient's encounters depend on each other.

    With `confounding`, clinicians leave out patients who look ill, and who return more often than their risk says.
    """
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, rows // visits, rows) if visits > 1 else np.arange(rows)
    level = rng.normal(0, 0.4, rows)[patient]
    ill = rng.choice([-1, 1], rows)[patient]
    risk = 1 / (1 + np.exp(1.8 - level - rng.normal(0, 0.4, rows)))
    flagged = risk >= THRESHOLD
    treated = flagged & (rng.random(rows) < ACCEPTANCE - 0.5 * confounding * ill)
    true = risk * (1 + (confounding or (visits > 1) * 0.8) * ill)
    readmitted = rng.random(rows) < true * np.where(treated, 1 - effect, 1)
    without = np.where(treated, risk, risk + (readmitted - risk) / (1 - ACCEPTANCE))
    return Hospital(readmitted, risk - THRESHOLD, np.where(flagged, without, readmitted), patient)


def covers(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


@pytest.mark.parametrize("seed", range(4))
def test_the_discontinuity_is_that_of_rdrobust(seed: int) -> None:
    case = hospital(seed, effect=0.3)
    found, theirs = case.discontinuity, rdrobust(case.readmitted.astype(float), case.margin, vce="hc0")
    assert theirs.bws.to_numpy()[:, 0] == pytest.approx([found.bandwidth, found.bias_bandwidth], rel=1e-3)
    uncorrected, _, corrected = theirs.coef.to_numpy().ravel()
    low, high = theirs.ci.to_numpy()[2]
    assert (found.uncorrected, found.prevented.value) == pytest.approx((-uncorrected, -corrected), abs=2e-4)
    assert (found.prevented.low, found.prevented.high) == pytest.approx((-high, -low), abs=2e-4)
    assert (found.n_below, found.n_flagged) == pytest.approx(tuple(theirs.N_h), abs=2)


def test_with_the_same_bandwidths_every_digit_is_that_of_rdrobust() -> None:
    case = hospital(5, effect=0.3)
    found = case.discontinuity
    theirs = rdrobust(case.readmitted.astype(float), case.margin, vce="hc0", h=found.bandwidth, b=found.bias_bandwidth)
    uncorrected, _, corrected = theirs.coef.to_numpy().ravel()
    assert (found.uncorrected, found.prevented.value) == pytest.approx((-uncorrected, -corrected), abs=1e-10)
    assert found.prevented.error == pytest.approx(theirs.se.to_numpy().ravel()[2], rel=1e-10)
    assert (found.n_below, found.n_flagged) == tuple(theirs.N_h)


def test_errors_are_clustered_by_patient_as_in_rdrobust() -> None:
    """Theirs has a correction for few patients, which is about 1 % here."""
    case = hospital(6, visits=5)
    found = case.discontinuity
    theirs = rdrobust(
        case.readmitted.astype(float), case.margin, cluster=case.patient, h=found.bandwidth, b=found.bias_bandwidth
    )
    assert found.prevented.error == pytest.approx(theirs.se.to_numpy().ravel()[2], rel=0.02)


def test_more_encounters_of_the_same_patients_with_the_same_outcome_add_no_information() -> None:
    case = hospital(7)
    copies = Hospital(*(np.tile(column, 4) for column in case))
    for found, single in (
        (copies.discontinuity.prevented, case.discontinuity.prevented),
        (copies.weighted.prevented, case.weighted.prevented),
    ):
        assert found.error == pytest.approx(single.error, rel=0.1)
    as_other_patients = copies._replace(patient=np.arange(len(copies.patient)))
    assert as_other_patients.discontinuity.prevented.error < 0.7 * case.discontinuity.prevented.error


@pytest.mark.parametrize(("effect", "visits"), [(0.0, 1), (0.3, 1), (0.3, 4)])
def test_intervals_cover_the_planted_effect(effect: float, visits: int) -> None:
    population = hospital(0, 1_000_000, visits=visits).margin
    at_threshold = ACCEPTANCE * effect * THRESHOLD
    among_flagged = ACCEPTANCE * effect * (population[population >= 0].mean() + THRESHOLD)
    covered = []
    for seed in range(300):
        case = hospital(1000 + seed, effect=effect, visits=visits)
        at = case.comparison
        covered.append(
            (
                covers(at.discontinuity, at_threshold),
                covers(at.weighted, at_threshold),
                at.agree,
                covers(case.weighted.prevented, among_flagged),
            )
        )
    shares = np.mean(covered, axis=0)
    assert ((shares >= 0.92) & (shares <= 0.97)).all(), shares


def test_a_large_effect_is_found_by_both() -> None:
    case = hospital(8, 60_000, effect=0.9)
    at = case.comparison
    for found in (at.discontinuity, at.weighted):
        assert found.low > 0
        assert covers(found, ACCEPTANCE * 0.9 * THRESHOLD)
    assert at.agree


def test_no_effect_is_no_effect() -> None:
    case = hospital(9, 60_000)
    at = case.comparison
    assert covers(at.discontinuity, 0)
    assert covers(at.weighted, 0)
    assert covers(case.weighted.prevented, 0)
    assert at.agree


def test_an_unmeasured_confounder_is_a_disagreement() -> None:
    """The weighted difference finds an effect that does not exist; the discontinuity does not."""
    at = hospital(10, 60_000, confounding=0.7).comparison
    assert at.weighted.low > 0
    assert covers(at.discontinuity, 0)
    assert not at.agree
    assert at.difference.high < 0


def test_the_difference_accounts_for_the_covariance() -> None:
    """If nobody is treated, the weighted difference is 0 and has no error, so the difference is the discontinuity.

    If `without` is the same number for everybody who is flagged, the flagged patients have no part in the difference.
    """
    case = hospital(11)
    untreated = case._replace(without=case.readmitted.astype(float)).comparison
    assert (untreated.weighted.value, untreated.weighted.error) == (0, 0)
    assert untreated.difference == untreated.discontinuity
    known = case._replace(without=np.where(case.margin >= 0, THRESHOLD, case.readmitted)).comparison
    assert known.difference.value == pytest.approx(known.discontinuity.value - known.weighted.value, abs=1e-12)
    assert known.difference.error**2 == pytest.approx(known.discontinuity.error**2 - known.weighted.error**2, rel=1e-9)


def test_the_weighted_difference_is_a_mean_over_flagged_encounters() -> None:
    """Each patient has two: the standard error is that of the patients' means."""
    flagged = np.tile([True, False], 200)
    readmitted = np.arange(400) % 3 == 0
    without = np.where(flagged, np.arange(400) / 500, 0)
    patient = np.arange(400) // 4
    found = weighted_difference(readmitted, flagged, without, patient)
    assert isinstance(found, WeightedDifference)
    means = (without - readmitted)[flagged].reshape(100, 2).mean(axis=1)
    assert found.n_flagged == 200
    assert found.prevented.value == pytest.approx(means.mean(), abs=1e-12)
    assert found.prevented.error == pytest.approx(means.std() / 10, abs=1e-12)


@pytest.mark.parametrize(
    ("readmitted", "margin", "reason"),
    [
        (
            [],
            [],
            "0 encounters without a flag, of 0 patients, with 0 readmissions; 100, of 50 patients, with 20 readmissions are needed",
        ),
        (
            [True] * 300,
            [0.0] * 300,
            "0 encounters without a flag, of 0 patients, with 0 readmissions; 100, of 50 patients, with 20 readmissions are needed",
        ),
        (
            [True] * 300,
            np.linspace(-1, -0.1, 300),
            "0 flagged encounters, of 0 patients, with 0 readmissions; 100, of 50 patients, with 20 readmissions are needed",
        ),
        (
            [True] * 200 + [True] * 19 + [False] * 200,
            [*np.linspace(-1, -0.1, 200), *np.linspace(0, 1, 219)],
            "219 flagged encounters, of 219 patients, with 19 readmissions; 100, of 50 patients, with 20 readmissions are needed",
        ),
        (
            [True] * 400,
            [*np.linspace(-1, -0.1, 200), *[0.0] * 100, *[0.5] * 100],
            "flagged encounters have 2 distinct risks; 10 are needed",
        ),
    ],
)
def test_too_few_encounters_are_a_reason(readmitted: list[bool], margin: list[float] | np.ndarray, reason: str) -> None:
    found = regression_discontinuity(np.array(readmitted, bool), np.array(margin), np.arange(len(margin)))
    assert found == TooFewEncounters(reason=reason)


def test_too_few_encounters_within_the_bandwidth_are_a_reason() -> None:
    """There are enough encounters, but few are near the threshold."""
    found = regression_discontinuity(*hospital(12, 600)[:2], np.arange(600))
    assert isinstance(found, TooFewEncounters)
    assert "of the threshold" in found.reason


def test_many_encounters_of_few_patients_are_too_few() -> None:
    """One patient's influences cancel out, so that the clustered error would be 0."""
    case = hospital(13, 2000)
    one = case._replace(patient=np.zeros(2000, dtype=np.int64))
    for found in (
        regression_discontinuity(one.readmitted, one.margin, one.patient),
        weighted_difference(one.readmitted, one.margin >= 0, one.without, one.patient),
    ):
        assert isinstance(found, TooFewEncounters)
        assert "of 1 patients" in found.reason


def test_too_few_flagged_encounters_have_no_weighted_difference() -> None:
    case = hospital(13, 100)
    found = weighted_difference(case.readmitted, case.margin >= 0, case.without, case.patient)
    assert isinstance(found, TooFewEncounters)
    assert "flagged encounters, of" in found.reason
    nobody = weighted_difference(np.ones(9, bool), np.zeros(9, bool), np.ones(9), np.arange(9))
    assert nobody == TooFewEncounters(
        reason="0 flagged encounters, of 0 patients, with 0 readmissions; 100, of 50 patients, with 20 readmissions are needed"
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(10, 60), st.floats(0, 1), st.integers(40, 400))
def test_no_input_leads_to_nan(seed: int, distinct: int, share: float, patients: int) -> None:
    """Risks may be tied, and everybody or nobody may be readmitted. Warnings are errors here."""
    rng = np.random.default_rng(seed)
    margin = rng.integers(-distinct, distinct, 800) / 100
    readmitted, patient = rng.random(800) < share, rng.integers(0, patients, 800)
    with np.errstate(all="raise", under="ignore"):
        found = regression_discontinuity(readmitted, margin, patient)
        if isinstance(found, TooFewEncounters):
            return
        at = compare_at_threshold(found, readmitted, margin, rng.normal(size=800), patient)
        plot = plot_around_threshold(found, readmitted, margin, patient)
    sides = (plot.below, plot.flagged)
    intervals = [
        at.discontinuity,
        at.weighted,
        at.difference,
        *(each.readmitted for side in sides for each in side.bins),
    ]
    numbers = [number for each in intervals for number in (each.low, each.value, each.high)]
    assert np.isfinite([*numbers, *(number for side in sides for number in (side.at_threshold, side.at_end))]).all()
    assert all(each.low <= each.value <= each.high for each in intervals)


def test_bins_of_the_plot_contain_the_encounters_within_the_bandwidth() -> None:
    case = hospital(14, 5000)
    found = case.discontinuity
    plot = plot_around_threshold(found, case.readmitted, case.margin, case.patient)
    for side, n, sign in ((plot.below, found.n_below, -1), (plot.flagged, found.n_flagged, 1)):
        within = (np.sign(case.margin) == sign) & (np.abs(case.margin) < found.bandwidth)
        assert len(side.bins) == BINS_PER_SIDE
        rows = np.array([each.rows for each in side.bins])
        assert rows.sum() == n
        assert np.ptp(rows) <= 1
        assert np.all(np.diff([each.margin for each in side.bins]) > 0)
        readmitted = sum(each.readmitted.value * each.rows for each in side.bins)
        assert readmitted == pytest.approx(case.readmitted[within].sum())
        weight = np.sqrt(1 - np.abs(case.margin[within]) / found.bandwidth)
        line = np.polynomial.Polynomial.fit(case.margin[within], case.readmitted[within], 1, w=weight)
        assert side.at_threshold == pytest.approx(line(0), abs=1e-9)
        assert side.at_end == pytest.approx(line(sign * found.bandwidth), abs=1e-9)
    assert plot.below.at_threshold - plot.flagged.at_threshold == pytest.approx(found.uncorrected, abs=1e-9)


def test_equal_risks_are_in_the_same_bin() -> None:
    case = hospital(15, 8000)
    case = case._replace(margin=np.floor(case.margin * 400) / 400)
    plot = plot_around_threshold(case.discontinuity, case.readmitted, case.margin, case.patient)
    _, counts = np.unique(case.margin[case.margin >= 0], return_counts=True)
    assert set(np.cumsum([each.rows for each in plot.flagged.bins])) <= set(np.cumsum(counts))


def test_bins_with_no_readmissions_have_an_upper_limit() -> None:
    """Nobody in the bin next to the threshold returns. By the rule of three, the limit is near 3 / n."""
    case = hospital(16, 5000)
    found = case.discontinuity
    lowest = plot_around_threshold(found, case.readmitted, case.margin, case.patient).flagged.bins[0]
    none = case.readmitted & ~((case.margin >= 0) & (case.margin <= 2 * lowest.margin))
    first = plot_around_threshold(found, none, case.margin, case.patient).flagged.bins[0]
    assert (first.readmitted.value, first.readmitted.low) == (0, 0)
    assert 0 < first.readmitted.high < 4 / first.rows
