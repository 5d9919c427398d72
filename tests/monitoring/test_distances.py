"""The distances are those of Evidently."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from healthpredict.monitoring.distances import jensen_shannon, one_category, wasserstein


def evidently_distance(method: str, kind: str, reference: pd.Series, current: pd.Series) -> float:
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    column_type = ColumnType(kind)
    test = get_stattest(reference, current, column_type, method)
    return float(test(reference, current, column_type, 0.1).drift_score)


@pytest.mark.parametrize(("n_reference", "n_current"), [(1, 1), (7, 3), (400, 150)])
def test_wasserstein_equals_evidently(n_reference: int, n_current: int) -> None:
    """Also where the reference is constant, so that its standard deviation is zero."""
    rng = np.random.default_rng(n_reference)
    reference, current = rng.poisson(2, n_reference), rng.poisson(3, n_current)
    values = np.union1d(reference, current)
    counts = [np.array([(sample == value).sum() for value in values]) for sample in (reference, current)]
    expected = evidently_distance("wasserstein", "num", pd.Series(reference), pd.Series(current))
    assert wasserstein(values.astype(float), *counts) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n_reference", "n_current"), [(1, 1), (7, 3), (400, 150)])
def test_jensen_shannon_equals_evidently(n_reference: int, n_current: int) -> None:
    """Also where one side lacks categories of the other."""
    rng = np.random.default_rng(n_reference)
    reference, current = rng.choice(list("abcd"), n_reference), rng.choice(list("bcde"), n_current)
    counts = [np.array([(sample == value).sum() for value in "abcde"]) for sample in (reference, current)]
    expected = evidently_distance("jensenshannon", "cat", pd.Series(reference), pd.Series(current))
    assert jensen_shannon(*counts) == pytest.approx(expected, abs=1e-9)


def test_samples_are_compared_all_at_once() -> None:
    reference = np.array([3, 2, 5])
    samples = np.array([[3, 2, 5], [0, 0, 4]])
    distances = jensen_shannon(reference, samples)
    assert distances == pytest.approx([0, float(jensen_shannon(reference, samples[1]))])
    moved = wasserstein(np.array([0.0, 1.0, 2.0]), reference, samples)
    assert moved[0] == 0
    assert moved[1] == pytest.approx(0.8 / np.sqrt(0.76))


def test_nothing_in_common_is_the_largest_distance() -> None:
    assert jensen_shannon(np.array([9, 0]), np.array([0, 4])) == pytest.approx(np.sqrt(np.log(2)))


def test_one_category_is_compared_with_all_others_together() -> None:
    """The second of three changed most; with two categories there is nothing else to compare."""
    reference, current = np.array([50, 30, 20]), np.array([[30, 55, 15], [50, 30, 20]])
    second = float(jensen_shannon(np.array([70, 30]), np.array([45, 55])))
    assert one_category(reference, current) == pytest.approx([second, 0], abs=1e-7)
    assert one_category(np.array([70, 30]), np.array([45, 55])) == pytest.approx(second)
