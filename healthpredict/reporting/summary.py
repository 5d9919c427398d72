"""The content of a report."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from healthpredict.data.prepared import PreparedData
from healthpredict.evaluation.decision_curve import DecisionCurve
from healthpredict.evaluation.effect import (
    Discontinuity,
    ThresholdComparison,
    TooFewEncounters,
    WeightedDifference,
)
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.metrics import CalibrationError
from healthpredict.evaluation.threshold_plot import ThresholdPlot
from healthpredict.evaluation.untreated import Overlap
from healthpredict.monitoring.alarms import OpenAlarm
from healthpredict.monitoring.subgroups import SubgroupDrift


class ModelSummary(BaseModel):
    """One version: its performance on the test side, whether it was promoted and why.

    Attributes:
        trigger: why it was made: `initial`, the batch that led to it, or the name of a training by hand.
        reason: of the gate, or what a recalibration corrects.
        run_url: page of its MLflow run, or None if MLflow has no server.
        flow_run_id: the Prefect flow run that trained it, or None.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    family: str
    trigger: str
    auroc: Interval
    auprc: Interval
    ece: CalibrationError
    baseline_auroc: Interval
    promoted: bool
    reason: str
    bundle_digest: str
    run_url: str | None
    flow_run_id: str | None


class BatchSummary(BaseModel):
    """One batch: its drift, the decision, and the performance of the champion that predicted it.

    Attributes:
        name: of the batch.
        rows: encounters of the cohort; 0 if the batch was not used.
        drifted_share: share of features that drifted (0-1).
        drifted_columns: their names, the most severe first.
        decision: stable, warn, recalibrate, retrain, refused, or empty (no encounters to predict).
        alarms: what its alarms were about: columns or groups of patients.
        reasons: of the decision.
        notices: what was unusual about its file.
        unknown_diagnoses: column of diagnoses -> encounters whose code `champion_before` does not know; empty if they were not
            counted, as by earlier versions of this system.
        champion_before: version in service when the batch arrived.
        champion: version that predicted the batch, after the update that the batch led to.
        live: whether the API predicted the batch, at discharge.
        silent: whether no flag was issued for it.
        auroc: AUROC of the champion's predictions for outcomes without intervention, as all figures but the next two; None while
            outcomes are unknown, or if they cannot be known without intervention.
        auroc_observed: the same for the outcomes as they were observed, which interventions may have changed.
        offset_observed: as `offset`, for the outcomes as they were observed.
        auprc: AUPRC of the same predictions.
        ece: ECE of the same predictions.
        auroc_frozen: AUROC of the first model on the same encounters.
        expected_auroc: AUROC of the champion, estimated before the outcomes were known; None if the batch was refused or empty.
        offset: mean risk minus readmission rate for the champion's predictions; None while outcomes are unknown.
        offset_frozen: the same for the first model.
        alert_rate: share of the batch (0-1) that `champion_before` flags; None if the batch was refused or empty.
        promised_alert_rate: share that it should flag (0-1).
        severity: feature -> its largest distance from the training data, in units of the limit: 1 or more is drift.
        severity_together: the same for the association of the feature with others.
        subgroups: drift and performance of groups with enough rows.
        time: when the batch was done, UTC.
        report: Evidently's page, relative to the reports; None if the batch was refused or empty.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    rows: int = 0
    drifted_share: float = 0.0
    drifted_columns: tuple[str, ...] = ()
    decision: str
    alarms: tuple[str, ...] = ()
    reasons: tuple[str, ...]
    notices: tuple[str, ...] = ()
    unknown_diagnoses: dict[str, int] = {}
    champion_before: int | None = None
    champion: int | None = None
    live: bool = False
    silent: bool = False
    auroc: float | None = None
    auroc_observed: float | None = None
    offset_observed: float | None = None
    auprc: float | None = None
    ece: float | None = None
    auroc_frozen: float | None = None
    expected_auroc: float | None = None
    offset: float | None = None
    offset_frozen: float | None = None
    alert_rate: float | None = None
    promised_alert_rate: float | None = None
    severity: dict[str, float] = {}
    severity_together: dict[str, float] = {}
    subgroups: tuple[SubgroupDrift, ...] = ()
    time: str
    report: str | None = None


class ModelCurve(BaseModel):
    """The usefulness of a version on test-side patients of all batches with known outcomes.

    Attributes:
        name: "champion" or "challenger".
        version: in the registry.
        curve: usefulness by threshold.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    curve: DecisionCurve


class DeliveredPerformance(BaseModel):
    """The performance of the predictions that were delivered, over all batches with known outcomes.

    Attributes:
        batches: number of batches.
        auroc: mean over the batches.
        auroc_frozen: mean of the first model on the same encounters.
        auroc_observed: mean for the outcomes as they were observed, which interventions may have changed.
        absolute_offset: mean absolute difference between mean risk and readmission rate; `offset` in JSON.
        worst_offset: the largest of these absolute differences.
        alert_rate_error: mean absolute difference between `alert_rate` and `promised_alert_rate`, or None if they are unknown.
        highest_alert_rate: the highest `alert_rate`, or None.
    """

    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)

    batches: int
    auroc: float
    auroc_frozen: float
    auroc_observed: float | None = None
    absolute_offset: float = Field(alias="offset")
    worst_offset: float
    alert_rate_error: float | None
    highest_alert_rate: float | None


class KindEffect(BaseModel):
    """The effect of one kind of intervention: flagged patients with no other kind, and readmissions prevented per one of them."""

    model_config = ConfigDict(frozen=True)

    accepted: int
    prevented: Interval


class MeasuredEffect(BaseModel):
    """Readmissions prevented per flag, in batches with reported interventions and known outcomes.

    Attributes:
        discontinuity: at the threshold, from the jump of the readmissions there.
        weighted: among all flagged patients, from outcomes without intervention; None if these cannot be known.
        problem: why not; None if they can.
        comparison: both for the patients at the threshold; None unless both are known.
        plot: readmissions on both sides of the threshold; None without a discontinuity.
        hold_out: among the flags that could be held back, from those that were; None without a hold-out.
        kinds: kind of intervention -> its effect, once enough were accepted and their outcomes without intervention can be known.
    """

    model_config = ConfigDict(frozen=True)

    discontinuity: Discontinuity | TooFewEncounters
    weighted: WeightedDifference | TooFewEncounters | None
    problem: str | None = None
    comparison: ThresholdComparison | None
    plot: ThresholdPlot | None
    hold_out: WeightedDifference | TooFewEncounters | None = None
    kinds: dict[str, KindEffect] = {}


class Summary(BaseModel):
    """All batches and models of an installation.

    Attributes:
        data: the prepared data and its source.
        models: every version, the oldest first.
        batches: every batch that is done, in the order of processing.
        delivered: performance on batches that the loop predicted, or None while no outcomes are known.
        delivered_live: the same for batches that the API predicted.
        delivered_silent: the same for batches without flags, which the other two leave out.
        overlap: what is known about interventions in all batches with known outcomes; None if there were none, as far as it is
            known.
        effect: what the flags prevented; None without reported interventions.
        decision_curves: of the champion and, if it is another version, of the last challenger, on the same encounters.
        alarms: those that nobody has acknowledged.
        acknowledgements: a sentence for each, with its reason.
        card: the model card of the champion, relative to the reports; None without a champion.
        seconds: wall time by stage, from the ledger.
    """

    model_config = ConfigDict(frozen=True)

    data: PreparedData
    models: tuple[ModelSummary, ...]
    batches: tuple[BatchSummary, ...]
    delivered: DeliveredPerformance | None = None
    delivered_live: DeliveredPerformance | None = None
    delivered_silent: DeliveredPerformance | None = None
    overlap: Overlap | None = None
    effect: MeasuredEffect | None = None
    decision_curves: tuple[ModelCurve, ...] = ()
    alarms: tuple[OpenAlarm, ...] = ()
    acknowledgements: tuple[str, ...] = ()
    card: str | None = None
    seconds: dict[str, float]
