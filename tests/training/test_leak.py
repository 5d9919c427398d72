"""A result that is too good to be true stops the training."""

from __future__ import annotations

import numpy as np
import pytest

from healthpredict.bundle.manifest import Calibrator
from healthpredict.data.equivalence import icd10_map
from healthpredict.errors import LeakSuspected
from healthpredict.evaluation.metrics import Evaluation, evaluate
from healthpredict.features.encoder import Encoder
from healthpredict.training.candidates import Candidate
from healthpredict.training.families import STEPS
from healthpredict.training.fit import FittedModel
from healthpredict.training.leak import check_auroc, check_for_leak
from healthpredict.training.params import ModelParams

PARAMS = ModelParams()
LABEL = np.random.default_rng(0).random(20_000) < 0.11
TEST_LABEL = np.random.default_rng(1).random(4_000) < 0.11


def risks(label: np.ndarray, signal: float, seed: int) -> np.ndarray:
    """Risks that are higher by `signal` standard deviations for encounters that were readmitted."""
    return 1 / (1 + np.exp(-np.random.default_rng(seed).normal(signal * label)))


def fitted(signal: float, slope: float = 1.0) -> FittedModel:
    candidate = Candidate(family="catboost", params={}, validation_auroc=0.6, steps=STEPS)
    calibrator = Calibrator(slope=slope, intercept=0.0)
    return FittedModel(candidate, Encoder({}, {}, {}, {}, icd10_map()), None, calibrator, risks(LABEL, signal, seed=2))


def on_test_side(signal: float) -> Evaluation:
    return evaluate(TEST_LABEL, risks(TEST_LABEL, signal, seed=3), np.arange(len(TEST_LABEL)), n_bootstrap=20)


def check(model: FittedModel, test: Evaluation, params: ModelParams) -> None:
    check_for_leak(model, LABEL, model.out_of_fold_risk, test, params)


def test_equal_performance_on_both_sides_is_no_leak() -> None:
    check(fitted(0.6), on_test_side(0.6), PARAMS)


@pytest.mark.parametrize(("trained", "tested"), [(0.95, 0.6), (0.3, 0.7)])
def test_out_of_fold_and_on_test_side_must_agree(trained: float, tested: float) -> None:
    """In either direction: the leak can be in the training data or on the test side."""
    with pytest.raises(LeakSuspected, match="set HEALTHPREDICT_MODEL__LEAK_STANDARD_ERRORS to a higher value"):
        check(fitted(trained), on_test_side(tested), PARAMS)
    check(fitted(trained), on_test_side(tested), PARAMS.model_copy(update={"leak_standard_errors": 20}))


@pytest.mark.parametrize("slope", [0.0, -0.5])
def test_predictions_in_the_wrong_order_are_a_leak(slope: float) -> None:
    with pytest.raises(LeakSuspected, match="in the wrong order"):
        check(fitted(0.6, slope), on_test_side(0.6), PARAMS)


def test_too_good_a_model_is_a_leak_and_the_message_names_the_setting() -> None:
    with pytest.raises(LeakSuspected, match=r"above 0\.72.* set HEALTHPREDICT_MODEL__LEAK_AUROC to a higher value"):
        check(fitted(1.2), on_test_side(1.2), PARAMS)
    check(fitted(1.2), on_test_side(1.2), PARAMS.model_copy(update={"leak_auroc": 0.9}))


def test_an_auroc_at_the_limit_is_no_leak() -> None:
    check_auroc("The model", PARAMS.leak_auroc, PARAMS)
    with pytest.raises(LeakSuspected, match="The model has an AUROC of"):
        check_auroc("The model", PARAMS.leak_auroc + 0.001, PARAMS)
