"""`make bench-drift`: false alarms, power, policy, alarms, updates and the estimate before outcomes, into `results/drift.json`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.drift_alarms import measure_alarms
from benchmarks.drift_peers import OURS, PEERS, judge, judge_by_slow_peers
from benchmarks.drift_policy import build_timeline, measure_estimate, measure_policy
from benchmarks.drift_population import FAMILY, Population, build_population, draw
from benchmarks.drift_shifts import SHIFTS, STRENGTHS, shift
from benchmarks.drift_updates import measure_updates
from benchmarks.memory import peak_rss_mb
from benchmarks.results import FOLDER, Stopwatch, Target, at_least, at_most, conditions, write
from healthpredict.config import Settings, quiet_vendors
from healthpredict.data.plant import Shift, apply_shift
from healthpredict.monitoring.data_drift import detect_data_drift
from healthpredict.monitoring.evidently_page import evidently_page
from healthpredict.operations.accept_batch import accept_batch
from healthpredict.operations.accept_outcomes import accept_outcomes
from healthpredict.operations.arrivals import find_batch
from healthpredict.operations.dataset import arrived_batches
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare
from healthpredict.operations.read_labelled import read_labelled

SPLITS, BATCHES_A_SPLIT = 10, 25
"""Batches of one split share a reference and a pool of patients, so many splits with few batches are more informative. Ten splits
take about 40 minutes on two cores; half of the time is that of the domain classifier."""
SIZES = (500, 2000, 8000)
POWER_ROWS = 2000
POWER_BATCHES = dict(zip(STRENGTHS, (10, 2, 1), strict=True))
"""Batches per shift and split. Most are at the strength at which detectors differ."""
GRADUAL_BATCHES, GRADUAL_STRENGTH = 10, 0.5
"""A shift grows to this strength over this number of batches, in equal steps, in every third split."""
SHUFFLES = 10
COST_ROWS = (8_000, 1_000_000, 10_000_000)
Scores = list[dict[str, float]]


@dataclass
class Found:
    """Scores of all splits so far.

    Attributes:
        quiet: rows of a batch -> of batches without drift.
        planted: shift and strength -> of batches of `POWER_ROWS`.
        gradual: shift -> of batches in which it grows, `GRADUAL_BATCHES` a split.
    """

    quiet: dict[int, Scores] = field(default_factory=lambda: {size: [] for size in SIZES})
    planted: dict[str, Scores] = field(default_factory=dict)
    gradual: dict[str, Scores] = field(default_factory=dict)


def plan(found: Found, number: int) -> Iterator[tuple[Scores, int, Shift | None]]:
    """The batches of a split: where their scores go, their rows, and what is planted into them."""
    for size in SIZES:
        for _ in range(BATCHES_A_SPLIT):
            yield found.quiet[size], size, None
    for name in SHIFTS:
        for strength in STRENGTHS:
            for _ in range(POWER_BATCHES[strength]):
                yield found.planted.setdefault(f"{name} {strength}", []), POWER_ROWS, shift(name, strength)
        for step in range(1, GRADUAL_BATCHES + 1) if number % 3 == 0 else ():
            grown = shift(name, GRADUAL_STRENGTH * step / GRADUAL_BATCHES)
            yield found.gradual.setdefault(name, []), POWER_ROWS, grown


@dataclass(frozen=True)
class Judged:
    """The batches of a split, by their rows: the list that the scores of each go to, the quick scores, and the coming slow ones."""

    quick: dict[int, list[tuple[Scores, dict[str, float]]]]
    by_slow_peers: Future[dict[int, list[dict[str, float]]]]

    def keep(self) -> None:
        """Add the scores to those of earlier splits."""
        for size, more in self.by_slow_peers.result().items():
            for (into, scores), of in zip(self.quick[size], more, strict=True):
                into.append(scores | of)


def measure(encounters: pd.DataFrame, settings: Settings, splits: int) -> Iterator[Found]:
    """Score batches without drift, with each planted shift, and with each growing one, split by split."""
    found = Found()
    waiting: list[Judged] = []
    with ThreadPoolExecutor(1) as elsewhere:
        for number in range(splits):
            population = build_population(encounters, number, settings)
            rng = np.random.default_rng(1000 + number)
            batches: dict[int, list[pd.DataFrame]] = {size: [] for size in SIZES}
            quick: dict[int, list[tuple[Scores, dict[str, float]]]] = {size: [] for size in SIZES}
            for into, size, change in plan(found, number):
                # Drawn from a shifted population: encounters that replace others in a batch would be copies of others in it,
                # and a domain classifier detects copies.
                others = apply_shift(population.others, change, rng) if change else population.others
                batch = draw(others, size, rng)
                batch["risk"] = population.fitted.risks(batch)
                batches[size].append(batch)
                quick[size].append((into, judge(population, batch)))
            # The slow peers take as long as everything else, so they judge this split while the next one is drawn.
            waiting.append(Judged(quick, elsewhere.submit(judge_by_slow_peers, population, batches)))
            while len(waiting) > (1 if number + 1 < splits else 0):
                waiting.pop(0).keep()
                shares = {size: float((pd.DataFrame(of)[OURS] >= 1).mean()) for size, of in found.quiet.items()}
                done = len(found.quiet[POWER_ROWS]) // BATCHES_A_SPLIT
                print(f"split {done} of {splits}; false alarms so far {shares}", flush=True)
                yield found


def false_alarms(quiet: dict[int, Scores]) -> tuple[dict[str, Any], list[Target]]:
    """Share of batches without drift that raise any alarm, and the range within chance for independent batches at 5 %."""
    found: dict[str, Any] = {}
    targets = []
    for size, scores in quiet.items():
        frame = pd.DataFrame(scores)
        low, high = np.array(stats.binom.interval(0.95, len(frame), 0.05)) / len(frame)
        alarms = frame >= 1
        of_splits = alarms[OURS].to_numpy().reshape(-1, BATCHES_A_SPLIT).mean(axis=1)
        found[str(size)] = {
            "batches": len(frame),
            "interval_low": float(low),
            "interval_high": float(high),
            # Batches of one split are not independent.
            "standard_error_over_splits": float(stats.sem(of_splits)) if len(of_splits) > 1 else None,
            **alarms.mean().to_dict(),
        }
        rate = found[str(size)][OURS]
        targets.append(at_least(f"false alarms in batches of {size}, lower end", rate, float(low)))
        targets.append(at_most(f"false alarms in batches of {size}, upper end", rate, float(high)))
    return found, targets


def power(quiet: Scores, planted: dict[str, Scores]) -> tuple[dict[str, Any], list[Target]]:
    """Share of shifted batches that are detected if every detector is set to 5 % false alarms, whatever its own limit is.

    All detectors see the same batches, so the interval is that of the difference between them over splits. Ours is compared with
    each peer separately, because the largest of ten measured shares is too large by chance.
    """
    limits = pd.DataFrame(quiet).quantile(0.95)
    splits = len(quiet) // BATCHES_A_SPLIT
    found: dict[str, Any] = {}
    for name, scores in planted.items():
        hits = (pd.DataFrame(scores) > limits).astype(float)
        ahead = hits[list(PEERS)].rsub(hits[OURS], axis=0)
        of_splits = ahead.groupby(np.arange(len(ahead)) * splits // len(ahead)).mean()
        # With one split, there is no error between splits.
        half = stats.t.ppf(0.975, splits - 1) * of_splits.sem() if splits > 1 else 1.0
        best = ahead.mean().idxmin()
        found[name] = {
            "batches": len(hits),
            **hits.mean().to_dict(),
            "best peer": best,
            "ahead": float(ahead[best].mean()),
            "ahead_low": float((ahead.mean() - half)[best]),
            # The smallest over all peers: below 0 if any of them is better by more than chance.
            "ahead_high": float((ahead.mean() + half).min()),
        }
    joint = [of["ahead"] for name, of in found.items() if name.startswith("joint")]
    return found, [
        at_least(
            "power, ours minus each peer, upper end of the interval, worst shift",
            min(of["ahead_high"] for of in found.values()),
            0.0,
        ),
        at_least("power, ours minus the best peer, joint shifts, mean", float(np.mean(joint)), 0.1),
    ]


def delay(quiet: Scores, gradual: dict[str, Scores]) -> tuple[dict[str, Any], list[Target]]:
    """Mean number of batches until a growing shift is detected, at 5 % false alarms per batch; one more if it never is."""
    limits = pd.DataFrame(quiet).quantile(0.95)
    found = {}
    for name, scores in gradual.items():
        alarms = (pd.DataFrame(scores) > limits).to_numpy().reshape(-1, GRADUAL_BATCHES, len(limits))
        first = np.where(alarms.any(axis=1), alarms.argmax(axis=1) + 1, GRADUAL_BATCHES + 1)
        found[name] = {"runs": len(first), **dict(zip(limits.index, first.mean(axis=0).tolist(), strict=True))}
    ours = float(np.mean([of[OURS] for of in found.values()]))
    best = min(float(np.mean([of[peer] for of in found.values()])) for peer in PEERS)
    return found, [at_most("batches until a growing shift is found, mean, beside the best peer's", ours, best)]


def cost(population: Population) -> tuple[dict[str, Any], list[Target]]:
    """CPU seconds of one check with Evidently's page, after imports, and the memory of the process at its peak."""
    found: dict[str, dict[str, float]] = {}
    risks = population.fitted.risks(population.others)
    # The first check imports Evidently. The cheapest of four counts, because other work on the machine makes the others slower.
    for rows in (*(COST_ROWS[0],) * 4, *COST_ROWS[1:]):
        chosen = np.resize(np.arange(len(risks)), rows)
        batch, risk = population.others.iloc[chosen].reset_index(drop=True), risks[chosen]
        watch = Stopwatch()
        detect_data_drift(population.profile, batch, risk)
        evidently_page(population.profile, batch, risk)
        cpu, wall = watch.cpu, watch.wall
        if cpu <= found.get(str(rows), {}).get("cpu_s", cpu):
            found[str(rows)] = {
                "cpu_s": cpu,
                "wall_s": wall,
                "batch_mb": float(batch.memory_usage(deep=True).sum() / 2**20),
                "peak_rss_mb": peak_rss_mb(),
            }
    small, large, _ = (found[str(rows)] for rows in COST_ROWS)
    return found, [
        at_most("a check of 8,000 rows, CPU seconds", small["cpu_s"], 3),
        at_most("a check of 1,000,000 rows, CPU seconds", large["cpu_s"], 60),
        at_most("the same, peak memory of the process, MB", large["peak_rss_mb"], 4096),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("HEALTHPREDICT_TEST_DATA"), help="default: the UCI archive")
    parser.add_argument("--result", type=Path, default=FOLDER / "drift.json")
    parser.add_argument("--only", choices=["detection", "policy", "alarms", "updates", "cost"], help="default: all")
    parser.add_argument("--splits", type=int, default=SPLITS, help=f"of {BATCHES_A_SPLIT} batches; default: {SPLITS}")
    options = parser.parse_args()
    quiet_vendors()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_uri=f"{folder}/data", state_path=Path(folder))
        prepared = prepare(Installation(settings), options.data)
        batches = _batches(settings)
    about = conditions(source=Path(prepared.source).name, sha256=prepared.sha256, model=FAMILY)
    passed = []
    if options.only in (None, "cost"):
        population = build_population(pd.concat(batches.values(), ignore_index=True), 0, settings)
        passed.append(write(options.result, "cost", *cost(population), about))
    if options.only in (None, "updates"):
        population = build_population(pd.concat(batches.values(), ignore_index=True), 0, settings)
        passed.append(write(options.result, "updates", *measure_updates(population, settings), about))
    if options.only in (None, "detection"):
        everything = pd.concat(batches.values(), ignore_index=True)
        watch = Stopwatch()
        # After each split, so that an interrupted run leaves its results.
        for found in measure(everything, settings, options.splits):
            quiet = found.quiet[POWER_ROWS]
            minutes = round(watch.wall / 60, 1)
            detection = about | {"splits": len(quiet) // BATCHES_A_SPLIT, "minutes": minutes}
            kept = [
                write(options.result, "false_alarms", *false_alarms(found.quiet), detection),
                write(options.result, "power", *power(quiet, found.planted), detection),
                write(options.result, "delay", *delay(quiet, found.gradual), detection),
            ]
        passed += kept
    if options.only in (None, "policy"):
        real = build_timeline(batches, settings)
        without = build_timeline(_shuffled(batches), settings)
        passed.append(write(options.result, "policy", *measure_policy(real, without, settings), about))
        passed.append(write(options.result, "estimate", *measure_estimate(real), about))
    if options.only in (None, "alarms"):
        mixed = [build_timeline(_shuffled(batches, seed), settings) for seed in range(SHUFFLES)]
        passed.append(write(options.result, "alarms", *measure_alarms(build_timeline(batches, settings), mixed), about))
    return 0 if all(passed) else 1


def _batches(settings: Settings) -> dict[str, pd.DataFrame]:
    installation = Installation(settings)
    names = arrived_batches(installation)
    for name in names:
        accept_batch(installation, find_batch(installation, name))
    accept_outcomes(installation)
    return {name: read_labelled(installation, [name]).frame for name in names}


def _shuffled(batches: dict[str, pd.DataFrame], seed: int = 0) -> dict[str, pd.DataFrame]:
    """The same encounters with patients in random order, so that nothing drifts."""
    everything = pd.concat(batches.values(), ignore_index=True)
    mixed = draw(everything, len(everything), np.random.default_rng(seed))
    ends = np.cumsum([len(batch) for batch in batches.values()])
    return {
        name: mixed.iloc[end - len(batch) : end].reset_index(drop=True)
        for (name, batch), end in zip(batches.items(), ends, strict=True)
    }


if __name__ == "__main__":
    sys.exit(main())
