"""A reference with its champion, and batches without drift to compare with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from healthpredict.config import Settings
from healthpredict.data.split import Side, side_of
from healthpredict.monitoring.profile import ReferenceProfile, build_profile
from healthpredict.operations.dataset import LABEL
from healthpredict.training.candidates import Candidate
from healthpredict.training.families import FAMILIES
from healthpredict.training.fit import FittedModel, fit_model

FAMILY = "lightgbm"


@dataclass(frozen=True)
class Population:
    """A reference with its champion, and encounters of other patients from the same period.

    Attributes:
        profile: as the bundle of the champion holds it.
        fitted: the champion.
        training: the reference.
        others: encounters to draw batches from.
    """

    profile: ReferenceProfile
    fitted: FittedModel
    training: pd.DataFrame
    others: pd.DataFrame


def build_population(encounters: pd.DataFrame, number: int, settings: Settings) -> Population:
    """Make one random half of the patients the reference. The champion is not fitted on the other half."""
    patients = encounters["patient_id"].unique()
    chosen = np.random.default_rng(number).permutation(patients)[: len(patients) // 2]
    half = encounters["patient_id"].isin(chosen)
    known, others = encounters[half].reset_index(drop=True), encounters[~half].reset_index(drop=True)
    fitted, profile = train_champion(known, number, settings)
    test = side_of(known["patient_id"].to_numpy()) == Side.TEST
    return Population(profile, fitted, known[~test], others)


def first_candidate() -> Candidate:
    """The family with the parameters that a search tries first."""
    return Candidate(family=FAMILY, params=dict(FAMILIES[FAMILY].first), validation_auroc=0.5, steps=1)


def train_champion(labelled: pd.DataFrame, seed: int, settings: Settings) -> tuple[FittedModel, ReferenceProfile]:
    """Fit the family with its first parameters, as the loop does with the best it finds, and profile its training data."""
    test = side_of(labelled["patient_id"].to_numpy()) == Side.TEST
    training = labelled[~test]
    fitted = fit_model(first_candidate(), training, training[LABEL].to_numpy(), seed=seed)
    profile = build_profile(
        training,
        risk=fitted.out_of_fold_risk,
        unseen_risk=fitted.risks(labelled[test]),
        patient_id=training["patient_id"].to_numpy(),
        policy=settings.drift,
        seed=seed,
    )
    return fitted, profile


def draw(encounters: pd.DataFrame, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Whole patients in random order until there are enough encounters, without replacement."""
    order = rng.permutation(encounters["patient_id"].unique())
    place = pd.Series(np.arange(len(order)), index=order)
    chosen = np.argsort(place[encounters["patient_id"]].to_numpy(), kind="stable")[:rows]
    return encounters.iloc[chosen].reset_index(drop=True)
