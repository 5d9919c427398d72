"""`make bench-drift`: how often drift is found where there is none, and where some was planted, into `results/drift.json`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from benchmarks.drift_shifts import SHIFTS, STRENGTHS
from benchmarks.results import FOLDER, Target, at_least, at_most, conditions, write
from healthpredict.config import Settings, quiet_vendors
from healthpredict.data.split import Side, side_of
from healthpredict.monitoring.distances import Floats, Method, jensen_shannon, wasserstein
from healthpredict.monitoring.profile import METHODS, ReferenceProfile, build_profile, comparable
from healthpredict.operations.dataset import LABEL, arrived_batches
from healthpredict.operations.prepare import prepare
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.training.families import FAMILIES
from healthpredict.training.fit import FittedModel, fit_model
from healthpredict.training.search import Candidate

FAMILY = "lightgbm"
SPLITS, BATCHES_A_SPLIT = 10, 50
SIZES = (500, 2000, 8000)
POWER_ROWS, POWER_BATCHES = 2000, 5
"""Batches a shift, a strength and a split."""
PEERS = (
    "evidently distance > .1",
    "evidently data set",
    "p < .05",
    "p < .05 Bonferroni",
    "PSI > .2",
    "nannyml JS > .1",
)
OURS = "ours"


@dataclass(frozen=True)
class Hospital:
    """A reference with its champion, and encounters of other patients of the same time.

    Attributes:
        profile: as the bundle of the champion holds it.
        fitted: the champion.
        reference: counts of every value, by column.
        others: encounters to draw batches from.
    """

    profile: ReferenceProfile
    fitted: FittedModel
    others: pd.DataFrame

    def judge(self, batch: pd.DataFrame) -> dict[str, float]:
        """How alarming a batch is, by detector: from 1 on it raises an alarm."""
        current = self.profile.recognise(comparable(batch, self.fitted.risks(batch)))
        columns = [_column(self.profile, name, current[name]) for name in METHODS]
        distances = np.array([_distance(*column) for column in columns])
        limits = np.array([self.profile.limit(name, len(batch)) for name in METHODS])
        # The peers look at the features, as their users set them up.
        features = columns[:-1]
        p = np.array([_p_value(*column) for column in features])
        psi = np.array([_psi(values, reference, counts) for values, reference, counts in features])
        # NannyML compares numbers, too, by their Jensen-Shannon distance, in bins.
        binned = np.array([jensen_shannon(*_binned(*column)) for column in features])
        return {
            OURS: float((distances / limits).max()),
            PEERS[0]: float(distances[:-1].max() / 0.1),
            PEERS[1]: float((distances[:-1] >= 0.1).mean() / 0.5),
            PEERS[2]: 0.05 / max(float(p.min()), 1e-300),
            PEERS[3]: 0.05 / len(p) / max(float(p.min()), 1e-300),
            PEERS[4]: float(psi.max() / 0.2),
            PEERS[5]: float(binned.max() / 0.1),
        }


def build_hospital(encounters: pd.DataFrame, number: int, settings: Settings) -> Hospital:
    """Give one random half of the patients to the reference; no patient of the other half is known to the champion."""
    patients = encounters["patient_id"].unique()
    chosen = np.random.default_rng(number).permutation(patients)[: len(patients) // 2]
    half = encounters["patient_id"].isin(chosen)
    known, others = encounters[half].reset_index(drop=True), encounters[~half].reset_index(drop=True)
    test = side_of(known["patient_id"].to_numpy()) == Side.TEST
    training = known[~test]
    candidate = Candidate(family=FAMILY, params=dict(FAMILIES[FAMILY].first), validation_auroc=0.5, steps=1)
    fitted = fit_model(candidate, training, training[LABEL].to_numpy(), seed=number)
    profile = build_profile(
        training,
        risk=fitted.out_of_fold_risk,
        unseen_risk=fitted.risks(known[test]),
        patient_id=training["patient_id"].to_numpy(),
        policy=settings.drift,
        seed=number,
    )
    return Hospital(profile, fitted, others)


def draw(encounters: pd.DataFrame, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Whole patients in random order until there are enough encounters, without replacement."""
    order = rng.permutation(encounters["patient_id"].unique())
    place = pd.Series(np.arange(len(order)), index=order)
    return encounters.iloc[np.argsort(place[encounters["patient_id"]].to_numpy(), kind="stable")[:rows]]


def measure(encounters: pd.DataFrame, settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores of batches without drift, and with each planted shift, of all splits together."""
    quiet: dict[int, list[dict[str, float]]] = {size: [] for size in SIZES}
    planted: dict[str, list[dict[str, float]]] = {}
    for number in range(SPLITS):
        hospital = build_hospital(encounters, number, settings)
        rng = np.random.default_rng(1000 + number)
        for size in SIZES:
            quiet[size] += [hospital.judge(draw(hospital.others, size, rng)) for _ in range(BATCHES_A_SPLIT)]
        for name, shift in SHIFTS.items():
            for strength in STRENGTHS:
                for _ in range(POWER_BATCHES):
                    batch = shift(draw(hospital.others, POWER_ROWS, rng).reset_index(drop=True), strength, rng)
                    planted.setdefault(f"{name} {strength}", []).append(hospital.judge(batch))
        print(f"split {number + 1} of {SPLITS}", flush=True)
    return _false_alarms(quiet), _power(quiet[POWER_ROWS], planted)


def _false_alarms(quiet: dict[int, list[dict[str, float]]]) -> dict[str, Any]:
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
    return found


def _power(quiet: list[dict[str, float]], planted: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Share of shifted batches found when every detector is set to 5 % false alarms, whatever its own limit is."""
    limits = pd.DataFrame(quiet).quantile(0.95)
    return {
        name: {"batches": len(scores), **(pd.DataFrame(scores) > limits).mean().to_dict()}
        for name, scores in planted.items()
    }


def targets_of_false_alarms(found: dict[str, Any]) -> list[Target]:
    return [at_most(f"false alarms in batches of {size}", of[OURS], of["interval_high"]) for size, of in found.items()]


def targets_of_power(found: dict[str, Any]) -> list[Target]:
    best = {name: max(of[peer] for peer in PEERS) for name, of in found.items()}
    worst = min(of[OURS] - best[name] for name, of in found.items())
    joint = [of[OURS] - best[name] for name, of in found.items() if name.startswith("joint")]
    return [
        at_least("power, ours minus the best peer, worst shift", worst, 0.0),
        at_least("the same, best of the joint shifts", max(joint), 1e-9),
    ]


def _column(profile: ReferenceProfile, name: str, values: pd.Series) -> tuple[Any, NDArray[Any], NDArray[Any]]:
    """Distinct values (numbers; None for categories) and how often each occurs in the reference and in the batch."""
    column = profile.columns[name]
    is_number = column.method is Method.WASSERSTEIN
    known = pd.Series(column.counts)
    known.index = known.index.astype(float if is_number else str)
    current = values.value_counts()
    current.index = current.index.astype(float if is_number else str)
    support = known.index.union(current.index).sort_values()
    reference, counts = (of.reindex(support, fill_value=0).to_numpy() for of in (known, current))
    return (support.to_numpy() if is_number else None), reference, counts


def _distance(values: Floats | None, reference: NDArray[Any], counts: NDArray[Any]) -> float:
    if values is None:
        return float(jensen_shannon(reference, counts))
    return float(wasserstein(values, reference, counts))


def _p_value(values: Floats | None, reference: NDArray[Any], counts: NDArray[Any]) -> float:
    """Kolmogorov-Smirnov for numbers, chi-squared for categories, as the usual monitors test them."""
    if values is None:
        seen = (reference + counts) > 0
        if seen.sum() < 2:
            return 1.0
        return float(stats.chi2_contingency(np.stack([reference[seen], counts[seen]]), correction=False).pvalue)
    n, m = reference.sum(), counts.sum()
    statistic = np.abs(np.cumsum(reference) / n - np.cumsum(counts) / m).max()
    return float(stats.kstwobign.sf(statistic * np.sqrt(n * m / (n + m))))


def _binned(values: Floats | None, reference: NDArray[Any], counts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Numbers in ten bins of equal share of the reference; categories as they are."""
    if values is None:
        return reference, counts
    shares = np.cumsum(reference) / reference.sum()
    bins = np.minimum((np.concatenate([[0.0], shares[:-1]]) * 10).astype(int), 9)
    return np.bincount(bins, reference, minlength=10), np.bincount(bins, counts, minlength=10)


def _psi(values: Floats | None, reference: NDArray[Any], counts: NDArray[Any]) -> float:
    expected, actual = _binned(values, reference, counts)
    # As usual, an empty cell counts as one in ten thousand.
    p, q = (np.maximum(of / of.sum(), 1e-4) for of in (expected, actual))
    return float(((q - p) * np.log(q / p)).sum())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("HEALTHPREDICT_TEST_DATA"), help="default: the UCI archive")
    parser.add_argument("--result", type=Path, default=FOLDER / "drift.json")
    options = parser.parse_args()
    quiet_vendors()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_uri=f"{folder}/data", state_path=Path(folder))
        prepared = prepare(settings, options.data)
        encounters = _everything(settings)
    false_alarms, power = measure(encounters, settings)
    about = conditions(source=Path(prepared.source).name, sha256=prepared.sha256, splits=SPLITS, model=FAMILY)
    passed = [
        write(options.result, "false_alarms", false_alarms, targets_of_false_alarms(false_alarms), about),
        write(options.result, "power", power, targets_of_power(power), about),
    ]
    return 0 if all(passed) else 1


def _everything(settings: Settings) -> pd.DataFrame:
    from healthpredict.operations.accept_batch import accept_batch

    names = arrived_batches(settings)
    for name in names:
        accept_batch(settings, name)
    return read_labelled(settings, names)


if __name__ == "__main__":
    sys.exit(main())
