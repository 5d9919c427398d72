"""Signs of a leak: results that are too good to be true, or that contradict each other."""

from __future__ import annotations

from typing import Final

import numpy as np

from healthpredict.errors import LeakSuspected
from healthpredict.evaluation.interval import Floats, Outcomes
from healthpredict.evaluation.metrics import Evaluation, auroc
from healthpredict.training.fit import FittedModel
from healthpredict.training.params import ModelParams

_AUROC_SETTING: Final = "HEALTHPREDICT_MODEL__LEAK_AUROC"
_DIFFERENCE_SETTING: Final = "HEALTHPREDICT_MODEL__LEAK_STANDARD_ERRORS"
_STANDARD_ERROR_OF_ONE: Final = 0.3
"""Upper bound of the standard error of an AUROC with one readmission. With n readmissions, the smaller class, it is divided by the
square root of n (Hanley & McNeil 1982, doi 10.1148/radiology.143.1.7063747)."""


def check_auroc(what: str, value: float, params: ModelParams) -> None:
    """Check that an AUROC is plausible.

    Args:
        what: the subject of the message, such as "The catboost model".
        value: its AUROC.
        params: contains the limit.

    Raises:
        LeakSuspected: it is too high.
    """
    if value > params.leak_auroc:
        raise LeakSuspected(
            f"{what} has an AUROC of {value:.3f}, above {params.leak_auroc:.2f}, which is too good to be true for this problem",
            setting=_AUROC_SETTING,
        )


def check_for_leak(
    fitted: FittedModel, label: Outcomes, out_of_fold_risk: Floats, test: Evaluation, params: ModelParams
) -> None:
    """Check a fitted model before it is registered.

    Args:
        fitted: the model.
        label: outcomes of those training encounters whose outcome without intervention is known, shape (n_encounters,).
        out_of_fold_risk: their risks from models that were not fitted on the patient, shape (n_encounters,).
        test: its evaluation on patients that it was not fitted on.
        params: contains the limits.

    Raises:
        LeakSuspected: the AUROC is too high, it differs between out-of-fold predictions and the test side by more than chance, or
            higher predictions mean lower risks.
    """
    model = f"The {fitted.candidate.family} model"
    if not fitted.calibrator.slope > 0:
        raise LeakSuspected(
            f"{model} ranks patients that it was not fitted on in the wrong order (calibration slope "
            f"{fitted.calibrator.slope:.2f}), as if its features contained the outcomes of the training encounters, or as if "
            f"{label.sum():.0f} readmissions were too few to learn from"
        )
    # Compare the lower end of the interval: on a small test side, the AUROC can exceed the limit by chance.
    check_auroc(model, test.auroc.low, params)
    out_of_fold = auroc(label, out_of_fold_risk)
    readmitted = np.array([label.sum(), test.prevalence * test.rows])
    standard_error = _STANDARD_ERROR_OF_ONE * float(np.sqrt((1 / readmitted).sum()))
    if abs(out_of_fold - test.auroc.value) > params.leak_standard_errors * standard_error:
        raise LeakSuspected(
            f"{model} has an AUROC of {out_of_fold:.3f} out of fold and {test.auroc.value:.3f} on the test side, which differ "
            f"by more than {params.leak_standard_errors:g} standard errors ({standard_error:.3f}), although the patients were "
            "divided at random",
            setting=_DIFFERENCE_SETTING,
        )
