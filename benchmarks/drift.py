"""`make bench-drift`: false alarms, power, policy and the estimate before outcomes, into `results/drift.json`."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.drift_hospital import FAMILY, Hospital, build_hospital, draw
from benchmarks.drift_peers import OURS, PEERS, judge
from benchmarks.drift_policy import build_timeline, measure_estimate, measure_policy
from benchmarks.drift_shifts import SHIFTS, STRENGTHS, shift
from benchmarks.results import FOLDER, Stopwatch, Target, at_least, at_most, conditions, write
from healthpredict.config import Settings, quiet_vendors
from healthpredict.data.plant import apply_shift
from healthpredict.monitoring.data_drift import detect_data_drift
from healthpredict.monitoring.evidently_page import evidently_page
from healthpredict.operations.accept_batch import accept_batch
from healthpredict.operations.dataset import arrived_batches
from healthpredict.operations.prepare import prepare
from healthpredict.operations.read_labelled import read_labelled

SPLITS, BATCHES_A_SPLIT = 10, 50
SIZES = (500, 2000, 8000)
POWER_ROWS, POWER_BATCHES = 2000, 5
"""Batches a shift, a strength and a split."""
COST_ROWS = (8_000, 1_000_000)
Scores = list[dict[str, float]]


def measure(
    encounters: pd.DataFrame, settings: Settings, splits: int
) -> Iterator[tuple[dict[int, Scores], dict[str, Scores]]]:
    """Scores of batches without drift, and with each planted shift, of all splits so far."""
    quiet: dict[int, Scores] = {size: [] for size in SIZES}
    planted: dict[str, Scores] = {}
    for number in range(splits):
        hospital = build_hospital(encounters, number, settings)
        rng = np.random.default_rng(1000 + number)
        for size in SIZES:
            quiet[size] += [judge(hospital, draw(hospital.others, size, rng)) for _ in range(BATCHES_A_SPLIT)]
        for name in SHIFTS:
            for strength in STRENGTHS:
                for _ in range(POWER_BATCHES):
                    batch = apply_shift(draw(hospital.others, POWER_ROWS, rng), shift(name, strength), rng)
                    planted.setdefault(f"{name} {strength}", []).append(judge(hospital, batch))
        shares = {size: float((pd.DataFrame(scores)[OURS] >= 1).mean()) for size, scores in quiet.items()}
        print(f"split {number + 1} of {splits}; false alarms so far {shares}", flush=True)
        yield quiet, planted


def false_alarms(quiet: dict[int, Scores]) -> tuple[dict[str, Any], list[Target]]:
    found: dict[str, Any] = {}
    for size, scores in quiet.items():
        frame = pd.DataFrame(scores)
        low, high = stats.binom.interval(0.95, len(frame), 0.05)
        found[str(size)] = {
            "batches": len(frame),
            "interval_low": float(low / len(frame)),
            "interval_high": float(high / len(frame)),
            **(frame >= 1).mean().to_dict(),
        }
    return found, [
        at_most(f"false alarms in batches of {size}", of[OURS], of["interval_high"]) for size, of in found.items()
    ]


def power(quiet: Scores, planted: dict[str, Scores]) -> tuple[dict[str, Any], list[Target]]:
    """Share of shifted batches found when every detector is set to 5 % false alarms, whatever its own limit is."""
    limits = pd.DataFrame(quiet).quantile(0.95)
    found = {
        name: {"batches": len(scores), **(pd.DataFrame(scores) > limits).mean().to_dict()}
        for name, scores in planted.items()
    }
    best = {name: max(of[peer] for peer in PEERS) for name, of in found.items()}
    behind = min(of[OURS] - best[name] + _noise(of[OURS], best[name], of["batches"]) for name, of in found.items())
    joint = [of[OURS] - best[name] for name, of in found.items() if name.startswith("joint")]
    return found, [
        at_least("power, ours minus the best peer, upper end of the interval, worst shift", behind, 0.0),
        at_least("power, ours minus the best peer, joint shifts, mean", float(np.mean(joint)), 0.1),
    ]


def _noise(ours: float, best: float, batches: int) -> float:
    """Half a 95 % interval of the difference of two shares."""
    variance = ours * (1 - ours) + best * (1 - best)
    return float(1.96 * np.sqrt(variance / batches) + 1 / batches)


def cost(hospital: Hospital) -> tuple[dict[str, Any], list[Target]]:
    """CPU seconds of one check with Evidently's page, after imports, and the memory of the process at its peak."""
    found = {}
    for rows in COST_ROWS:
        parts = [hospital.others] * (rows // len(hospital.others) + 1)
        batch = pd.concat(parts, ignore_index=True).head(rows)
        risk = hospital.fitted.risks(batch)
        for _ in range(2):
            watch = Stopwatch()
            detect_data_drift(hospital.profile, batch, risk)
            evidently_page(hospital.profile, batch, risk)
            found[str(rows)] = {
                "cpu_s": watch.cpu,
                "wall_s": watch.wall,
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
    small, large = (found[str(rows)] for rows in COST_ROWS)
    return found, [
        at_most("a check of 8,000 rows, CPU seconds", small["cpu_s"], 3),
        at_most("a check of 1,000,000 rows, CPU seconds", large["cpu_s"], 60),
        at_most("the same, peak memory of the process, MB", large["peak_rss_mb"], 4096),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("HEALTHPREDICT_TEST_DATA"), help="default: the UCI archive")
    parser.add_argument("--result", type=Path, default=FOLDER / "drift.json")
    parser.add_argument("--only", choices=["detection", "policy", "cost"], help="default: all")
    parser.add_argument("--splits", type=int, default=SPLITS, help=f"of {BATCHES_A_SPLIT} batches; default: {SPLITS}")
    options = parser.parse_args()
    quiet_vendors()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_uri=f"{folder}/data", state_path=Path(folder))
        prepared = prepare(settings, options.data)
        batches = _batches(settings)
    about = conditions(source=Path(prepared.source).name, sha256=prepared.sha256, model=FAMILY)
    passed = []
    if options.only in (None, "cost"):
        hospital = build_hospital(pd.concat(batches.values(), ignore_index=True), 0, settings)
        passed.append(write(options.result, "cost", *cost(hospital), about))
    if options.only in (None, "detection"):
        everything = pd.concat(batches.values(), ignore_index=True)
        # After each split, so that what was measured stays where the run is ended.
        for done, (quiet, planted) in enumerate(measure(everything, settings, options.splits), 1):
            detection = about | {"splits": done}
            kept = [
                write(options.result, "false_alarms", *false_alarms(quiet), detection),
                write(options.result, "power", *power(quiet[POWER_ROWS], planted), detection),
            ]
        passed += kept
    if options.only in (None, "policy"):
        real = build_timeline(batches, settings)
        still = build_timeline(_shuffled(batches), settings)
        passed.append(write(options.result, "policy", *measure_policy(real, still, settings), about))
        passed.append(write(options.result, "estimate", *measure_estimate(real), about))
    return 0 if all(passed) else 1


def _batches(settings: Settings) -> dict[str, pd.DataFrame]:
    names = arrived_batches(settings)
    for name in names:
        accept_batch(settings, name)
    return {name: read_labelled(settings, [name]) for name in names}


def _shuffled(batches: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The same encounters, patients in random order of time: nothing drifts."""
    everything = pd.concat(batches.values(), ignore_index=True)
    mixed = draw(everything, len(everything), np.random.default_rng(0))
    ends = np.cumsum([len(batch) for batch in batches.values()])
    return {
        name: mixed.iloc[end - len(batch) : end].reset_index(drop=True)
        for (name, batch), end in zip(batches.items(), ends, strict=True)
    }


if __name__ == "__main__":
    sys.exit(main())
