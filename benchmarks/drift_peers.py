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

from benchmarks.drift_classifier import DomainClassifier
from benchmarks.drift_population import Population
from healthpredict.data.contract import FEATURE_COLUMNS
from healthpredict.monitoring.data_drift import compare, count_batch, count_values
from healthpredict.monitoring.distances import Counts, Method, Values, chi_squared, kolmogorov_smirnov, psi
from healthpredict.monitoring.null import effective_size
from healthpredict.monitoring.profile import NUMBERS
from healthpredict.operations.dataset import LABEL

OURS = "ours"
PEERS = (
    "distance > .1 (Evidently)",
    "data set (Evidently)",
    "p < .05",
    "p < .05 Bonferroni",
    "PSI > .2",
    "univariate (NannyML)",
    "reconstruction (NannyML)",
    "CBPE (NannyML)",
    "MMD (hyppo)",
    "domain classifier (LightGBM)",
)
SLOW = PEERS[5:]
"""They score many batches at once, beside the others; see `judge_by_slow_peers`."""
_LARGEST_AUROC = 0.65
"""NannyML's limit of a domain classifier."""
_FOLDER = Path(__file__).parent
_PYTHON = _FOLDER.parent / ".venv-peers" / "bin" / "python"


def judge(population: Population, batch: pd.DataFrame) -> dict[str, float]:
    """Score a batch, with the column `risk`, by every detector except `SLOW`."""
    counts = count_batch(population.profile, batch, batch["risk"].to_numpy())
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


def judge_by_slow_peers(
    population: Population, batches: Mapping[int, Sequence[pd.DataFrame]]
) -> dict[int, list[dict[str, float]]]:
    """Score batches by NannyML at its defaults, by MMD, and by a domain classifier.

    NannyML's limits come from the variation between chunks of the reference.

    Args:
        population: the reference.
        batches: rows of a batch -> batches of that size, with the column `risk`.
    """
    features = [column.field for column in FEATURE_COLUMNS]
    reference = population.training[features].reset_index(drop=True)
    classifier = DomainClassifier(reference)
    with tempfile.TemporaryDirectory() as folder:
        reference.assign(
            risk=population.fitted.out_of_fold_risk, label=population.training[LABEL].to_numpy()
        ).to_parquet(Path(folder, "reference.parquet"))
        for rows, of in batches.items():
            pd.concat(of)[[*features, "risk"]].to_parquet(Path(folder, f"{rows}.parquet"))
        running = [_start(script, folder) for script in ("drift_nannyml.py", "drift_mmd.py")]
        found = {
            rows: [{SLOW[-1]: (classifier.auroc(batch) - 0.5) / (_LARGEST_AUROC - 0.5)} for batch in of]
            for rows, of in batches.items()
        }
        for process in running:
            shown, _ = process.communicate()
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, process.args)
            for rows, by_peer in json.loads(shown).items():
                for into, scores in zip(found[int(rows)], pd.DataFrame(by_peer).to_dict("records"), strict=True):
                    into.update(scores)
    return found


def _start(script: str, folder: str) -> subprocess.Popen[str]:
    """Start a script with one thread, because three processes run at a time."""
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    # NannyML warns that a reference has few chunks of 8,000 rows.
    command = [_PYTHON, "-W", "ignore::UserWarning", _FOLDER / script, folder]
    environment = os.environ | one_thread | {"NML_DISABLE_USAGE_LOGGING": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


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
