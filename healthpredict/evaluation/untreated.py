"""Outcomes without intervention: what they would have been if nobody had been flagged.

An intervention may prevent a readmission, so the outcomes of treated patients do not show whether their risks were right. They are
replaced by estimates from untreated patients (augmented inverse probability weighting: Robins, Rotnitzky & Zhao 1994, doi
10.1080/01621459.1994.10476818). An estimate is right on average if either the probability of no intervention or the model of the
outcome is right, and if nothing else than what these use influenced both the outcome and who was treated or reported. "Probability
of no intervention" means everywhere: that it is known that there was none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from healthpredict.evaluation.interval import Floats

_CANNOT_BE_KNOWN: Final = "The outcomes without interventions cannot be known from these data"

_FOLDS: Final = 5
_INVERSE_PENALTY: Final = 0.05
"""On the coefficients of standardised variables."""
_SMALLEST_PROBABILITY: Final = 0.05
"""The smallest probability of no intervention that is not clipped. Below it, an encounter counts as one without overlap."""
_MOST_WITHOUT_OVERLAP: Final = 0.05
"""Largest share of flagged encounters without overlap."""
_SMALLEST_SAMPLE: Final = 100
"""Smallest effective number of flagged encounters without intervention."""


class Overlap(BaseModel):
    """How many flagged encounters had no intervention, and how well they stand for the others. It is stored: never rename a field.

    Attributes:
        flagged: flagged encounters in batches in which flags may have changed outcomes. Those that were held back at random count
            as flagged.
        treated: those of them with an accepted intervention.
        unknown: those of which it is not known what was done.
        effective: effective number of those without intervention (Kish 1965): the number of encounters of equal weight that would
            be as informative.
        without_overlap: share of flagged encounters (0-1) that hardly ever remain without intervention.
    """

    model_config = ConfigDict(frozen=True)

    flagged: int
    treated: int
    unknown: int
    effective: float
    without_overlap: float

    @property
    def is_enough(self) -> bool:
        """Whether outcomes without intervention can be estimated."""
        return self.effective >= _SMALLEST_SAMPLE and self.without_overlap <= _MOST_WITHOUT_OVERLAP

    @property
    def problem(self) -> str | None:
        """Why they cannot be estimated; None if they can."""
        if self.is_enough:
            return None
        if self.unknown > self.treated:
            return (
                f"{_CANNOT_BE_KNOWN}: it is not known what was done in {self.unknown} of {self.flagged} flagged encounters. "
                "Report it, also where nothing was done."
            )
        return f"{_CANNOT_BE_KNOWN}: silent mode or a hold-out would tell."


@dataclass(frozen=True)
class Treatment:
    """What was done after the predictions, all of shape (n_encounters,).

    What was done for patients without a flag is no effect of the model, so it is not recorded here.

    Attributes:
        flagged: whether a flag was issued, or would have been without a hold-out.
        treated: whether a flag was issued and an intervention accepted.
        known: whether it is known what was done.
        held_back: whether the flag was held back at random.
        hold_out_probability: probability (0-1) with which it was to be held back; 0 without a hold-out.
    """

    flagged: NDArray[np.bool_]
    treated: NDArray[np.bool_]
    known: NDArray[np.bool_]
    held_back: NDArray[np.bool_]
    hold_out_probability: Floats

    @classmethod
    def joined(cls, parts: Sequence[Treatment]) -> Treatment:
        """Return what was done in several batches as one."""
        return cls(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__}
        )

    def take(self, rows: NDArray[np.bool_]) -> Treatment:
        """Select encounters."""
        return Treatment(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    @property
    def untreated(self) -> NDArray[np.bool_]:
        """Whether it is known that no intervention followed from a flag, shape (n_encounters,)."""
        return ~self.flagged | self.held_back | (self.known & ~self.treated)


@dataclass(frozen=True)
class UntreatedOutcomes:
    """Outcomes without intervention.

    Attributes:
        outcome: observed (0 or 1) where the encounter was not flagged, otherwise estimated, shape (n_encounters,).
        weight: 1 for an encounter that was not flagged; for a flagged one, the inverse of its probability, or 0 if it was treated
            or if it is not known what was done, shape (n_encounters,).
        overlap: None if every outcome was observed.
    """

    outcome: Floats
    weight: Floats
    overlap: Overlap | None

    @property
    def problem(self) -> str | None:
        """Why the estimates cannot be used; None if they can."""
        return self.overlap.problem if self.overlap else None


def untreated_outcomes(
    readmitted: NDArray[np.bool_], treatment: Treatment, variables: Floats, patient_id: NDArray[np.int64]
) -> UntreatedOutcomes:
    """Estimate outcomes without intervention.

    The probability of no intervention and the outcome model are logistic regressions, fitted to flagged encounters without the
    patient's fold. Weights are clipped and normalised (they sum to the number of flagged encounters).

    Args:
        readmitted: observed outcomes, shape (n_encounters,).
        treatment: what was done.
        variables: what explains the intervention and the outcome, the log-odds of the risk among them, without missing values,
            shape (n_encounters, n_variables).
        patient_id: shape (n_encounters,).
    """
    observed = readmitted.astype(np.float64)
    untreated, flagged = treatment.untreated, treatment.flagged
    if untreated.all():
        return UntreatedOutcomes(observed, np.ones(len(observed)), None)
    shown = flagged & ~treatment.held_back
    untreated_if_shown = _cross_fitted(variables, untreated, shown, flagged, patient_id)
    held = treatment.hold_out_probability[flagged]
    probability = held + (1 - held) * untreated_if_shown
    weight = untreated[flagged] / np.maximum(probability, _SMALLEST_PROBABILITY)
    overlap = Overlap(
        flagged=int(flagged.sum()),
        treated=int(treatment.treated.sum()),
        unknown=int((~untreated & ~treatment.treated).sum()),
        effective=float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0,
        without_overlap=float((probability < _SMALLEST_PROBABILITY).mean()) if flagged.any() else 0.0,
    )
    if weight.any():
        weight *= len(weight) / weight.sum()
    expected = _cross_fitted(variables, readmitted, untreated & flagged, flagged, patient_id)
    outcome = observed.copy()
    outcome[flagged] = expected + weight * (observed[flagged] - expected)
    weights = untreated.astype(np.float64)
    weights[flagged] = weight
    return UntreatedOutcomes(outcome, weights, overlap)


def _cross_fitted(
    variables: Floats,
    label: NDArray[np.bool_],
    learn: NDArray[np.bool_],
    predict: NDArray[np.bool_],
    patient_id: NDArray[np.int64],
) -> Floats:
    """Return the probability that the label is true, from models that were not fitted on the patient.

    Args:
        variables: shape (n_encounters, n_variables).
        label: shape (n_encounters,).
        learn: the encounters that models are fitted on, shape (n_encounters,).
        predict: the encounters to predict, shape (n_encounters,).
        patient_id: shape (n_encounters,).

    Returns:
        shape (n_predicted,).
    """
    probability = np.zeros(len(label))
    n_folds = min(_FOLDS, len(np.unique(patient_id)))
    if n_folds < 2:
        return probability[predict]
    for _, fold in GroupKFold(n_folds).split(variables, groups=patient_id):
        in_fold = np.zeros(len(label), dtype=bool)
        in_fold[fold] = True
        rows = learn & ~in_fold
        if len(np.unique(label[rows])) < 2:
            probability[fold] = label[rows].mean() if rows.any() else 0.0
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=_INVERSE_PENALTY)).fit(
            variables[rows], label[rows]
        )
        probability[fold] = model.predict_proba(variables[fold])[:, 1]
    return probability[predict]
