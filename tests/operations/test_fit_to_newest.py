"""The calibrator's intercept is fitted to the newest outcomes of training patients only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from bundles import draw_encounters
from scipy.special import expit, logit

from healthpredict.config import Settings
from healthpredict.data.split import Side
from healthpredict.operations import register
from healthpredict.operations.dataset import LABEL, sides
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import UNTREATED
from healthpredict.operations.search import TrainingRequest

RISK = 0.1


class _Search:
    training = TrainingRequest(trigger="initial", arriving="batch-01")


class _Fitted:
    """A model that predicts the same risk for everyone, and remembers by how much it was shifted."""

    def __init__(self, rows: int, shift: float = 0.0) -> None:
        self.out_of_fold_risk, self.shift = np.full(rows, RISK), shift

    def risks(self, encounters: pd.DataFrame) -> np.ndarray:
        return np.full(len(encounters), expit(logit(RISK) + self.shift))

    def shifted(self, shift: float) -> _Fitted:
        return _Fitted(len(self.out_of_fold_risk), shift)


def test_outcomes_of_the_test_side_do_not_change_it(rollout_settings: Settings) -> None:
    encounters = draw_encounters(3000, seed=3).assign(patient_id=np.arange(3000))
    test = sides(encounters) == Side.TEST
    encounters[LABEL] = np.where(test, True, np.arange(len(encounters)) % 5 == 0)
    encounters[UNTREATED] = encounters[LABEL].astype(float)
    fitted: Any = _Fitted(int((~test).sum()))
    search: Any = _Search()
    found: Any = register._fit_to_newest(Installation(rollout_settings), fitted, search, [encounters])[0]
    share = encounters[LABEL][~test].mean()
    np.testing.assert_allclose(found.risks(encounters), share, atol=1e-9)
