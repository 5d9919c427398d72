"""What the ledger, the registry and the predictions say about the whole run."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from healthpredict.config import Settings
from healthpredict.evaluation.metrics import Floats, Interval, evaluate
from healthpredict.operations.context import Seconds, open_ledger, open_registry
from healthpredict.operations.dataset import LABEL
from healthpredict.operations.detect_drift import RISK
from healthpredict.operations.prepare import PreparedData, read_prepared
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.operations.risks import risks_of
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame
from healthpredict.storage.uris import exists


class ModelSummary(BaseModel):
    """One version: what it is worth on the test side, whether it was promoted and why."""

    model_config = ConfigDict(frozen=True)

    version: int
    family: str
    trigger: str
    auroc: Interval
    auprc: Interval
    ece: Interval
    baseline_auroc: Interval
    promoted: bool
    reason: str
    bundle_digest: str


class BatchSummary(BaseModel):
    """One batch: what it showed, what was decided, and how good the champion that predicted it was.

    Attributes:
        name: of the batch.
        rows: encounters of the cohort; 0 where it was refused.
        drifted_share: share of features that drifted (0-1).
        drifted_columns: their names, the farthest first.
        decision: stable, warn, retrain or refused.
        reasons: of the decision.
        champion: version that predicted the batch.
        champion_after: version once the batch was done.
        auroc: of the champion's predictions; None while outcomes are unknown.
        auprc: likewise.
        ece: likewise.
        auroc_frozen: of the first champion on the same encounters, had it never been replaced.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    rows: int = 0
    drifted_share: float = 0.0
    drifted_columns: tuple[str, ...] = ()
    decision: str
    reasons: tuple[str, ...]
    champion: int | None = None
    champion_after: int | None = None
    auroc: float | None = None
    auprc: float | None = None
    ece: float | None = None
    auroc_frozen: float | None = None


class Summary(BaseModel):
    """The whole run.

    Attributes:
        data: what was prepared, its source named.
        models: every version, the oldest first.
        batches: every batch done, in order.
        seconds: wall time by stage, as far as the ledger knows.
    """

    model_config = ConfigDict(frozen=True)

    data: PreparedData
    models: tuple[ModelSummary, ...]
    batches: tuple[BatchSummary, ...]
    seconds: Seconds


def summarise(settings: Settings) -> Summary:
    """Summarise everything that was done.

    Raises:
        ConfigurationError: nothing was prepared.
        RegistryError: MLflow failed.
        StorageError: something cannot be read.
    """
    events = open_ledger(settings).events()
    seconds: Seconds = {}
    for event in events:
        for stage, value in event.get("seconds", {}).items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    return Summary(
        data=read_prepared(settings),
        models=_models(settings),
        batches=_batches(settings),
        seconds=seconds,
    )


def _models(settings: Settings) -> tuple[ModelSummary, ...]:
    registry, ledger = open_registry(settings), open_ledger(settings)
    promoted = {event["version"] for event in ledger.events("promotion")}
    gates = {event["version"]: event for event in ledger.events("gate")}
    found = []
    for version in registry.versions():
        manifest = registry.fetch_bundle(version).manifest
        test = manifest.test
        reasons = gates.get(version.version, {}).get("reasons", ["not gated yet"])
        found.append(
            ModelSummary(
                version=version.version,
                family=manifest.family,
                trigger=manifest.trigger,
                auroc=test.evaluation.auroc,
                auprc=test.evaluation.auprc,
                ece=test.evaluation.ece,
                baseline_auroc=test.baseline_auroc,
                promoted=version.version in promoted,
                reason=" ".join(reasons),
                bundle_digest=version.bundle_digest,
            )
        )
    return tuple(found)


def _batches(settings: Settings) -> tuple[BatchSummary, ...]:
    ledger, registry, layout = open_ledger(settings), open_registry(settings), Layout(settings.data_uri)
    promotions = ledger.events("promotion")
    frozen = registry.fetch_bundle(registry.version(promotions[0]["version"])) if promotions else None
    found = []
    for event in ledger.events("batch"):
        name = event["batch"]
        measured: dict[str, float] = {}
        if event["decision"] != "refused" and exists(layout.outcomes(name)):
            labelled = read_labelled(settings, [name])
            predicted = labelled.merge(read_frame(layout.predictions(name)), on="encounter_id", validate="one_to_one")
            label = predicted[LABEL].to_numpy(dtype=np.bool_)
            measured = _measure(label, predicted[RISK].to_numpy())
            if frozen is not None:
                measured["auroc_frozen"] = _measure(label, risks_of(frozen, predicted))["auroc"]
        found.append(
            BatchSummary(
                name=name,
                rows=event.get("rows", 0),
                drifted_share=event.get("drifted_share", 0.0),
                drifted_columns=event.get("drifted_columns", ()),
                decision=event["decision"],
                reasons=event["reasons"],
                champion=event.get("champion_before"),
                champion_after=event.get("champion"),
                **measured,
            )
        )
    return tuple(found)


def _measure(label: np.ndarray, risk: Floats) -> dict[str, float]:
    evaluation = evaluate(label, risk, np.arange(len(label)), n_bootstrap=1)
    return {name: getattr(evaluation, name).value for name in ("auroc", "auprc", "ece")}
