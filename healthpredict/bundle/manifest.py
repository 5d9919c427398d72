"""What a bundle says about itself."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from healthpredict.evaluation.metrics import Evaluation, Interval

FORMAT = 1
"""Version of the layout; a bundle of another one is refused rather than guessed at."""


class Calibrator(BaseModel):
    """Logistic calibration of the model's log-odds (Platt 1999): risk = 1 / (1 + exp(-(slope * log-odds + intercept)))."""

    model_config = ConfigDict(frozen=True)

    slope: float
    intercept: float


class Subgroup(BaseModel):
    """How the model does on one group of patients.

    Attributes:
        column: `gender`, `race` or `age`.
        value: the group, for instance `Female`; an age band may pool several bands of the contract.
        rows: encounters evaluated.
        auroc: with its interval.
        calibration_in_the_large: mean risk minus prevalence.
    """

    model_config = ConfigDict(frozen=True)

    column: str
    value: str
    rows: int
    auroc: Interval
    calibration_in_the_large: Interval


class Manifest(BaseModel):
    """The identity card of a bundle.

    Attributes:
        format: layout of the bundle, see `FORMAT`.
        model_name: registered name.
        model_version: version in the registry.
        family: model family, for instance `lightgbm`.
        outcome: which readmissions count.
        trigger: why the model was trained: `initial` or the batch whose drift asked for it.
        trained_on: names of the batches in the training data, in order.
        data_digest: sha256 over the training data.
        git_commit: of the code that trained; None outside a work tree.
        run_id: the MLflow run.
        created_at: in UTC.
        threshold: a risk at or above it is `high_risk`.
        alert_rate: share of test-side encounters at or above the threshold.
        sensitivity: share of readmitted test-side encounters at or above the threshold.
        calibrator: see `Calibrator`.
        evaluation: on test-side patients.
        baseline_auroc: of `number_inpatient` alone on the same encounters.
        subgroups: on the same encounters, groups with enough rows only.
        files: sha256 of every other file of the bundle, by name.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    format: int = FORMAT
    model_name: str
    model_version: int
    family: str
    outcome: str
    trigger: str
    trained_on: tuple[str, ...]
    data_digest: str
    git_commit: str | None
    run_id: str
    created_at: datetime
    threshold: float
    alert_rate: float
    sensitivity: float
    calibrator: Calibrator
    evaluation: Evaluation
    baseline_auroc: Interval
    subgroups: tuple[Subgroup, ...]
    files: dict[str, str]
