"""A silent service predicts and logs, and issues no flag and no card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bundles import as_records, draw_encounters
from in_a_thread import Serve
from logged import lines_of

from healthpredict.bundle.model import Bundle
from healthpredict.config import Settings
from healthpredict.operations.installation import Installation
from healthpredict.operations.roll_out import local_target
from healthpredict.prediction_log.patient_key import make_patient_key, read_patient_key
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.rollout.manifests import only_manifest, read_manifests
from healthpredict.rollout.objects import objects_to_apply
from healthpredict.serving.app import create_app
from healthpredict.serving.encounter import as_sent
from healthpredict.serving.server import ServiceParams

ROOT = Path(__file__).parents[2]
CALL = json.loads((ROOT / "tests" / "hook.json").read_text())


@pytest.mark.parametrize("silent", [False, True])
def test_risks_are_returned_and_logged_and_flags_are_not(
    bundle: Bundle, serve_app: Serve, tmp_path: Path, silent: bool
) -> None:
    make_patient_key(tmp_path / "key")
    log = PredictionLog(tmp_path / "log", read_patient_key(tmp_path / "key"))
    client = serve_app(create_app(bundle, log=log, silent=silent))
    record = as_sent(as_records(draw_encounters(1, seed=9))[0])
    answers: list[dict[str, Any]] = [client.post(path, json=record).json() for path in ("/predict", "/explain")]
    batch = client.post("/predict/batch", json={"encounters": [record, {}]}).json()
    answers += batch["results"][:1]
    cards = client.post("/cds-services/readmission-risk", json=CALL).json()
    log.close()
    for answer in answers:
        assert answer["readmission_risk"] == answers[0]["readmission_risk"]
        assert (answer["high_risk"] is None) is silent
    assert batch["results"][1]["problem"] is not None
    assert (cards["cards"] == []) is silent
    if silent:
        assert cards["extension"]["healthpredict.no-card-because"].startswith("The service is silent")
    lines = lines_of(tmp_path / "log")
    assert len(lines) == 4
    assert all((line["high_risk"] is None) is silent and line["readmission_risk"] > 0 for line in lines)
    assert client.get("/model").json()["silent"] is silent


def test_a_silent_installation_rolls_out_a_silent_service(bundle: Bundle, tmp_path: Path) -> None:
    """To a process and to pods; otherwise nothing is added."""
    for silent in (False, True):
        settings = Settings(state_path=tmp_path, silent=silent)
        options = settings.api_options
        assert ("--silent=true" in local_target(Installation(settings))._options) is silent
        assert all(
            ServiceParams(**dict([option.removeprefix("--").split("=")]), bundle="b").silent for option in options
        )
        manifests = read_manifests(ROOT / "k8s/overlays/minikube")
        applied = objects_to_apply(manifests, bundle, "image", {"keys": b""}, options)
        (container,) = only_manifest(applied, "Deployment")["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["/bundle", "@/etc/healthpredict/arguments", *options]
