"""The manifest of a bundle."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from healthpredict.evaluation.report import TestReport

FORMAT = 4
"""Version of the layout. A bundle with another version is refused."""


class Calibrator(BaseModel):
    """Logistic calibration of the model's log-odds (Platt 1999): risk = 1 / (1 + exp(-(slope * log-odds + intercept)))."""

    model_config = ConfigDict(frozen=True)

    slope: float
    intercept: float


class Manifest(BaseModel):
    """The content and origin of a bundle.

    Attributes:
        format: layout of the bundle, see `FORMAT`.
        model_name: registered name.
        model_version: version in the registry.
        family: model family, for instance `lightgbm`.
        outcome: which readmissions count.
        trigger: why the model was trained: `initial`, or the batch whose drift led to it.
        trained_on: batches in the training data, in order.
        data_digest: sha256 over the training data.
        git_commit: of the training code, or None outside a work tree.
        run_id: the MLflow run.
        created_at: in UTC.
        threshold: a risk at or above it is `high_risk`.
        calibrator: see `Calibrator`.
        test: metrics on patients that the model was not trained on.
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
    calibrator: Calibrator
    test: TestReport
    files: dict[str, str]
