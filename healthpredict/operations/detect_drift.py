"""Check an accepted batch: compare it with the champion's reference, and decide what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, model_validator

from healthpredict.bundle.model import Bundle
from healthpredict.data.split import Side
from healthpredict.evaluation.interval import Floats, Interval, Outcomes
from healthpredict.evaluation.untreated import Overlap
from healthpredict.features.frame import encode_frame, unknown_diagnoses
from healthpredict.monitoring.alarms import Alarm
from healthpredict.monitoring.alert_rate import AlertRate, check_alert_rate
from healthpredict.monitoring.calibration import CalibrationCheck, check_calibration
from healthpredict.monitoring.changes import Change, column_alarms
from healthpredict.monitoring.concept import ConceptDrift, detect_concept_drift
from healthpredict.monitoring.contributions import Contribution
from healthpredict.monitoring.data_drift import DataDrift, compare, count_batch
from healthpredict.monitoring.evidently_page import evidently_page
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.policy import DriftDecision, Findings, History, decide, reasons_to_recalibrate
from healthpredict.monitoring.profile import ReferenceProfile
from healthpredict.monitoring.subgroups import SubgroupDrift, detect_subgroup_drift, subgroup_alarms
from healthpredict.operations.acknowledge import read_alarms
from healthpredict.operations.batch_changes import champion_contributions, changes_since_batch_before, earlier_jumps
from healthpredict.operations.champion_gain import (
    champion_gain,
    earlier_gains,
    earlier_shadow_gains,
    shadow_gain,
)
from healthpredict.operations.dataset import cohort_rows, matured_batches, sides
from healthpredict.operations.decide_by_hand import pending_override
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import Labelled, outcomes_of, read_labelled, with_outcome
from healthpredict.operations.risks import risks_of
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.operations.unseen_outcomes import UnseenOutcomes, unseen_outcomes
from healthpredict.storage.tables import read_frame, read_json, write_json
from healthpredict.storage.uris import exists, join, write_bytes


class DriftCheck(BaseModel):
    """The result of a check.

    It is stored as JSON with all models in it: never rename a field of any of them, and give new ones a default. The ledger
    contains `alarms`, `gain`, `shadow_gain`, `override`, `trained_version` and `newest_matured`.

    Attributes:
        batch: name of the batch.
        champion: version that the batch was compared with.
        trained_version: that training built; see `Manifest.trained_version`.
        rows: number of encounters in the cohort.
        data: drift of features and risks.
        concept: concept drift on matured outcomes that the champion was not trained on, or None if there are none.
        unknown_diagnoses: column of diagnoses -> number of encounters whose code the champion does not know; see
            `features.frame.unknown_diagnoses`.
        changes: feature -> its change since the batch before; empty if the batch is too small to be judged.
        contributions: column -> its mean contribution to the predictions; empty if the champion cannot be explained.
        alarms: what a person should look at, without what was acknowledged.
        subgroups: drift and performance of groups with enough rows.
        newest_matured: the newest batch with known outcomes that the champion was not trained on, or None if there is none.
        calibration: on the newest matured outcomes that its calibrator has not used, or None if they are too few.
        alert_rate: share of the batch that the champion flags, or None in a check by an earlier version of this system.
        gain: what the champion gained over the one before it, or None unless this check is the first that can measure it.
        shadow_gain: what the shadow gains over the champion on `newest_matured`, or None if there was no shadow.
        overlap: of all matured batches, see `Labelled`. All figures of outcomes are about outcomes without intervention.
        decision: stable, warn, recalibrate or retrain, with reasons.
        override: sequence number of the manual decision that was followed, or None.
        report_uri: URI of Evidently's page.
        seconds: wall time by stage.
    """

    model_config = ConfigDict(frozen=True)

    batch: str
    champion: int
    trained_version: int
    rows: int
    data: DataDrift
    concept: ConceptDrift | None
    unknown_diagnoses: dict[str, int] = {}
    changes: dict[str, Change] = {}
    contributions: dict[str, Contribution] = {}
    alarms: tuple[Alarm, ...] = ()
    subgroups: tuple[SubgroupDrift, ...]
    newest_matured: str | None = None
    calibration: CalibrationCheck | None = None
    alert_rate: AlertRate | None = None
    gain: Interval | None = None
    shadow_gain: Interval | None = None
    overlap: Overlap | None = None
    decision: DriftDecision
    override: int | None
    report_uri: str
    seconds: Seconds

    @model_validator(mode="before")
    @classmethod
    def _before_recalibrations(cls, stored: Any) -> Any:
        """Read the check of an earlier version of this system, when training built every version."""
        if isinstance(stored, dict) and "trained_version" not in stored:
            return stored | {"trained_version": stored.get("champion")}
        return stored

    @property
    def recalibrate(self) -> bool:
        """Whether to recalibrate the champion, unless a retraining has replaced it."""
        if self.decision.state != "retrain":
            return self.decision.state == "recalibrate"
        return bool(reasons_to_recalibrate(self.calibration, self.alert_rate))


def detect_drift(installation: Installation, name: str) -> DriftCheck:
    """Check a batch, write its reports, and decide what to do.

    A check is never repeated: a later call returns the stored result, even if settings or champion have changed since.

    Args:
        installation: where data and models are.
        name: an accepted batch.

    Raises:
        RegistryError: there is no champion, or MLflow failed.
        NotEnoughData: the batch's cohort is empty.
    """
    layout = installation.layout
    if exists(layout.check(name)):
        return read_check(installation, name)
    registry, settings = installation.registry, installation.settings
    champion = registry.champion()
    seconds: Seconds = {}
    with timed(seconds, "drift"):
        bundle = registry.fetch_bundle(champion)
        profile = ReferenceProfile.model_validate(bundle.reference())
        encounters = read_frame(layout.processed(name))
        features = encode_frame(bundle.encoder, encounters)
        risk, risk_as_trained = bundle.risks(features), bundle.risks_as_trained(features)
        counts = count_batch(profile, encounters, risk_as_trained)
        contributions = champion_contributions(bundle, encounters)
        names = matured_batches(installation, name)
        matured = read_labelled(installation, names) if names else None
        unseen = unseen_outcomes(bundle, matured) if matured else None
        overlap = matured.overlap if matured else None
        pending = pending_override(installation)
        override_sequence, override = pending if pending else (None, None)
        history = History(
            new_share=_new_share(installation, bundle, unseen),
            gains=earlier_gains(installation),
            override=override,
        )
        gain, shadow, concept, calibration = None, None, None, None
        if unseen is not None:
            gain = champion_gain(installation, bundle, unseen)
            shadow_gains = earlier_shadow_gains(installation, bundle)
            # With enough new outcomes, the decision is to retrain anyway.
            if history.new_share < settings.drift.min_new_share and unseen.names[-1] not in shadow_gains:
                shadow = shadow_gain(installation, champion, bundle, unseen)
            measured = [*shadow_gains.values(), *([shadow] if shadow else [])]
            concept = _concept_drift(installation, bundle, unseen, measured)
            calibration = _calibration(bundle, unseen, settings.drift)
        subgroups = detect_subgroup_drift(
            profile,
            encounters,
            risk,
            _never_trained_on(bundle, matured, unseen),
            threshold=bundle.manifest.threshold,
            policy=settings.drift,
        )
        changes = changes_since_batch_before(installation, bundle, profile, counts, contributions)
        group_alarms = subgroup_alarms(subgroups, settings.drift)
        known = read_alarms(installation).known_under(bundle.manifest.trained_version)
        findings = Findings(
            data=compare(profile, counts),
            concept=concept,
            calibration=calibration,
            alert_rate=check_alert_rate(risk, bundle.manifest.threshold, settings.model.alert_rate, settings.drift),
            alarms=(
                *column_alarms(changes, earlier_jumps(installation), settings.drift),
                *(alarm for alarm in group_alarms if alarm.about not in known),
            ),
            acknowledged=tuple(alarm.sentence for alarm in group_alarms if alarm.about in known),
        )
        decision = decide(findings, history, settings.drift)
        if overlap is not None and overlap.problem is not None:
            decision = decision.model_copy(update={"reasons": (*decision.reasons, overlap.problem)})
        folder = join(settings.reports_uri, "batches", name)
        report_uri = join(folder, "evidently.html")
        _, html = evidently_page(profile, encounters, risk_as_trained)
        write_bytes(report_uri, html)
    check = DriftCheck(
        batch=name,
        champion=champion.version,
        trained_version=bundle.manifest.trained_version,
        rows=len(encounters),
        data=findings.data,
        concept=findings.concept,
        unknown_diagnoses=unknown_diagnoses(bundle.encoder, encounters),
        changes=changes,
        contributions=contributions,
        alarms=findings.alarms,
        subgroups=subgroups,
        newest_matured=unseen.names[-1] if unseen else None,
        calibration=findings.calibration,
        alert_rate=findings.alert_rate,
        gain=gain,
        shadow_gain=shadow,
        overlap=overlap,
        decision=decision,
        override=override_sequence,
        report_uri=report_uri,
        seconds=seconds,
    )
    write_json(join(folder, "drift.json"), check.model_dump(mode="json"))
    # Written last: its existence means that the other files are complete.
    write_json(layout.check(name), check.model_dump(mode="json"))
    log_step(name, "drift", seconds["drift"], f"{decision.state}: {' '.join(decision.reasons)}")
    return check


def read_check(installation: Installation, name: str) -> DriftCheck:
    """Read the check of a batch.

    Raises:
        NotFound: it was not checked.
        StorageError: the check cannot be read.
    """
    return DriftCheck.model_validate(read_json(installation.layout.check(name)))


def _new_share(installation: Installation, bundle: Bundle, unseen: UnseenOutcomes | None) -> float:
    """Encounters with new outcomes, divided by those that the champion was trained on.

    What the last challenger was trained on is not new, even if it did not pass the gate: with the same outcomes, the next one would
    not be better.
    """
    if unseen is None:
        return 0.0
    last = installation.ledger.last("training")
    registry = installation.registry
    tried = registry.fetch_bundle(registry.version(last["version"])).manifest.trained_on if last else ()
    new = sum(name not in tried for name in unseen.names)
    rows = int((unseen.batch >= len(unseen.names) - new).sum())
    return rows / cohort_rows(installation, bundle.manifest.trained_on)


def _concept_drift(
    installation: Installation, bundle: Bundle, unseen: UnseenOutcomes, shadow_gains: Iterable[Interval]
) -> ConceptDrift:
    return detect_concept_drift(
        label=unseen.label,
        risk=unseen.risk,
        patient_id=unseen.patient_id,
        promoted=bundle.manifest.test.evaluation,
        policy=installation.settings.drift,
        batch=unseen.batch,
        shadow_gains=tuple(shadow_gains),
    )


def _calibration(bundle: Bundle, unseen: UnseenOutcomes, policy: DriftPolicy) -> CalibrationCheck | None:
    rows = unseen.since(bundle.manifest.calibrated_on, policy.calibration_rows)
    return check_calibration(unseen.label[rows], unseen.risk[rows], policy)


def _never_trained_on(
    bundle: Bundle, matured: Labelled | None, unseen: UnseenOutcomes | None
) -> tuple[pd.DataFrame, Outcomes, Floats] | None:
    """Encounters, outcomes and risks of the batches that are new to the champion and of the test side of the other ones.

    A group in a few batches is too small to be judged. With the test side of all earlier ones, it is not.
    """
    parts = [] if unseen is None else [(unseen.labelled, unseen.risk)]
    trained_on = bundle.manifest.trained_on
    known = matured.by_name if matured else {}
    old = [with_outcome(part) for name, part in known.items() if name in trained_on]
    if old:
        labelled = pd.concat(old, ignore_index=True)
        test = labelled[sides(labelled) == Side.TEST]
        parts.append((test, risks_of(bundle, test)))
    if not sum(len(labelled) for labelled, _ in parts):
        return None
    encounters = pd.concat([labelled for labelled, _ in parts], ignore_index=True)
    return encounters, outcomes_of(encounters), np.concatenate([risk for _, risk in parts])
