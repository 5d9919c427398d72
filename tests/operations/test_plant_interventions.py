"""Interventions that are planted into a batch are accepted as any others, and a second call writes the same."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from accepting import accept

from healthpredict.config import Settings
from healthpredict.operations.accept_interventions import Flagged, accept_interventions
from healthpredict.operations.accept_outcomes import accept_outcomes
from healthpredict.operations.installation import Installation
from healthpredict.operations.plant_interventions import plant_interventions
from healthpredict.operations.prepare import prepare
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, write_frame

NAME = "batch-01"


@pytest.fixture
def installation(settings: Settings, source: str) -> Installation:
    """A batch that is done. Every second encounter was flagged."""
    installation = Installation(settings)
    prepare(installation, source)
    accept(settings, NAME)
    layout = Layout(settings.data_uri)
    predicted = read_frame(layout.processed(NAME), ["encounter_id"]).assign(readmission_risk=0.3, model_version=1)
    write_frame(layout.predictions(NAME), predicted.assign(high_risk=predicted.index % 2 == 0))
    installation.ledger.append("batch", batch=NAME, decision="stable")
    return installation


def outcomes_of(installation: Installation) -> bytes:
    return Path(installation.layout.outcomes(NAME)).read_bytes()


def test_every_flagged_encounter_has_a_usable_answer(installation: Installation) -> None:
    before = outcomes_of(installation)
    plant_interventions(installation, NAME, before, 1.0)
    (accepted,) = accept_interventions(installation).accepted
    flagged = accepted.flagged
    assert flagged is not None
    n_flagged = int(read_frame(installation.layout.predictions(NAME))["high_risk"].sum())
    assert flagged == Flagged(encounters=n_flagged, known=n_flagged, accepted=flagged.accepted)
    assert (accepted.problems, accepted.kinds) == ((), {"telephone-call": flagged.accepted})
    assert 0 < flagged.accepted < n_flagged


def test_with_full_effect_no_treated_patient_returns_within_30_days(installation: Installation) -> None:
    before = outcomes_of(installation)
    plant_interventions(installation, NAME, before, 1.0)
    reports = pd.read_csv(installation.layout.interventions(NAME))
    treated = set(reports.loc[reports["response"] == "accepted", "encounter_id"])
    after = pd.read_csv(installation.layout.outcomes(NAME))
    joined = after.merge(pd.read_csv(BytesIO(before)), on="encounter_id", suffixes=("", "_before"))
    changed = joined["readmitted"] != joined["readmitted_before"]
    expected = joined["encounter_id"].isin(treated) & joined["readmitted_before"].eq("<30")
    assert expected.any()
    assert changed.tolist() == expected.tolist()
    assert accept_outcomes(installation).accepted[0].matured


def test_a_second_call_writes_the_same_and_touches_nothing(installation: Installation) -> None:
    before, layout = outcomes_of(installation), installation.layout
    files = [Path(layout.interventions(NAME)), Path(layout.outcomes(NAME))]
    plant_interventions(installation, NAME, before, 0.5)
    first = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    plant_interventions(Installation(installation.settings), NAME, before, 0.5)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == first


def test_a_batch_without_predictions_has_no_interventions(installation: Installation) -> None:
    layout = installation.layout
    before = outcomes_of(installation)
    Path(layout.predictions(NAME)).unlink()
    plant_interventions(installation, NAME, before, 1.0)
    assert not Path(layout.interventions(NAME)).exists()
    assert pd.read_csv(layout.outcomes(NAME)).equals(pd.read_csv(BytesIO(before)))
