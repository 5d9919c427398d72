"""The difference between two AUROCs on the same encounters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from healthpredict.evaluation.interval import Floats, Interval, normal_interval
from healthpredict.evaluation.metrics import auroc, require_two_classes


def auroc_gain(label: NDArray[np.bool_], risk: Floats, other_risk: Floats, patient_id: NDArray[np.int64]) -> Interval:
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


def _influence(label: NDArray[np.bool_], risk: Floats) -> Floats:
    """Return the influence of each encounter on the AUROC, shape (n_encounters,). Ties count half."""
    require_two_classes(label)
    influence = np.empty(len(label))
    for same_class in (label, ~label):
        risks, other_class = risk[same_class], np.sort(risk[~same_class])
        n_below = (np.searchsorted(other_class, risks, "left") + np.searchsorted(other_class, risks, "right")) / 2
        share_below = n_below / len(other_class)
        ordered = share_below if same_class is label else 1 - share_below
        influence[same_class] = (ordered - ordered.mean()) / len(ordered)
    return influence
