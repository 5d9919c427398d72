"""Look at an accepted batch: predict it, compare it with the champion's reference, and decide what follows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.model import Bundle
from healthpredict.config import Settings
from healthpredict.errors import RegistryError
from healthpredict.monitoring.concept import ConceptDrift, detect_concept_drift
from healthpredict.monitoring.data_drift import DataDrift, detect_data_drift
from healthpredict.monitoring.policy import DriftDecision, decide
from healthpredict.monitoring.profile import ReferenceProfile
from healthpredict.operations.context import Seconds, open_registry, timed
from healthpredict.operations.dataset import LABEL, arrived_batches, matured_batches
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.operations.risks import risks_of
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, read_json, write_frame, write_json
from healthpredict.storage.uris import exists, join, write_bytes

RISK = "readmission_risk"


class DriftCheck(BaseModel):
    """What a batch showed.

    Attributes:
        batch: its name.
        champion: version that predicted it.
        rows: encounters of the cohort.
        data: drift of features and risks.
        concept: the champion on matured outcomes that it was not trained on; None where there are none.
        decision: what follows.
        report_uri: Evidently's page.
        seconds: wall time by stage.
    """

    model_config = ConfigDict(frozen=True)

    batch: str
    champion: int
    rows: int
    data: DataDrift
    concept: ConceptDrift | None
    decision: DriftDecision
    report_uri: str
    seconds: Seconds


def detect_drift(settings: Settings, name: str) -> DriftCheck:
    """Check one batch, write its predictions and its reports, and decide; a batch that was checked before is not checked anew.

    Args:
        settings: the policy; where predictions and reports go.
        name: an accepted batch.

    Raises:
        RegistryError: there is no champion, or MLflow failed.
        NotEnoughData: the batch's cohort is empty.
    """
    layout = Layout(settings.data_uri)
    if exists(layout.check(name)):
        return DriftCheck.model_validate(read_json(layout.check(name)))
    registry = open_registry(settings)
    champion = registry.by_alias("champion")
    if champion is None:
        raise RegistryError(f"{settings.model_name} has no champion. Train one first: `healthpredict train`.")
    seconds: Seconds = {}
    with timed(seconds, "drift"):
        bundle = registry.fetch_bundle(champion)
        profile = ReferenceProfile.model_validate(bundle.reference())
        encounters = read_frame(layout.processed(name))
        risk = risks_of(bundle, encounters)
        predictions = pd.DataFrame({"encounter_id": encounters["encounter_id"], RISK: risk})
        write_frame(layout.predictions(name), predictions.assign(model_version=champion.version))
        data, html = detect_data_drift(profile, encounters, risk)
        concept = _concept_drift(settings, bundle, name)
        decision = decide(data, concept, _batches_since_training(settings, bundle, name), settings.drift)
        folder = join(settings.reports_uri, "batches", name)
        report_uri = join(folder, "evidently.html")
        write_bytes(report_uri, html)
    check = DriftCheck(
        batch=name,
        champion=champion.version,
        rows=len(encounters),
        data=data,
        concept=concept,
        decision=decision,
        report_uri=report_uri,
        seconds=seconds,
    )
    write_json(join(folder, "drift.json"), check.model_dump(mode="json"))
    # Last, because it says that the rest is there.
    write_json(layout.check(name), check.model_dump(mode="json"))
    return check


def _batches_since_training(settings: Settings, bundle: Bundle, arriving: str) -> int:
    """Batches that have arrived after the one on whose arrival the champion was trained."""
    arrived, manifest = arrived_batches(settings), bundle.manifest
    if manifest.trigger in arrived:
        return arrived.index(arriving) - arrived.index(manifest.trigger)
    # Trained by hand: when its newest outcomes had just become known.
    return arrived.index(arriving) - arrived.index(manifest.trained_on[-1]) - settings.label_delay


def _concept_drift(settings: Settings, bundle: Bundle, arriving: str) -> ConceptDrift | None:
    unseen = [n for n in matured_batches(settings, arriving) if n not in bundle.manifest.trained_on]
    if not unseen:
        return None
    labelled = read_labelled(settings, unseen)
    return detect_concept_drift(
        label=labelled[LABEL].to_numpy(dtype=np.bool_),
        risk=risks_of(bundle, labelled),
        patient_id=labelled["patient_id"].to_numpy(),
        promoted=bundle.manifest.test.evaluation,
        policy=settings.drift,
    )
