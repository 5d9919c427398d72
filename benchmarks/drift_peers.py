"""The usual detectors, as their users set them up: how alarming they find a batch. From 1 on they raise an alarm."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.drift_hospital import Hospital
from healthpredict.monitoring.data_drift import count_values, detect_data_drift
from healthpredict.monitoring.distances import (
    Counts,
    Method,
    Values,
    binned,
    jensen_shannon,
    kolmogorov_smirnov,
    psi,
)
from healthpredict.monitoring.profile import NUMBERS, RISK, comparable

OURS = "ours"
PEERS = (
    "distance > .1 (Evidently)",
    "data set (Evidently)",
    "p < .05",
    "p < .05 Bonferroni",
    "PSI > .2",
    "JS > .1 (NannyML)",
)


def judge(hospital: Hospital, batch: pd.DataFrame) -> dict[str, float]:
    """How alarming a batch is, by detector."""
    risk = hospital.fitted.risks(batch)
    drift = detect_data_drift(hospital.profile, batch, risk)
    current = comparable(batch, risk)
    # The peers look at the features only.
    counted = {name: count_values(hospital.profile, name, current[name]) for name in current if name != RISK}
    # Evidently's defaults above 1,000 rows: Wasserstein and Jensen-Shannon distances of at least .1.
    default = (Method.WASSERSTEIN, Method.JENSEN_SHANNON)
    distances = np.array([column.score for column in drift.columns if column.method in default])
    p = np.array([_p_value(name, *of) for name, of in counted.items()])
    smallest = max(float(p.min()), 1e-300)
    return {
        OURS: max(column.severity for column in (*drift.columns, *drift.joint, *drift.prediction)),
        PEERS[0]: float(distances.max() / 0.1),
        PEERS[1]: float((distances >= 0.1).mean() / 0.5),
        PEERS[2]: 0.05 / smallest,
        PEERS[3]: 0.05 / len(p) / smallest,
        PEERS[4]: float(max(psi(*of) for of in counted.values()) / 0.2),
        # NannyML compares numbers, too, by their Jensen-Shannon distance, in bins.
        PEERS[5]: float(max(_js(name, *of) for name, of in counted.items()) / 0.1),
    }


def _p_value(name: str, values: Values, reference: Counts, counts: Counts) -> float:
    """Kolmogorov-Smirnov for numbers, chi-squared for categories, as the usual monitors test them."""
    n, m = reference.sum(), counts.sum()
    if name in NUMBERS:
        return float(stats.kstwobign.sf(kolmogorov_smirnov(reference, counts) * np.sqrt(n * m / (n + m))))
    seen = (reference + counts) > 0
    if seen.sum() < 2:
        return 1.0
    return float(stats.chi2_contingency(np.stack([reference[seen], counts[seen]]), correction=False).pvalue)


def _js(name: str, values: Values, reference: Counts, counts: Counts) -> float:
    if name in NUMBERS:
        return float(jensen_shannon(binned(reference, reference), binned(reference, counts)))
    return float(jensen_shannon(reference, counts))
