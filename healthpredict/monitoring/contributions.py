"""What each column contributes to the predictions of a batch."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.explainer import Explainer
from healthpredict.features.encoder import columns_of

_SAMPLE: Final = 2_000
"""Encounters that are explained. Explaining all of 8,000 would halve the standard error and take four times as long."""


class Contribution(BaseModel):
    """The mean contribution of a column to the log-odds, over the encounters of a batch.

    Attributes:
        mean: above 0, the column raises the risks.
        error: its standard error.
    """

    model_config = ConfigDict(frozen=True)

    mean: float
    error: float


def sample(encounters: pd.DataFrame) -> pd.DataFrame:
    """Return the encounters to explain, evenly spaced."""
    if len(encounters) <= _SAMPLE:
        return encounters
    return encounters.iloc[np.linspace(0, len(encounters) - 1, _SAMPLE, dtype=int)].reset_index(drop=True)


def column_contributions(
    explainer: Explainer, slope: float, feature_names: tuple[str, ...], features: NDArray[np.float32]
) -> dict[str, Contribution]:
    """Return the mean contribution of each column: exact Shapley values of the features, added up by column.

    A feature that is made from several columns counts for each of them in equal parts.

    Args:
        explainer: of the model.
        slope: of the calibrator.
        feature_names: of the encoder, n_features.
        features: encoded encounters, at least one, shape (n_encounters, n_features).
    """
    columns = list(dict.fromkeys(column for name in feature_names for column in columns_of(name)))
    share_of_column = np.zeros((len(feature_names), len(columns)))
    for i, name in enumerate(feature_names):
        sources = columns_of(name)
        share_of_column[i, [columns.index(column) for column in sources]] = 1 / len(sources)
    by_column = slope * np.array([explainer.log_odds(row)[1] for row in features]) @ share_of_column
    means, errors = by_column.mean(axis=0), by_column.std(axis=0) / np.sqrt(len(by_column))
    return {
        column: Contribution(mean=mean, error=error)
        for column, mean, error in zip(columns, means.tolist(), errors.tolist(), strict=True)
    }
