"""Summarise all batches and models from the ledger, the registry and the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from healthpredict.bundle.model import Bundle
from healthpredict.errors import NotEnoughData
from healthpredict.evaluation.interval import Floats, Outcomes
from healthpredict.evaluation.metrics import evaluate
from healthpredict.monitoring.data_drift import ColumnDrift, severest
from healthpredict.monitoring.profile import RISK
from healthpredict.operations.acknowledge import read_alarms
from healthpredict.operations.dataset import LABEL
from healthpredict.operations.detect_drift import DriftCheck
from healthpredict.operations.installation import Installation
from healthpredict.operations.measure_effect import measure_effect
from healthpredict.operations.pending import NOT_USED, batch_events
from healthpredict.operations.prepare import read_prepared
from healthpredict.operations.read_labelled import UNTREATED, Labelled, outcomes_of
from healthpredict.operations.risks import risks_of
from healthpredict.operations.timing import Seconds
from healthpredict.reporting.summary import BatchSummary, DeliveredPerformance, ModelSummary, Summary
from healthpredict.storage.tables import read_frame, read_json


def summarise(installation: Installation, matured: Labelled | None) -> Summary:
    """Summarise all batches and models.

    Args:
        installation: what to summarise.
        matured: all batches that have matured, see `read_matured`.

    Raises:
        ConfigurationError: nothing was prepared.
        RegistryError: MLflow failed.
        StorageError: something cannot be read.
    """
    events = installation.ledger.events()
    seconds: Seconds = {}
    for event in events:
        for stage, value in event.get("seconds", {}).items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    batches, alarms = summarise_batches(installation, matured), read_alarms(installation)
    return Summary(
        data=read_prepared(installation),
        models=_models(installation),
        batches=batches,
        delivered=delivered_performance([batch for batch in batches if not (batch.live or batch.silent)]),
        delivered_live=delivered_performance([batch for batch in batches if batch.live and not batch.silent]),
        delivered_silent=delivered_performance([batch for batch in batches if batch.silent]),
        overlap=matured.overlap if matured else None,
        effect=measure_effect(installation, matured) if matured else None,
        alarms=alarms.open,
        acknowledgements=alarms.acknowledgements,
        seconds=seconds,
    )


def delivered_performance(batches: Sequence[BatchSummary]) -> DeliveredPerformance | None:
    """Return the mean performance over the batches with known outcomes, or None if there are none."""
    known = [batch for batch in batches if batch.auroc is not None]
    if not known:
        return None
    columns = pd.DataFrame(
        [batch.model_dump(include={"auroc", "auroc_frozen", "auroc_observed", "offset"}) for batch in known]
    )
    absolute_offset = columns["offset"].abs()
    # Checks by earlier versions of this system have no alert rate.
    alerts = [
        (b.alert_rate, b.promised_alert_rate) for b in known if b.alert_rate is not None and b.promised_alert_rate
    ]
    return DeliveredPerformance(
        batches=len(known),
        auroc=columns["auroc"].mean(),
        auroc_frozen=columns["auroc_frozen"].mean(),
        absolute_offset=absolute_offset.mean(),
        worst_offset=absolute_offset.max(),
        auroc_observed=columns["auroc_observed"].mean(),
        alert_rate_error=float(np.mean([abs(rate - promised) for rate, promised in alerts])) if alerts else None,
        highest_alert_rate=max((rate for rate, _ in alerts), default=None),
    )


def _models(installation: Installation) -> tuple[ModelSummary, ...]:
    registry, ledger = installation.registry, installation.ledger
    promoted = {event["version"] for event in ledger.events("promotion")}
    gates = {event["version"]: event for event in ledger.events("gate")}
    recalibrations = {event["version"]: event for event in ledger.events("recalibration")}
    found = []
    for version in registry.versions():
        manifest = registry.fetch_bundle(version).manifest
        test = manifest.test
        if (recalibration := recalibrations.get(version.version)) is not None:
            reasons = [f"Recalibrates version {recalibration['of']}.", *recalibration["reasons"]]
        else:
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
                run_url=registry.run_url(version.run_id),
                flow_run_id=registry.run_tag(version.run_id, "flow_run_id"),
            )
        )
    return tuple(found)


def summarise_batches(installation: Installation, matured: Labelled | None) -> tuple[BatchSummary, ...]:
    """Summarise every batch that is done, in the order of processing. Arguments as `summarise`."""
    registry, layout = installation.registry, installation.layout
    promotions = installation.ledger.events("promotion")
    first_model = registry.fetch_bundle(registry.version(promotions[0]["version"])) if promotions else None
    found, done = [], batch_events(installation)
    used = [name for name, event in done.items() if event["decision"] not in NOT_USED]
    known = matured.by_name if matured else {}
    for name, event in done.items():
        details: dict[str, Any] = {}
        if name in used:
            details = _facts_of_check(DriftCheck.model_validate(read_json(layout.check(name))))
            if name in known:
                details |= _measured(with_predictions(installation, name, known[name]), first_model)
        found.append(
            BatchSummary(
                name=name,
                rows=event.get("rows", 0),
                drifted_share=event.get("drifted_share", 0.0),
                drifted_columns=event.get("drifted_columns", ()),
                decision=event["decision"],
                alarms=tuple(alarm["about"] for alarm in event.get("alarms", ())),
                reasons=event["reasons"],
                notices=event.get("notices", ()),
                unknown_diagnoses=event.get("unknown_diagnoses", {}),
                champion_before=event.get("champion_before"),
                # In earlier versions of this system, the champion before the update predicted the batch.
                champion=event.get("champion" if "live" in event else "champion_before"),
                live=event.get("live", False),
                silent=event.get("silent", False),
                expected_auroc=event.get("expected_auroc"),
                time=event["time"],
                **details,
            )
        )
    return tuple(found)


def with_predictions(installation: Installation, name: str, labelled: pd.DataFrame) -> pd.DataFrame:
    """Add the predictions of a batch to its labelled encounters.

    Raises:
        StorageError: something cannot be read.
    """
    return labelled.merge(read_frame(installation.layout.predictions(name)), on="encounter_id", validate="one_to_one")


def _facts_of_check(check: DriftCheck) -> dict[str, Any]:
    return {
        "severity": _by_column(check.data.columns),
        "severity_together": _by_column(check.data.joint),
        "subgroups": check.subgroups,
        "alert_rate": check.alert_rate and check.alert_rate.flagged.value,
        "promised_alert_rate": check.alert_rate and check.alert_rate.promised,
        "report": f"batches/{quote(check.batch)}/evidently.html",
    }


def _by_column(columns: tuple[ColumnDrift, ...]) -> dict[str, float]:
    farthest = severest(columns)
    return {name: round(farthest[name].severity, 3) for name in dict.fromkeys(column.column for column in columns)}


def _measured(predicted: pd.DataFrame, first_model: Bundle | None) -> dict[str, float]:
    risk, observed = predicted[RISK].to_numpy(), predicted[LABEL].to_numpy(dtype=np.bool_)
    measured = _evaluate(observed, risk)
    found = {f"{name}_observed": measured[name] for name in ("auroc", "offset") if name in measured}
    if predicted[UNTREATED].isna().all():
        return found
    label = outcomes_of(predicted)
    found |= _evaluate(label, risk)
    if first_model is not None:
        first = _evaluate(label, risks_of(first_model, predicted))
        found |= {f"{name}_frozen": first[name] for name in ("auroc", "offset") if name in first}
    return found


def _evaluate(label: Outcomes, risk: Floats) -> dict[str, float]:
    """Evaluate risks; nothing is returned for a batch with one class only."""
    try:
        # Intervals are not used.
        evaluation = evaluate(label, risk, np.arange(len(label)), n_bootstrap=1)
    except NotEnoughData:
        return {}
    return {
        "auroc": evaluation.auroc.value,
        "auprc": evaluation.auprc.value,
        "ece": evaluation.ece,
        "offset": evaluation.calibration_in_the_large.value,
    }
