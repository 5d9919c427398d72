"""Which candidate becomes the model."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from encoded_hospital import Hospital

from healthpredict.evaluation.metrics import auroc
from healthpredict.operations.dataset import LABEL
from healthpredict.training.families import STEPS
from healthpredict.training.fit import fit_finalists
from healthpredict.training.search import METRIC, Candidate, SearchResult, _search_result

WEAK = {"C": 1e-4}
STRONG = {"C": 0.1}


def trial(params: dict[str, float], reached: float, step: int = STEPS) -> SimpleNamespace:
    config = {"family": "logistic_regression"} | {f"logistic_regression.{k}": v for k, v in params.items()}
    return SimpleNamespace(config=config, metrics={METRIC: reached, "step": step}, error=None)


KNOWN = trial(WEAK, 0.660)


@pytest.mark.parametrize(
    ("rival", "chosen"),
    [(trial(STRONG, 0.664), WEAK), (trial(STRONG, 0.666), STRONG), (trial(STRONG, 0.700, step=3), WEAK)],
    ids=["better by chance", "better by more", "stopped early"],
)
def test_known_parameters_stay_unless_beaten_by_more_than_chance(rival: SimpleNamespace, chosen: dict) -> None:
    result = _search_result([KNOWN, rival], [KNOWN.config], noise=0.005)
    assert result.best.params == chosen
    # If they are beaten, both are compared on all training patients.
    assert [c.params for c in result.candidates] == ([STRONG, WEAK] if chosen is STRONG else [WEAK])


def test_known_parameters_that_were_stopped_early_do_not_stay() -> None:
    stopped = trial(WEAK, 0.660, step=3)
    assert _search_result([stopped, trial(STRONG, 0.661)], [stopped.config], noise=0.005).best.params == STRONG


def test_the_finalist_with_the_best_out_of_fold_auroc_comes_first(hospital: Hospital) -> None:
    """The order in the search result does not matter."""
    label = hospital.training[LABEL].to_numpy()
    candidates = [
        Candidate(family="logistic_regression", params=params, validation_auroc=0.6, steps=STEPS)
        for params in ({"C": 1e-9}, STRONG)
    ]
    finalists = fit_finalists(candidates, hospital.training, label, seed=3)
    reached = [auroc(label, finalist.out_of_fold_risk) for finalist in finalists]
    assert reached == sorted(reached, reverse=True)
    assert len(np.unique(reached)) == 2


def test_a_result_led_by_some_keeps_the_others() -> None:
    first, second, third = (
        Candidate(family=family, params={}, validation_auroc=0.6, steps=STEPS)
        for family in ("lightgbm", "xgboost", "catboost")
    )
    result = SearchResult(candidates=(first, second, third), trials=3, stopped_early=0)
    assert result.led_by([second, first]).candidates == (second, first, third)


def test_a_result_keeps_one_candidate_of_each_family() -> None:
    strong, weak, trees = (
        Candidate(family=family, params=params, validation_auroc=0.6, steps=STEPS)
        for family, params in (("logistic_regression", STRONG), ("logistic_regression", WEAK), ("lightgbm", {}))
    )
    result = SearchResult(candidates=(strong, weak, trees), trials=3, stopped_early=0)
    assert result.led_by([weak, trees, strong]).candidates == (weak, trees)


def other_family(reached: float) -> SimpleNamespace:
    return SimpleNamespace(
        config={"family": "lightgbm", "lightgbm.num_leaves": 4}, metrics={METRIC: reached, "step": STEPS}, error=None
    )


@pytest.mark.parametrize(("reached", "leader"), [(0.664, "logistic_regression"), (0.666, "lightgbm")])
def test_the_preferred_family_leads_unless_beaten_by_more_than_chance(reached: float, leader: str) -> None:
    """The preferred family is the champion's or, in a first search, the first in the settings."""
    result = _search_result([other_family(reached), KNOWN], [KNOWN.config], noise=0.005)
    assert result.best.family == leader
    assert len(result.candidates) == 2


def test_a_family_whose_every_trial_failed_is_said_to_be_left_out(caplog: pytest.LogCaptureFixture) -> None:
    error = RuntimeError("ray::trial()\n  File ...\nOSError: libgomp.so.1: cannot open shared object file")
    broken = SimpleNamespace(config={"family": "lightgbm"}, metrics=None, error=error)
    once = SimpleNamespace(config=KNOWN.config, metrics=None, error=error)
    assert _search_result([broken, once, KNOWN], [KNOWN.config], noise=0.005).best.family == "logistic_regression"
    (record,) = caplog.records
    assert record.getMessage() == (
        "No trial of lightgbm succeeded, so the search leaves it out: OSError: libgomp.so.1: cannot open shared object file"
    )
