"""Which candidate becomes the model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from encoded_hospital import Hospital

from healthpredict.evaluation.metrics import auroc_gain
from healthpredict.operations.dataset import LABEL
from healthpredict.training.families import STEPS
from healthpredict.training.fit import fit_finalists
from healthpredict.training.search import METRIC, Candidate, SearchResult, _search_result

WEAK = {"C": 1e-4}
STRONG = {"C": 0.1}


def trial(params: dict[str, float], reached: float, step: int = STEPS) -> SimpleNamespace:
    config = {"family": "logistic_regression"} | {f"logistic_regression.{k}": v for k, v in params.items()}
    return SimpleNamespace(config=config, metrics={METRIC: reached, "step": step}, error=None)


INCUMBENT = trial(WEAK, 0.660)


def other_family(reached: float) -> SimpleNamespace:
    return SimpleNamespace(
        config={"family": "lightgbm", "lightgbm.num_leaves": 4}, metrics={METRIC: reached, "step": STEPS}, error=None
    )


@pytest.mark.parametrize(
    ("rival", "finalists"),
    [(trial(STRONG, 0.664), [WEAK]), (trial(STRONG, 0.666), [WEAK, STRONG]), (trial(STRONG, 0.700, step=3), [WEAK])],
    ids=["better by chance", "better by more", "stopped early"],
)
def test_a_trial_is_compared_with_the_incumbent_if_it_is_better_by_more_than_chance(
    rival: SimpleNamespace, finalists: list[dict[str, float]]
) -> None:
    """The incumbent, whose parameters are from before the search, comes first."""
    result = _search_result([rival, INCUMBENT], [INCUMBENT.config], noise=0.005)
    assert [c.params for c in result.finalists] == finalists


@pytest.mark.parametrize(("reached", "finalists"), [(0.664, {WEAK["C"]}), (0.666, {WEAK["C"], None})])
def test_a_trial_of_another_family_is_compared_by_the_same_rule(reached: float, finalists: set[float | None]) -> None:
    result = _search_result([other_family(reached), INCUMBENT], [INCUMBENT.config], noise=0.005)
    assert {c.params.get("C") for c in result.finalists} == finalists
    assert [c.family for c in result.candidates] == ["lightgbm", "logistic_regression"]


def test_an_incumbent_that_was_stopped_early_is_compared() -> None:
    """It may be stopped because another family learns faster at first."""
    stopped = trial(WEAK, 0.660, step=3)
    result = _search_result([stopped, trial(STRONG, 0.661)], [stopped.config], noise=0.005)
    assert [c.params for c in result.finalists] == [WEAK, STRONG]


def test_an_incumbent_whose_trial_failed_is_left_out() -> None:
    failed = SimpleNamespace(config=INCUMBENT.config, metrics=None, error=RuntimeError("killed"))
    result = _search_result([failed, trial(STRONG, 0.661)], [INCUMBENT.config], noise=0.005)
    assert [c.params for c in result.finalists] == [STRONG]


@pytest.mark.parametrize(
    ("incumbent", "rival", "errors", "replaced"),
    [(0.001, 0.0001, (0, 1), False), (0.0001, 0.0003, (1, 2), True), (0.001, 0.01, (-9, 0), False)],
    ids=["better by less", "better by more", "worse"],
)
def test_the_incumbent_stays_unless_its_rival_is_better_by_more_than_one_standard_error(
    incumbent: float, rival: float, errors: tuple[float, float], replaced: bool, hospital: Hospital
) -> None:
    label = hospital.training[LABEL].to_numpy()
    finalists = [
        Candidate(family="logistic_regression", params={"C": c}, validation_auroc=0.6, steps=STEPS)
        for c in (incumbent, rival)
    ]
    models = fit_finalists(finalists, hospital.training, label, seed=3)
    assert [model.candidate for model in models] == (finalists[::-1] if replaced else finalists)
    risk = {model.candidate.params["C"]: model.out_of_fold_risk for model in models}
    gain = auroc_gain(label, risk[rival], risk[incumbent], hospital.training["patient_id"].to_numpy())
    assert errors[0] < gain.value / gain.error < errors[1]


def test_a_result_led_by_some_keeps_the_others() -> None:
    first, second, third = (
        Candidate(family=family, params={}, validation_auroc=0.6, steps=STEPS)
        for family in ("lightgbm", "xgboost", "catboost")
    )
    result = SearchResult(candidates=(first, second, third), finalists=(second, first), trials=3, stopped_early=0)
    assert result.led_by([second, first]).candidates == (second, first, third)


def test_a_result_keeps_one_candidate_of_each_family() -> None:
    strong, weak, trees = (
        Candidate(family=family, params=params, validation_auroc=0.6, steps=STEPS)
        for family, params in (("logistic_regression", STRONG), ("logistic_regression", WEAK), ("lightgbm", {}))
    )
    result = SearchResult(candidates=(strong, trees), finalists=(weak, strong), trials=3, stopped_early=0)
    assert result.led_by([weak, strong]).candidates == (weak, trees)


def test_a_family_whose_every_trial_failed_is_said_to_be_left_out(caplog: pytest.LogCaptureFixture) -> None:
    error = RuntimeError("ray::trial()\n  File ...\nOSError: libgomp.so.1: cannot open shared object file")
    broken = SimpleNamespace(config={"family": "lightgbm"}, metrics=None, error=error)
    once = SimpleNamespace(config=INCUMBENT.config, metrics=None, error=error)
    result = _search_result([broken, once, INCUMBENT], [INCUMBENT.config], noise=0.005)
    assert result.best.family == "logistic_regression"
    (record,) = caplog.records
    assert record.getMessage() == (
        "No trial of lightgbm succeeded, so the search leaves it out: OSError: libgomp.so.1: cannot open shared object file"
    )
