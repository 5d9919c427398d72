"""Search for a model: Ray Tune with a TPE searcher over all families, and ASHA, which stops poor trials early."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from healthpredict.errors import ClusterError, NotEnoughData
from healthpredict.training.candidates import Candidate, SearchResult, first_candidate, incumbents_of
from healthpredict.training.families import FAMILIES, STEPS, Examples, Watch
from healthpredict.training.params import FamilyName, SearchParams
from healthpredict.training.ray_cluster import ray_runtime

_logger = logging.getLogger(__name__)
METRIC = "validation_auroc"
_GRACE_STEPS = 3
"""Reports before ASHA may stop a trial. Boosting with a small learning rate starts slowly."""
_REDUCTION = 3
_NOISE = 0.1
"""Two AUROCs on the same encounters with n readmissions can differ by _NOISE / sqrt(n) by chance. This is two standard errors
between models of one family, and more than one between families (measured on the real data: .035 to .085 / sqrt(n))."""
_SECONDS_BETWEEN_STATES = "1"
"""How often the state of a search is saved. After a crash, trials that ended since then are repeated. Ray's default is at least ten
seconds."""
_MAX_FAILURES_ON_CLUSTER = 8
"""How often a trial on a cluster may fail before it is left out. A node that dies can fail each call that its trial waits for."""
_STATE_FILES = ("experiment_state-*.json", "searcher-state-*.pkl", "tuner.pkl")


def search_models(
    train: Examples,
    validation: Examples,
    params: SearchParams,
    state_path: Path,
    *,
    known: Sequence[Candidate] = (),
    callbacks: Sequence[Any] = (),
    ray_address: str | None = None,
) -> SearchResult:
    """Search families and parameters for the highest AUROC on the validation side.

    If a search with this state was interrupted, it is resumed, or starts over if its state is damaged. It ends after the time
    budget, but not before one trial is complete.

    Args:
        train: cross-fitted examples of training patients.
        validation: examples of other patients.
        params: families, budgets and seed.
        state_path: folder of the state until the search is complete: local, or shared by all nodes of the cluster.
        known: candidates of the champion's search, best first. With them, the search is a retraining: the first
            `retrain_families` of them are tried first, after the preferred family's first parameters, and only their families and
            the preferred one are searched.
        callbacks: Ray Tune callbacks, for instance one that logs to MLflow.
        ray_address: see `ray_runtime`.

    Raises:
        NotEnoughData: no trial could be completed.
        ClusterError: the cluster failed. The next call resumes the search.
    """
    known = known[: params.retrain_families]
    families = tuple(dict.fromkeys([params.families[0], *(c.family for c in known)])) if known else params.families
    points = [first_candidate(family).as_point for family in families]
    if known:
        points = [points[0], *(point for c in known if (point := c.as_point) != points[0])]
    incumbents = incumbents_of(known, params)
    noise = _NOISE / max(1, int(validation.label.sum())) ** 0.5
    with ray_runtime(ray_address):
        from ray import tune

        from healthpredict.training.budget import TimeBudget
        from healthpredict.training.head_watch import HeadWatch

        watching = [HeadWatch(ray_address)] if ray_address else []
        trainable = tune.with_resources(
            tune.with_parameters(_trial, train=train, validation=validation, seed=params.seed), {"cpu": 1}
        )
        # Ray reads this setting from the environment only.
        os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", _SECONDS_BETWEEN_STATES)
        result = _resume(state_path, trainable, incumbents, noise) if state_path.exists() else None
        if result is None:
            tuner = tune.Tuner(
                trainable,
                tune_config=_tune_config(families, points, params, retraining=bool(known), reuse=ray_address is None),
                run_config=tune.RunConfig(
                    name=state_path.name,
                    storage_path=str(state_path.parent.resolve()),
                    stop=TimeBudget(params.retrain_time_budget_seconds if known else params.time_budget_seconds, STEPS),
                    verbose=0,
                    callbacks=[*callbacks, *watching],
                    failure_config=tune.FailureConfig(max_failures=_MAX_FAILURES_ON_CLUSTER if ray_address else 0),
                ),
            )
            result = _search_result(tuner.fit(), incumbents, noise)
    shutil.rmtree(state_path, ignore_errors=True)
    return result


def _resume(state: Path, trainable: Any, incumbents: list[Candidate], noise: float) -> SearchResult | None:
    """Resume an interrupted search.

    Returns: None if its saved state was damaged and has been removed.

    Raises:
        NotEnoughData: no trial could be completed.
        ClusterError, RayError: the cluster failed.
    """
    from ray import tune
    from ray.exceptions import RayError

    try:
        _check_state(state)
        tuner = tune.Tuner.restore(str(state), trainable, resume_unfinished=True, restart_errored=True)
        return _search_result(tuner.fit(), incumbents, noise)
    except (NotEnoughData, ClusterError, RayError):
        raise
    except Exception as error:
        # A damaged pickle can raise anything. If the search itself is at fault, the new search raises the error again.
        _logger.warning(
            "The saved state of the search in %s is damaged (%s); it starts over.", state, type(error).__name__
        )
        if state.is_dir():
            shutil.rmtree(state)
        else:
            state.unlink(missing_ok=True)
        return None


def _check_state(state: Path) -> None:
    """Check the files of a saved search. If one is damaged, Ray itself would often only log a traceback and lose the trials.

    Raises:
        Exception: of any class, if a file is damaged or missing.
    """
    from ray import cloudpickle

    required = {pattern: list(state.glob(pattern)) for pattern in _STATE_FILES}
    if missing := [pattern for pattern, paths in required.items() if not paths]:
        raise FileNotFoundError(", ".join(missing))
    # Callbacks without a state leave no file.
    for path in chain(*required.values(), state.glob("callback-states-*.pkl")):
        data = path.read_bytes()
        json.loads(data) if path.suffix == ".json" else cloudpickle.loads(data)


def _tune_config(
    families: Sequence[FamilyName], points: list[dict[str, Any]], params: SearchParams, *, retraining: bool, reuse: bool
) -> Any:
    import optuna
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = partial(_space, tuple(families))
    return tune.TuneConfig(
        metric=METRIC,
        mode="max",
        # The default sampler of Optuna is TPE (Bergstra et al. 2011).
        search_alg=OptunaSearch(space, points_to_evaluate=points, seed=params.seed, metric=METRIC, mode="max"),
        scheduler=ASHAScheduler(max_t=STEPS, grace_period=_GRACE_STEPS, reduction_factor=_REDUCTION),
        num_samples=max(params.retrain_n_trials if retraining else params.n_trials, len(points)),
        max_concurrent_trials=params.max_concurrent or 0,
        # Starting a process for each trial would cost more than the trial. A cluster does so nevertheless: if a node dies while a
        # trial waits there for a used process, Ray counts two failures at once and drops that trial.
        reuse_actors=reuse,
    )


def _space(families: tuple[FamilyName, ...], trial: Any) -> None:
    FAMILIES[trial.suggest_categorical("family", families)].suggest(trial)


def _trial(config: dict[str, Any], train: Examples, validation: Examples, seed: int) -> None:
    from ray import tune

    family = FAMILIES[config["family"]]
    prefix = f"{family.name}."
    chosen = {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}
    watch = Watch(validation, lambda step, auroc: tune.report({METRIC: auroc, "step": step}))
    family.fit(chosen, train, watch, seed)


def _search_result(results: Any, incumbents: list[Candidate], noise: float) -> SearchResult:
    tried: dict[str, list[Candidate]] = {}
    reported = [r for r in results if r.metrics and METRIC in r.metrics]
    for result in reported:
        config = result.config
        family = config["family"]
        candidate = Candidate(
            family=family,
            params={key.removeprefix(f"{family}."): value for key, value in config.items() if key != "family"},
            validation_auroc=result.metrics[METRIC],
            steps=result.metrics["step"],
        )
        tried.setdefault(family, []).append(candidate)
    for family, error in {r.config["family"]: r.error for r in results if r.error}.items():
        if family not in tried:
            _logger.warning("No trial of %s succeeded, so the search leaves it out: %s", family, _last_line(error))
    if not tried:
        raise NotEnoughData(
            f"None of {len(results)} trials reported before the search ended. Give it more time "
            "(HEALTHPREDICT_SEARCH__TIME_BUDGET_SECONDS), or see the errors of the trials in the log."
        )
    ranked = sorted((max(candidates, key=_rank) for candidates in tried.values()), key=_rank, reverse=True)
    failed = [result.config for result in results if result.error]
    finalists = [
        next((c for c in tried.get(incumbent.family, []) if c.as_point == incumbent.as_point), incumbent)
        for incumbent in incumbents
        if incumbent.as_point not in failed
    ]
    highest = max((c.validation_auroc for c in finalists if c.steps == STEPS), default=-math.inf)
    if ranked[0] not in finalists and ranked[0].validation_auroc - highest > noise:
        finalists.append(ranked[0])
    return SearchResult(
        candidates=tuple(ranked),
        finalists=tuple(finalists),
        trials=len(reported),
        stopped_early=sum(r.metrics["step"] < STEPS for r in reported),
    )


def _rank(candidate: Candidate) -> tuple[int, float]:
    """Return a key that ranks a complete trial above one that was stopped early: its result is final."""
    return candidate.steps, candidate.validation_auroc


def _last_line(error: Exception) -> str:
    """Return the message of an error without the traceback of the trial's process, which precedes it."""
    return next(iter(str(error).strip().splitlines()[-1:]), type(error).__name__)
