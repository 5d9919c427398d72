"""The mean contributions of columns add up to the mean prediction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from healthpredict.bundle.explainer import Explainer, Linear
from healthpredict.monitoring.contributions import column_contributions, sample

NAMES = ("number_inpatient", "age", "prior_stays x age", "prior_visits")
LINEAR = Explainer(Linear(np.array([1.0, 2.0, 4.0, 3.0]), np.zeros(4)), 0.5, "log_odds")


def test_a_feature_of_several_columns_counts_for_each_in_equal_parts() -> None:
    found = column_contributions(LINEAR, 0.5, NAMES, np.ones((10, 4), dtype=np.float32))
    assert {name: of.mean for name, of in found.items()} == pytest.approx(
        {
            "number_inpatient": 0.5 * (1 + 4 / 2 + 3 / 3),
            "age": 0.5 * (2 + 4 / 2),
            "number_outpatient": 0.5 * 3 / 3,
            "number_emergency": 0.5 * 3 / 3,
        }
    )
    assert {of.error for of in found.values()} == {0.0}


def test_a_sample_is_within_its_error_of_all_encounters() -> None:
    encounters = pd.DataFrame(np.random.default_rng(0).normal(size=(6_000, 4)).astype(np.float32))
    sampled, complete = (
        column_contributions(LINEAR, 1.0, NAMES, rows.to_numpy()) for rows in (sample(encounters), encounters)
    )
    for name, of in complete.items():
        assert abs(sampled[name].mean - of.mean) < 4 * sampled[name].error
        assert sampled[name].error == pytest.approx(of.error * np.sqrt(3), rel=0.1)
    total = sum(of.mean for of in complete.values())
    assert total == pytest.approx((encounters.to_numpy() @ LINEAR.model.coefficient).mean())  # type: ignore[union-attr]


def test_a_small_batch_is_explained_completely() -> None:
    assert len(sample(pd.DataFrame({"age": range(2_000)}))) == 2_000
