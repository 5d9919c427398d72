"""The manifest of a bundle."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from healthpredict.data.diagnosis import Coding
from healthpredict.evaluation.report import TestReport

FORMAT = 5
"""Version of the layout. A bundle with another version is refused."""


class Calibrator(BaseModel):
    """Logistic calibration of the model's log-odds (Platt 1999): risk = 1 / (1 + exp(-(slope * log-odds + intercept)))."""

    model_config = ConfigDict(frozen=True)

    slope: float
    intercept: float


class Recalibration(BaseModel):
    """How a bundle differs from the one that training built: another calibrator and threshold, the same model.

    Attributes:
        of: the version that training built.
        calibrator: the one that training fitted.
        batch: the newest batch whose outcomes the calibrator has used.
    """

    model_config = ConfigDict(frozen=True)

    of: int
    calibrator: Calibrator
    batch: str


class CodeSystem(BaseModel):
    """A system of diagnosis codes that a bundle knows.

    Attributes:
        name: of the system.
        source: the training data if the levels are its codes; otherwise the map to the system of the levels.
        date: when the map was released; None without a map.
    """

    model_config = ConfigDict(frozen=True)

    name: Coding
    source: str
    date: str | None = None


class Manifest(BaseModel):
    """The content and origin of a bundle. Bundles contain it: never rename a field, and give a new one a default.

    Attributes:
        format: layout of the bundle, see `FORMAT`.
        model_name: registered name.
        model_version: version in the registry.
        family: model family, for instance `lightgbm`.
        outcome: which readmissions count.
        trigger: why the version was made: `initial`, the batch that led to it, or the name of a training by hand.
        trained_on: batches in the training data, in order.
        data_digest: sha256 over the training data.
        git_commit: of the training code, or None outside a work tree.
        run_id: the MLflow run.
        created_at: in UTC.
        threshold: a risk at or above it is `high_risk`.
        calibrator: see `Calibrator`.
        not_learned: number of encounters of training patients that were left out of the fit, because an intervention was
            accepted, or because it is not known what was done.
        recalibration: None for a bundle that training built.
        test: metrics on patients that the model was not trained on, with calibrator and threshold from training.
        code_systems: systems of diagnosis codes that it knows.
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
    not_learned: int = 0
    recalibration: Recalibration | None = None
    test: TestReport
    code_systems: tuple[CodeSystem, ...]
    files: dict[str, str]

    @property
    def trained_version(self) -> int:
        """The version that training built. Recalibrated versions of it have the same model."""
        return self.recalibration.of if self.recalibration else self.model_version

    @property
    def trained_calibrator(self) -> Calibrator:
        """The calibrator that training fitted."""
        return self.recalibration.calibrator if self.recalibration else self.calibrator

    @property
    def calibrated_on(self) -> str:
        """The newest batch whose outcomes the calibrator has used."""
        return self.recalibration.batch if self.recalibration else self.trained_on[-1]
