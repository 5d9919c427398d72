"""From a candidate to a model that can be served: fitted on all training patients, calibrated on predictions it did not fit."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.bundle.manifest import Calibrator
from healthpredict.bundle.model import calibrate
from healthpredict.data.split import splitmix64
from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.metrics import auroc
from healthpredict.features.encoder import Encoder
from healthpredict.features.frame import N_FOLDS, encode_frame, fit_encoder
from healthpredict.training.families import FAMILIES, Examples, probability
from healthpredict.training.search import Candidate

T = TypeVar("T")


@dataclass(frozen=True)
class FittedModel:
    """A calibrated model with its encoder.

    Attributes:
        candidate: family and parameters.
        encoder: fitted on all training encounters.
        model: the vendor's, fitted on all training encounters.
        calibrator: fitted on out-of-fold predictions.
        out_of_fold_risk: calibrated, from models that the patient had no part in, shape (n_encounters,).
    """

    candidate: Candidate
    encoder: Encoder
    model: Any
    calibrator: Calibrator
    out_of_fold_risk: NDArray[np.float64]

    def risks(self, encounters: pd.DataFrame) -> NDArray[np.float64]:
        """Calibrated risk by the training pipeline, shape (n_encounters,): what a bundle has to reproduce."""
        return calibrate(self.calibrator, probability(self.model, encode_frame(self.encoder, encounters)))

    def threshold(self, alert_rate: float) -> float:
        """The risk that flags this share of encounters, by out-of-fold predictions."""
        return float(np.quantile(self.out_of_fold_risk, 1 - alert_rate))


def fit_model(
    candidate: Candidate,
    encounters: pd.DataFrame,
    label: NDArray[np.bool_],
    seed: int,
) -> FittedModel:
    """Fit and calibrate a candidate.

    Encoder and model are fitted anew for each fold of patients, so that the predictions that the calibrator learns from are
    like those for a new patient.

    Args:
        candidate: family and parameters.
        encounters: training encounters.
        label: their outcomes, shape (n_encounters,).
        seed: of the model.

    Raises:
        NotEnoughData: without one of the folds there is one class only.
    """
    fold = folds(encounters["patient_id"].to_numpy())
    if any(len(np.unique(label[fold != left_out])) < 2 for left_out in range(N_FOLDS)):
        raise NotEnoughData(
            f"{len(label)} encounters with {label.sum()} readmissions cannot be fitted and calibrated: without one of "
            f"{N_FOLDS} folds of patients only one class is left. Wait for more matured outcomes."
        )

    def fit_on(rows: NDArray[np.bool_]) -> tuple[Encoder, Any]:
        return fit_uncalibrated(candidate, encounters[rows], label[rows], seed)

    all_rows = np.ones(len(encounters), dtype=bool)
    # The largest first, so that no core waits for it at the end.
    (encoder, model), *partial = _side_by_side(fit_on, [all_rows, *(fold != left_out for left_out in range(N_FOLDS))])
    out_of_fold = np.empty(len(encounters))
    for left_out, (fold_encoder, fold_model) in enumerate(partial):
        outside = fold == left_out
        out_of_fold[outside] = probability(fold_model, encode_frame(fold_encoder, encounters[outside]))
    calibrator = fit_calibrator(label, out_of_fold)
    return FittedModel(candidate, encoder, model, calibrator, calibrate(calibrator, out_of_fold))


def fit_finalists(
    candidates: Sequence[Candidate], encounters: pd.DataFrame, label: NDArray[np.bool_], seed: int
) -> list[FittedModel]:
    """Fit and calibrate several candidates; the best by its out-of-fold AUROC comes first.

    The validation side has a sixth of the patients that the out-of-fold predictions cover, so the search alone cannot tell
    families apart that differ by less than .005.

    Args:
        candidates: at least one.
        encounters: as for `fit_model`.
        label: as for `fit_model`.
        seed: as for `fit_model`.
    """
    fitted = [fit_model(candidate, encounters, label, seed) for candidate in candidates]
    return sorted(fitted, key=lambda model: auroc(label, model.out_of_fold_risk), reverse=True)


def fit_each_uncalibrated(
    candidates: Sequence[Candidate], encounters: pd.DataFrame, label: NDArray[np.bool_], seed: int
) -> list[tuple[Encoder, Any]]:
    """`fit_uncalibrated` of several candidates, in their order."""
    return _side_by_side(lambda candidate: fit_uncalibrated(candidate, encounters, label, seed), candidates)


def fit_uncalibrated(
    candidate: Candidate, encounters: pd.DataFrame, label: NDArray[np.bool_], seed: int
) -> tuple[Encoder, Any]:
    """Fit encoder and vendor model on all encounters; arguments as `fit_model`."""
    encoder, features = fit_encoder(encounters, label, folds(encounters["patient_id"].to_numpy()))
    return encoder, FAMILIES[candidate.family].fit(candidate.params, Examples(features, label), None, seed)


def _side_by_side(fit: Callable[[T], tuple[Encoder, Any]], of: Iterable[T]) -> list[tuple[Encoder, Any]]:
    """Call a fit for each of some things, on all cores: the vendors' code lets go of Python's lock."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        # Filters belong to the process: those that the fits set and take back side by side would get mixed up.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return list(pool.map(fit, of))


def folds(patient_id: NDArray[np.int64]) -> NDArray[np.intp]:
    """The fold of each encounter, 0 to N_FOLDS - 1; a patient is always in the same. Shape (n_encounters,)."""
    # Hashed twice: the first hash has already decided the side, and folds must not depend on it.
    return (splitmix64(splitmix64(patient_id)) % np.uint64(N_FOLDS)).astype(np.intp)


def fit_calibrator(label: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> Calibrator:
    """Logistic calibration (Platt 1999) of probabilities that were predicted for other patients than those fitted on."""
    from sklearn.linear_model import LogisticRegression

    identity = Calibrator(slope=1.0, intercept=0.0)
    bounded = calibrate(identity, probabilities)
    log_odds = np.log(bounded / (1 - bounded))
    fitted = LogisticRegression(C=np.inf).fit(log_odds[:, None], label)
    return Calibrator(slope=float(fitted.coef_[0, 0]), intercept=float(fitted.intercept_[0]))
