"""The model card as data."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.manifest import CodeSystem, Recalibration
from healthpredict.data.prepared import PreparedData
from healthpredict.evaluation.report import TestReport
from healthpredict.monitoring.calibration import CalibrationCheck
from healthpredict.monitoring.subgroups import SubgroupDrift
from healthpredict.reporting.model_card.governance import Governance
from healthpredict.reporting.summary import DeliveredPerformance
from healthpredict.training.gate import GateDecision

Source = Literal["system", "hospital", "both"]
"""Who answers a source attribute: this system from its records, the hospital in governance.yaml, or both."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class BatchPerformance(_Part):
    """A batch that the version predicted; see `BatchSummary`.

    Attributes:
        auroc: None while outcomes are unknown.
        offset: None while outcomes are unknown.
        alert_rate: None if another version was in service when the batch arrived.
        unknown_diagnoses: column -> encounters whose code it does not know; None as `alert_rate`, or if they were not counted.
    """

    name: str
    time: str
    rows: int
    decision: str
    auroc: float | None
    offset: float | None
    alert_rate: float | None
    unknown_diagnoses: dict[str, int] | None


class Monitoring(_Part):
    """What monitoring found for this version.

    Attributes:
        batches: that it predicted, in order of processing.
        delivered: performance over those whose outcomes are known, or None if there are none.
        checked: the newest batch whose check compared groups while this version was in service, or None.
        subgroups: from that check, on all known outcomes that the version was not trained on.
        calibration: from that check, or None if there were too few outcomes.
        alarms: open alarms, one text each; empty if the version is not in service.
        effect: what flags prevented in all batches with reported interventions, whichever version predicted them, one sentence
            each; empty without such batches, or if the version is not in service.
    """

    batches: tuple[BatchPerformance, ...] = ()
    delivered: DeliveredPerformance | None = None
    checked: str | None = None
    subgroups: tuple[SubgroupDrift, ...] = ()
    calibration: CalibrationCheck | None = None
    alarms: tuple[str, ...] = ()
    effect: tuple[str, ...] = ()


class History(_Part):
    """What the ledger records of a version.

    Attributes:
        gate: the newest decision of the gate, or None.
        promoted_at: times of its promotions, UTC.
        forced: whether one of them was by force.
        in_service: whether it is the champion now.
    """

    gate: GateDecision | None = None
    promoted_at: tuple[str, ...] = ()
    forced: bool = False
    in_service: bool = False


class TrainingData(_Part):
    """The encounters that a version was trained on.

    Attributes:
        rows: number of encounters.
        groups: column -> value -> share (0-1) of the encounters.
        columns: columns of the contract that the model uses, in the contract's order.
        prepared: the data set, or None if it is not known here.
    """

    rows: int | None
    groups: dict[str, dict[str, float]]
    columns: tuple[str, ...]
    prepared: PreparedData | None


class Attribute(_Part):
    """A source attribute of ONC's HTI-1 for predictive decision support, 45 CFR 170.315(b)(11)(iv)(B).

    Attributes:
        number: 1 to 31.
        paragraph: within (iv)(B), such as (7)(i).
        group: heading of the paragraph.
        name: what is asked for.
        text: the answer.
        source: who answers.
        provided: whether there is an answer.
    """

    number: int
    paragraph: str
    group: str
    name: str
    text: str
    source: Source
    provided: bool


class TripodItem(_Part):
    """An item of TRIPOD+AI (Collins et al. 2024, doi 10.1136/bmj-2023-078378).

    Attributes:
        number: such as 12a.
        section: of the checklist.
        topic: what is to be reported.
        where: the part of the card that reports it, or None if it is not reported.
        why: why it is not reported, or None.
    """

    number: str
    section: str
    topic: str
    where: str | None
    why: str | None


class ModelCard(_Part):
    """The model card of a version. Every figure comes from its bundle, the ledger or monitoring.

    Bundles, MLflow and `GET /model/card` contain it as JSON: never rename a field.

    Attributes:
        created_at: when this card was made, in UTC.
        name: of the registered model.
        version: in the registry.
        trained_version: the version that training built: this one, or the one that it recalibrates.
        bundle_digest: None in the card that is part of the bundle itself.
        summary: what it predicts, in one sentence.
        outcome: which readmissions count.
        family: model family.
        trained_at: when its bundle was built, in UTC.
        trained_on: batches.
        data_digest: SHA-256 over the training data.
        git_commit: of the training code, or None.
        run_id: the MLflow run.
        recalibration: None for a version that training built.
        threshold: a risk at or above it is `high_risk`.
        promised_alert_rate: share of encounters (0-1) that the threshold is to flag.
        code_systems: systems of diagnosis codes that it knows.
        data: its training data.
        test: performance on patients that it was not trained on.
        history: gate and promotions.
        monitoring: None in the card that is part of the bundle.
        methods: how it was developed and evaluated.
        maintenance: how the system monitors and updates it.
        limits: one sentence for each known limit.
        governance: what the hospital states.
        missing: required texts that it has not stated.
        attributes: the 31 source attributes of HTI-1.
        tripod: the items of TRIPOD+AI.
    """

    created_at: datetime
    name: str
    version: int
    trained_version: int
    bundle_digest: str | None
    summary: str
    outcome: str
    family: str
    trained_at: datetime
    trained_on: tuple[str, ...]
    data_digest: str
    git_commit: str | None
    run_id: str
    recalibration: Recalibration | None
    threshold: float
    promised_alert_rate: float
    code_systems: tuple[CodeSystem, ...]
    data: TrainingData
    test: TestReport
    history: History
    monitoring: Monitoring | None
    methods: tuple[str, ...]
    maintenance: tuple[str, ...]
    limits: tuple[str, ...]
    governance: Governance
    missing: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    tripod: tuple[TripodItem, ...]

    @property
    def status(self) -> str:
        """Whether the version is in service."""
        if self.history.in_service:
            return "champion, in service"
        if self.history.promoted_at:
            return "served earlier"
        return "not promoted" if self.monitoring is not None else "as built, before promotion"
