"""The difference between two AUROCs on the same encounters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from healthpredict.evaluation.interval import Floats, Interval, Outcomes, normal_interval
from healthpredict.evaluation.metrics import auroc, require_two_classes


def auroc_gain(label: Outcomes, risk: Floats, other_risk: Floats, patient_id: NDArray[np.int64]) -> Interval:
    """Return the AUROC of `risk` minus that of `other_risk` on the same encounters, with its paired interval.

    The standard error is that of DeLong et al. 1988 (doi 10.2307/2531595) for encounters in clusters, here the patients
    (Obuchowski 1997, doi 10.2307/2533958).

    Raises:
        NotEnoughData: no rows, or one class only.
    """
    difference = _influence(label, risk) - _influence(label, other_risk)
    return normal_interval(auroc(label, risk) - auroc(label, other_risk), clustered_error(difference, patient_id))


def clustered_error(influence: Floats, patient_id: NDArray[np.int64]) -> float:
    """Return the standard error of an estimate from the influence of each encounter on it, shape (n_encounters,)."""
    _, patient = np.unique(patient_id, return_inverse=True)
    return float(np.sqrt((np.bincount(patient, influence) ** 2).sum()))


def _influence(label: Outcomes, risk: Floats) -> Floats:
    """Return the influence of each encounter on the AUROC, shape (n_encounters,). Ties count half."""
    require_two_classes(label)
    readmitted = np.asarray(label, dtype=np.float64)
    influence = np.zeros(len(label))
    order = np.argsort(risk, kind="stable")
    ascending = risk[order]
    for weight, other, above in ((readmitted, 1 - readmitted, True), (1 - readmitted, readmitted, False)):
        rows = np.flatnonzero(weight)
        below = np.concatenate([[0.0], np.cumsum(other[order])])
        ends = (np.searchsorted(ascending, risk[rows], side) for side in ("left", "right"))
        share_below = sum(below[end] for end in ends) / 2 / below[-1]
        ordered = share_below if above else 1 - share_below
        of_class = weight[rows]
        influence[rows] += of_class * (ordered - (of_class * ordered).sum() / of_class.sum()) / of_class.sum()
    return influence
