"""A small hospital, encoded for training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from labelled import LABEL, label_and_fold, labelled_encounters

from healthpredict.data.split import Side, side_of
from healthpredict.features.encoder import Encoder
from healthpredict.features.frame import encode_frame, fit_encoder
from healthpredict.training.families import Examples


@dataclass(frozen=True)
class Hospital:
    """Training encounters with what is made from them; the validation patients are others."""

    training: pd.DataFrame
    encoder: Encoder
    train: Examples
    validation: Examples


def encode_hospital(n_encounters: int, seed: int) -> Hospital:
    """Draw encounters, split them by patient and encode both sides as a search does."""
    labelled = labelled_encounters(n_encounters, seed)
    side = side_of(labelled["patient_id"].to_numpy())
    training, validation = (labelled[side == s].reset_index(drop=True) for s in (Side.TRAIN, Side.VALIDATION))
    label, fold = label_and_fold(training)
    encoder, features = fit_encoder(training, label, fold)
    watched = Examples(encode_frame(encoder, validation), validation[LABEL].to_numpy(dtype=np.bool_))
    return Hospital(training, encoder, Examples(features, label), watched)
