"""Which candidate becomes the model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from encoded_hospital import Hospital

from healthpredict.evaluation.gain import auroc_gain
from healthpredict.operations.dataset import LABEL
from healthpredict.training.candidates import Candidate, SearchResult, without_search
from healthpredict.training.families import FAMILIES, STEPS
from healthpredict.training.fit import fit_best, fit_model
from healthpredict.training.params import SearchParams
from healthpredict.training.search import METRIC, _search_result

FIRST_PARAMS = {"C": 1e-3}
WEAK = {"C": 1e-4}
STRONG = {"C": 0.1}


def trial(params: dict[str, float], reached: float, step: int = STEPS) -> SimpleNamespace:
    config = {"family": "logistic_regression"} | {f"logistic_regression.{k}": v for k, v in params.items()}
    return SimpleNamespace(config=config, metrics={METRIC: reached, "step": step}, error=None)


FIRST = trial(FIRST_PARAMS, 0.660)


def untried(params: dict[str, float]) -> Candidate:
    """Parameters from before the search."""
    return Candidate(family="logistic_regression", params=params, validation_auroc=0, steps=0)


KNOWN = [untried(FIRST_PARAMS)]


def other_family(reached: float) -> SimpleNamespace:
    return SimpleNamespace(
        config={"family": "lightgbm", "lightgbm.num_leaves": 4}, metrics={METRIC: reached, "step": STEPS}, error=None
    )


@pytest.mark.parametrize(
    ("rival", "finalists"),
    [
        (trial(STRONG, 0.664), [FIRST_PARAMS]),
        (trial(STRONG, 0.666), [FIRST_PARAMS, STRONG]),
        (trial(STRONG, 0.700, step=3), [FIRST_PARAMS]),
        (other_family(0.664), [FIRST_PARAMS]),
        (other_family(0.666), [FIRST_PARAMS, {"num_leaves": 4}]),
    ],
    ids=["better by chance", "better by more", "stopped early", "other family by chance", "other family by more"],
)
def test_a_trial_is_a_finalist_if_it_is_better_than_the_first_parameters_by_more_than_chance(
    rival: SimpleNamespace, finalists: list[dict[str, float]]
) -> None:
    result = _search_result([rival, FIRST], KNOWN, noise=0.005)
    assert [c.params for c in result.finalists] == finalists


def test_without_a_search_the_first_parameters_and_those_of_the_champion_are_compared() -> None:
    params = SearchParams(families=("logistic_regression",))
    first = untried(dict(FAMILIES["logistic_regression"].first))
    champion, other = untried(WEAK), Candidate(family="lightgbm", params={}, validation_auroc=0.6, steps=STEPS)
    result = without_search([champion, other], params)
    assert result.finalists == (first, champion)
    assert (result.candidates, result.trials) == ((champion, other), 0)
    assert without_search([first, other], params).finalists == (first,)


@pytest.mark.parametrize(
    ("reached", "finalists"), [(0.674, [FIRST_PARAMS, WEAK]), (0.676, [FIRST_PARAMS, WEAK, STRONG])]
)
def test_in_a_retraining_the_parameters_of_the_champion_are_a_finalist_too(
    reached: float, finalists: list[dict[str, float]]
) -> None:
    """A trial must be better than both, and the first parameters come first in any order of the trials."""
    champion = trial(WEAK, 0.670)
    result = _search_result([trial(STRONG, reached), champion, FIRST], [*KNOWN, untried(WEAK)], noise=0.005)
    assert [c.params for c in result.finalists] == finalists


def test_parameters_of_the_champion_for_which_there_was_no_time_are_a_finalist() -> None:
    result = _search_result([FIRST], [*KNOWN, untried(WEAK)], noise=0.005)
    assert [c.params for c in result.finalists] == [FIRST_PARAMS, WEAK]


def test_first_parameters_whose_trial_was_stopped_early_remain_a_finalist() -> None:
    """It may be stopped because another family learns faster at first."""
    stopped = trial(FIRST_PARAMS, 0.660, step=3)
    result = _search_result([stopped, trial(STRONG, 0.661)], KNOWN, noise=0.005)
    assert [c.params for c in result.finalists] == [FIRST_PARAMS, STRONG]


def test_first_parameters_whose_trial_failed_are_no_finalist() -> None:
    failed = SimpleNamespace(config=FIRST.config, metrics=None, error=RuntimeError("killed"))
    result = _search_result([failed, trial(STRONG, 0.661)], KNOWN, noise=0.005)
    assert [c.params for c in result.finalists] == [STRONG]


@pytest.mark.parametrize(
    ("tried", "chosen", "errors"),
    [
        ((0.001, 0.01, 0.0001), 0.001, (0, 1)),
        ((0.0001, 0.001, 0.0003), 0.0003, (1, 2)),
        ((0.0003, 0.001), 0.0003, None),
    ],
    ids=["better by less", "better by more", "worse"],
)
def test_the_first_finalist_is_chosen_unless_another_is_better_by_more_than_one_standard_error(
    tried: tuple[float, ...], chosen: float, errors: tuple[float, float] | None, hospital: Hospital
) -> None:
    label, patient_id = hospital.training[LABEL].to_numpy(), hospital.training["patient_id"].to_numpy()
    finalists = [
        Candidate(family="logistic_regression", params={"C": c}, validation_auroc=0.6, steps=STEPS) for c in tried
    ]
    assert fit_best(finalists, hospital.training, label, seed=3).candidate.params == {"C": chosen}
    if errors is not None:
        first, last = (
            fit_model(c, hospital.training, label, seed=3).out_of_fold_risk for c in finalists[:: len(tried) - 1]
        )
        gain = auroc_gain(label, last, first, patient_id)
        assert errors[0] < gain.value / gain.error < errors[1]


def test_a_result_led_by_a_candidate_keeps_the_other_families() -> None:
    strong, weak, forest, trees = (
        Candidate(family=family, params=params, validation_auroc=0.6, steps=STEPS)
        for family, params in (
            ("logistic_regression", STRONG),
            ("logistic_regression", WEAK),
            ("random_forest", {}),
            ("lightgbm", {}),
        )
    )
    result = SearchResult(candidates=(forest, strong, trees), finalists=(weak, strong), trials=4, stopped_early=0)
    assert result.led_by(weak).candidates == (weak, forest, trees)


def test_a_family_whose_every_trial_failed_is_said_to_be_left_out(caplog: pytest.LogCaptureFixture) -> None:
    error = RuntimeError("ray::trial()\n  File ...\nOSError: libgomp.so.1: cannot open shared object file")
    broken = SimpleNamespace(config={"family": "lightgbm"}, metrics=None, error=error)
    once = SimpleNamespace(config=FIRST.config, metrics=None, error=error)
    result = _search_result([broken, once, FIRST], KNOWN, noise=0.005)
    assert result.best.family == "logistic_regression"
    (record,) = caplog.records
    assert record.getMessage() == (
        "No trial of lightgbm succeeded, so the search leaves it out: OSError: libgomp.so.1: cannot open shared object file"
    )
