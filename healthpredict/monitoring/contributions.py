"""What each column contributes to the predictions of a batch."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.explainer import Explainer
from healthpredict.features.encoder import columns_of

_SAMPLE: Final = 2_000
"""Encounters that are explained, evenly spaced. Each takes about .5 ms. With all of 8,000, the standard error would be half."""


class Contribution(BaseModel):
    """The mean contribution of a column to the log-odds, over the encounters of a batch.

    Attributes:
        mean: above 0, the column raises the risks.
        error: its standard error.
    """

    model_config = ConfigDict(frozen=True)

    mean: float
    error: float


def column_contributions(
    explainer: Explainer, slope: float, feature_names: tuple[str, ...], features: NDArray[np.float32]
) -> dict[str, Contribution]:
    """Return the mean contribution of each column: exact Shapley values of the features, added up by column.

    A feature that is made from several columns counts for each of them in equal parts.

    Args:
        explainer: of the model.
        slope: of the calibrator.
        feature_names: of the encoder, n_features.
        features: encoded encounters, shape (n_encounters, n_features).
    """
    columns = list(dict.fromkeys(column for name in feature_names for column in columns_of(name)))
    parts = np.zeros((len(feature_names), len(columns)))
    for i, name in enumerate(feature_names):
        of = columns_of(name)
        parts[i, [columns.index(column) for column in of]] = 1 / len(of)
    chosen = np.unique(np.linspace(0, len(features) - 1, min(_SAMPLE, len(features)), dtype=int))
    by_column = slope * np.array([explainer.log_odds(features[i])[1] for i in chosen]) @ parts
    means, errors = by_column.mean(axis=0), by_column.std(axis=0) / np.sqrt(len(by_column))
    return {
        column: Contribution(mean=mean, error=error)
        for column, mean, error in zip(columns, means.tolist(), errors.tolist(), strict=True)
    }
