"""Check an accepted batch: compare it with the champion's reference, and decide whether to retrain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.model import Bundle
from healthpredict.data.split import Side
from healthpredict.evaluation.metrics import Floats
from healthpredict.monitoring.concept import ConceptDrift, detect_concept_drift
from healthpredict.monitoring.data_drift import DataDrift, detect_data_drift
from healthpredict.monitoring.evidently_page import evidently_page
from healthpredict.monitoring.policy import DriftDecision, History, decide
from healthpredict.monitoring.profile import ReferenceProfile
from healthpredict.monitoring.subgroups import SubgroupDrift, detect_subgroup_drift
from healthpredict.operations.dataset import LABEL, matured_batches, sides
from healthpredict.operations.decide_by_hand import pending_override
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.operations.risks import risks_of
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.storage.tables import read_frame, read_json, write_json
from healthpredict.storage.uris import exists, join, write_bytes


class DriftCheck(BaseModel):
    """The result of a check.

    Attributes:
        batch: name of the batch.
        champion: version that the batch was compared with.
        rows: number of encounters in the cohort.
        data: drift of features and risks.
        concept: concept drift on matured outcomes that the champion was not trained on, or None if there are none.
        subgroups: drift and performance of groups with enough rows.
        decision: stable, warn or retrain, with reasons.
        override: sequence number of the manual decision that was followed, or None.
        report_uri: URI of Evidently's page.
        seconds: wall time by stage.
    """

    model_config = ConfigDict(frozen=True)

    batch: str
    champion: int
    rows: int
    data: DataDrift
    concept: ConceptDrift | None
    subgroups: tuple[SubgroupDrift, ...]
    decision: DriftDecision
    override: int | None
    report_uri: str
    seconds: Seconds


def detect_drift(installation: Installation, name: str) -> DriftCheck:
    """Check a batch, write its reports, and decide whether to retrain.

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
        return DriftCheck.model_validate(read_json(layout.check(name)))
    registry, settings = installation.registry, installation.settings
    champion = registry.champion()
    seconds: Seconds = {}
    with timed(seconds, "drift"):
        bundle = registry.fetch_bundle(champion)
        profile = ReferenceProfile.model_validate(bundle.reference())
        encounters = read_frame(layout.processed(name))
        risk = risks_of(bundle, encounters)
        data = detect_data_drift(profile, encounters, risk)
        _, html = evidently_page(profile, encounters, risk)
        unseen = _unseen_outcomes(installation, bundle, name)
        concept = None if unseen is None else _concept_drift(installation, bundle, unseen)
        pending = pending_override(installation)
        override_sequence, override = pending if pending else (None, None)
        history = History(
            new_share=_new_share(installation, bundle, unseen),
            gains=_gains(installation),
            override=override,
        )
        decision = decide(data, concept, history, settings.drift)
        folder = join(settings.reports_uri, "batches", name)
        report_uri = join(folder, "evidently.html")
        write_bytes(report_uri, html)
        subgroups = detect_subgroup_drift(
            profile,
            encounters,
            risk,
            _never_trained_on(installation, bundle, name, unseen),
            threshold=bundle.manifest.threshold,
            policy=settings.drift,
        )
    check = DriftCheck(
        batch=name,
        champion=champion.version,
        rows=len(encounters),
        data=data,
        concept=concept,
        subgroups=subgroups,
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


def _new_share(installation: Installation, bundle: Bundle, unseen: _UnseenOutcomes | None) -> float:
    layout = installation.layout
    trained_on = sum(read_json(layout.accepted(name))["cohort_rows"] for name in bundle.manifest.trained_on)
    return len(unseen.labelled) / trained_on if unseen else 0.0


def _gains(installation: Installation) -> tuple[float, ...]:
    """Each challenger's gain in AUROC over the champion of its time, as the gate measured it."""
    gates = installation.ledger.events("gate")
    return tuple(event["difference"]["value"] for event in gates if event["difference"] is not None)


@dataclass(frozen=True)
class _UnseenOutcomes:
    """Encounters that the champion was not trained on, with their outcomes and the champion's risks for them.

    Attributes:
        labelled: shape (n_encounters, ...).
        risk: shape (n_encounters,).
        batch: the number of each encounter's batch, shape (n_encounters,).
    """

    labelled: pd.DataFrame
    risk: Floats
    batch: NDArray[np.intp]

    @property
    def label(self) -> NDArray[np.bool_]:
        """Whether the patient was readmitted, shape (n_encounters,)."""
        return self.labelled[LABEL].to_numpy(dtype=np.bool_)


def _unseen_outcomes(installation: Installation, bundle: Bundle, arriving: str) -> _UnseenOutcomes | None:
    unseen = [n for n in matured_batches(installation, arriving) if n not in bundle.manifest.trained_on]
    if not unseen:
        return None
    parts = [read_labelled(installation, [batch]) for batch in unseen]
    labelled = pd.concat(parts, ignore_index=True)
    return _UnseenOutcomes(
        labelled, risks_of(bundle, labelled), np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    )


def _concept_drift(installation: Installation, bundle: Bundle, unseen: _UnseenOutcomes) -> ConceptDrift:
    return detect_concept_drift(
        label=unseen.label,
        risk=unseen.risk,
        patient_id=unseen.labelled["patient_id"].to_numpy(),
        promoted=bundle.manifest.test.evaluation,
        policy=installation.settings.drift,
        batch=unseen.batch,
    )


def _never_trained_on(
    installation: Installation, bundle: Bundle, arriving: str, unseen: _UnseenOutcomes | None
) -> tuple[pd.DataFrame, NDArray[np.bool_], Floats] | None:
    """Encounters, outcomes and risks of the batches that are new to the champion and of the test side of the other ones.

    A group in a few batches is too small to be judged. With the test side of all earlier ones, it is not.
    """
    parts = [] if unseen is None else [(unseen.labelled, unseen.risk)]
    trained_on = [name for name in matured_batches(installation, arriving) if name in bundle.manifest.trained_on]
    if trained_on:
        labelled = read_labelled(installation, trained_on)
        test = labelled[sides(labelled) == Side.TEST]
        parts.append((test, risks_of(bundle, test)))
    if not parts:
        return None
    encounters = pd.concat([labelled for labelled, _ in parts], ignore_index=True)
    return encounters, encounters[LABEL].to_numpy(dtype=np.bool_), np.concatenate([risk for _, risk in parts])
