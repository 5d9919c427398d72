"""Turn a candidate into a model that can be served: fit it on all training patients, calibrate it on out-of-fold predictions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.bundle.manifest import Calibrator
from healthpredict.bundle.model import calibrate
from healthpredict.data.split import splitmix64
from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.gain import auroc_gain
from healthpredict.evaluation.metrics import auroc
from healthpredict.features.encoder import Encoder
from healthpredict.features.frame import N_FOLDS, encode_frame, fit_encoder
from healthpredict.training.candidates import Candidate
from healthpredict.training.families import FAMILIES, Examples, probability

T = TypeVar("T")
N_DIVISIONS: Final = 2
"""Number of divisions into folds. The training data are encoded once with each, and the model is fitted on all of these rows."""


@dataclass(frozen=True)
class FittedModel:
    """A calibrated model with its encoder.

    Attributes:
        candidate: family and parameters.
        encoder: fitted on the same encounters as `model`.
        model: the vendor's, fitted on the encounters that `fit_model` was told to learn from.
        calibrator: fitted on the out-of-fold predictions for these encounters.
        out_of_fold_risk: of all training encounters, calibrated, from models that were not fitted on the patient, shape
            (n_encounters,).
    """

    candidate: Candidate
    encoder: Encoder
    model: Any
    calibrator: Calibrator
    out_of_fold_risk: NDArray[np.float64]

    def risks(self, encounters: pd.DataFrame) -> NDArray[np.float64]:
        """Return the calibrated risks of the training pipeline, shape (n_encounters,). A bundle must reproduce them."""
        return calibrate(self.calibrator, probability(self.model, encode_frame(self.encoder, encounters)))

    def shifted(self, intercept: float) -> FittedModel:
        """Return the same model with this number added to all calibrated log-odds."""
        shift = Calibrator(slope=1.0, intercept=intercept)
        calibrator = self.calibrator.model_copy(update={"intercept": self.calibrator.intercept + intercept})
        return replace(self, calibrator=calibrator, out_of_fold_risk=calibrate(shift, self.out_of_fold_risk))


def fit_model(
    candidate: Candidate,
    encounters: pd.DataFrame,
    label: NDArray[np.bool_],
    seed: int,
    learn: NDArray[np.bool_] | None = None,
) -> FittedModel:
    """Fit and calibrate a candidate.

    For each fold of patients, an encoder and a model are fitted without it, so that the calibrator learns from predictions for
    patients that are new to the model.

    Args:
        candidate: family and parameters.
        encounters: training encounters.
        label: their outcomes, shape (n_encounters,).
        seed: of the model.
        learn: the encounters to learn from, shape (n_encounters,); None means all. The others only get out-of-fold risks.

    Raises:
        NotEnoughData: without one of the folds, only one class is left.
    """
    fold = folds(encounters["patient_id"].to_numpy())
    learn = np.ones(len(label), dtype=np.bool_) if learn is None else learn
    if any(len(np.unique(label[learn & (fold != left_out)])) < 2 for left_out in range(N_FOLDS)):
        raise NotEnoughData(
            f"{learn.sum()} encounters with {label[learn].sum()} readmissions cannot be fitted and calibrated: without one of "
            f"{N_FOLDS} folds of patients only one class is left. Wait for more matured outcomes."
        )

    def fit_on(rows: NDArray[np.bool_]) -> tuple[Encoder, Any]:
        return fit_uncalibrated(candidate, encounters[rows], label[rows], seed)

    # The largest fit first, so that the other cores do not wait for it at the end.
    (encoder, model), *fold_fits = _fit_in_parallel(
        fit_on, [learn, *(learn & (fold != left_out) for left_out in range(N_FOLDS))]
    )
    out_of_fold = np.empty(len(encounters))
    for left_out, (fold_encoder, fold_model) in enumerate(fold_fits):
        in_fold = fold == left_out
        out_of_fold[in_fold] = probability(fold_model, encode_frame(fold_encoder, encounters[in_fold]))
    calibrator = fit_calibrator(label[learn], out_of_fold[learn])
    return FittedModel(candidate, encoder, model, calibrator, calibrate(calibrator, out_of_fold))


def fit_best(
    finalists: Sequence[Candidate],
    encounters: pd.DataFrame,
    label: NDArray[np.bool_],
    seed: int,
    learn: NDArray[np.bool_] | None = None,
) -> FittedModel:
    """Fit and calibrate the finalists of a search, and choose one by its out-of-fold AUROC.

    The first is chosen unless the best is better by more than one paired standard error. This is the one-standard-error rule
    (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3): of many trials, the best is often the luckiest.
    Out-of-fold predictions cover six times as many patients as the validation side.

    Args:
        finalists: at least one, see `SearchResult.finalists`.
        encounters: see `fit_model`.
        label: see `fit_model`.
        seed: see `fit_model`.
        learn: see `fit_model`.
    """
    models = [fit_model(finalist, encounters, label, seed, learn) for finalist in finalists]
    rows = slice(None) if learn is None else learn
    label, patients = label[rows], encounters["patient_id"].to_numpy()[rows]
    best = max(models, key=lambda model: auroc(label, model.out_of_fold_risk[rows]))
    gain = auroc_gain(label, best.out_of_fold_risk[rows], models[0].out_of_fold_risk[rows], patients)
    return best if gain.value > gain.error else models[0]


def fit_each_uncalibrated(
    candidates: Sequence[Candidate], encounters: pd.DataFrame, label: NDArray[np.bool_], seed: int
) -> list[tuple[Encoder, Any]]:
    """Fit several candidates as `fit_uncalibrated` does. Returns: encoders and models in the order of the candidates."""
    return _fit_in_parallel(lambda candidate: fit_uncalibrated(candidate, encounters, label, seed), candidates)


def fit_uncalibrated(
    candidate: Candidate, encounters: pd.DataFrame, label: NDArray[np.bool_], seed: int
) -> tuple[Encoder, Any]:
    """Fit encoder and vendor model on all encounters. Arguments as `fit_model`."""
    encoder, examples = cross_fitted(encounters, label)
    return encoder, FAMILIES[candidate.family].fit(candidate.params, examples, None, seed)


def cross_fitted(encounters: pd.DataFrame, label: NDArray[np.bool_]) -> tuple[Encoder, Examples]:
    """Fit the encoder. Returns: the encoder, and the encounters as examples to train on, once with each division into folds."""
    encoder, features = fit_encoder(encounters, label, divisions(encounters["patient_id"].to_numpy(), N_DIVISIONS))
    return encoder, Examples(features, np.tile(label, N_DIVISIONS))


def _fit_in_parallel(fit: Callable[[T], tuple[Encoder, Any]], inputs: Iterable[T]) -> list[tuple[Encoder, Any]]:
    """Run a fit for each input in threads, on all cores: the vendors' code releases the GIL."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(fit, inputs))


def folds(patient_id: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the fold of each encounter, 0 to N_FOLDS - 1, shape (n_encounters,). A patient is always in the same fold."""
    return np.asarray(divisions(patient_id, 1)[0])


def divisions(patient_id: NDArray[np.int64], n: int) -> NDArray[np.intp]:
    """Return several independent divisions into folds, shape (n, n_encounters). The first is that of `folds`."""
    # Hashed twice, because the first hash decides the side and folds must be independent of it.
    hashed, found = splitmix64(splitmix64(patient_id)), []
    for _ in range(n):
        found.append((hashed % np.uint64(N_FOLDS)).astype(np.intp))
        hashed = splitmix64(hashed)
    return np.stack(found)


def fit_calibrator(label: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> Calibrator:
    """Fit a logistic calibration (Platt 1999) to probabilities for patients that the model was not fitted on."""
    from sklearn.linear_model import LogisticRegression

    identity = Calibrator(slope=1.0, intercept=0.0)
    bounded = calibrate(identity, probabilities)
    log_odds = np.log(bounded / (1 - bounded))
    fitted = LogisticRegression(C=np.inf).fit(log_odds[:, None], label)
    return Calibrator(slope=float(fitted.coef_[0, 0]), intercept=float(fitted.intercept_[0]))
