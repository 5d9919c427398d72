"""The usual detectors in their usual settings. They score a batch; a score of 1 or more is an alarm."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from benchmarks.drift_population import Population
from healthpredict.data.contract import FEATURE_COLUMNS
from healthpredict.monitoring.data_drift import compare, count_batch, count_values
from healthpredict.monitoring.distances import Counts, Method, Values, chi_squared, kolmogorov_smirnov, psi
from healthpredict.monitoring.null import effective_size
from healthpredict.monitoring.profile import NUMBERS

OURS = "ours"
PEERS = (
    "distance > .1 (Evidently)",
    "data set (Evidently)",
    "p < .05",
    "p < .05 Bonferroni",
    "PSI > .2",
    "univariate (NannyML)",
)
_ELSEWHERE = PEERS[5]
"""It runs in a separate environment for many batches at once, see `judge_by_nannyml`."""
_FOLDER = Path(__file__).parent
_PYTHON = _FOLDER.parent / ".venv-nannyml" / "bin" / "python"


def judge(population: Population, batch: pd.DataFrame) -> dict[str, float]:
    """Score a batch by every detector except NannyML."""
    counts = count_batch(population.profile, batch, population.fitted.risks(batch))
    drift = compare(population.profile, counts)
    # The peers compare features only.
    counted = {name: count_values(population.profile, name, counts.occurrences[name]) for name in drift.features}
    # Evidently's defaults above 1,000 rows: Wasserstein and Jensen-Shannon distances of at least .1.
    default = (Method.WASSERSTEIN, Method.JENSEN_SHANNON)
    distances = np.array([column.score for column in drift.columns if column.method in default])
    p = _p_values(counted)
    smallest = max(float(p.min()), 1e-300)
    return {
        OURS: max(column.severity for column in (*drift.columns, *drift.joint, *drift.prediction)),
        PEERS[0]: float(distances.max() / 0.1),
        PEERS[1]: float((distances >= 0.1).mean() / 0.5),
        PEERS[2]: 0.05 / smallest,
        PEERS[3]: 0.05 / len(p) / smallest,
        PEERS[4]: float(max(psi(*of) for of in counted.values()) / 0.2),
    }


def judge_by_nannyml(
    population: Population, batches: Mapping[int, Sequence[pd.DataFrame]]
) -> dict[int, list[dict[str, float]]]:
    """Score batches by NannyML at its defaults. Its limits come from the variation between chunks of the reference.

    Args:
        population: the reference.
        batches: rows of a batch -> batches of that size.
    """
    features = [column.field for column in FEATURE_COLUMNS]
    with tempfile.TemporaryDirectory() as folder:
        population.training[features].to_parquet(Path(folder, "reference.parquet"))
        for rows, of in batches.items():
            pd.concat(of)[features].to_parquet(Path(folder, f"{rows}.parquet"))
        shown = subprocess.run(
            [_PYTHON, _FOLDER / "drift_nannyml.py", folder],
            env=os.environ | {"NML_DISABLE_USAGE_LOGGING": "1"},
            check=True,
            stdout=subprocess.PIPE,
        )
    return {int(rows): [{_ELSEWHERE: score} for score in of] for rows, of in json.loads(shown.stdout).items()}


def _p_values(counted: Mapping[str, tuple[Values, Counts, Counts]]) -> NDArray[np.float64]:
    """Kolmogorov-Smirnov for numbers, chi-squared for categories, as the usual monitors test them."""
    distance, size, freedom = np.array(
        [
            (
                (kolmogorov_smirnov if name in NUMBERS else chi_squared)(reference, counts),
                effective_size(counts.sum(), reference.sum()),
                0 if name in NUMBERS else np.count_nonzero(reference + counts) - 1,
            )
            for name, (_, reference, counts) in counted.items()
        ]
    ).T
    # A single category has no degree of freedom and raises no alarm.
    of_categories = np.where(freedom > 0, stats.chi2.sf(distance**2 * size, np.maximum(freedom, 1)), 1.0)
    numbers = np.array([name in NUMBERS for name in counted])
    return np.where(numbers, stats.kstwobign.sf(distance * np.sqrt(size)), of_categories)
