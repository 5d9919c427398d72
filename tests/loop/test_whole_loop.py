"""The loop as its users see it: flows, ledger, registry, API, report, command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.config import Settings
from healthpredict.data.synthetic import synthesize_to_parquet
from healthpredict.features.frame import encode_frame
from healthpredict.operations.dataset import LABEL, cohort_rows, matured_batches, sides
from healthpredict.operations.detect_drift import DriftCheck
from healthpredict.operations.drift_loop import drift_loop
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import find_pending
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.operations.score import score
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, read_json

pytestmark = pytest.mark.slow
SCREENSHOTS = Path(__file__).parents[2] / "reports" / "e2e"


def events(settings: Settings, kind: str) -> list[dict[str, Any]]:
    return Installation(settings).ledger.events(kind)


def test_every_batch_is_done_once_and_in_order(finished: Settings) -> None:
    assert [event["batch"] for event in events(finished, "batch")] == ["batch-01", "batch-02", "batch-03"]
    assert find_pending(Installation(finished)).names == []


def test_planted_drift_leads_to_a_retrained_champion(finished: Settings) -> None:
    decisions = {event["batch"]: event for event in events(finished, "batch")}
    retrained = [event for event in decisions.values() if event["decision"] == "retrain"]
    assert retrained
    assert retrained[0]["champion"] > retrained[0]["champion_before"]
    assert len(events(finished, "training")) == 1 + len(retrained)


def test_champion_is_what_answers(finished: Settings) -> None:
    champion = Installation(finished).registry.by_alias("champion")
    assert champion is not None
    model = httpx.get(f"http://127.0.0.1:{finished.api_port}/model", trust_env=False).json()
    assert model["bundle_digest"] == champion.bundle_digest
    assert events(finished, "promotion")[-1]["version"] == champion.version


def test_predictions_were_made_before_the_outcomes_of_the_batch_were_used(finished: Settings) -> None:
    registry = Installation(finished).registry
    for event in events(finished, "batch"):
        name = event["batch"]
        predicted = read_frame(Layout(finished.data_uri).predictions(name))
        (version,) = predicted["model_version"].unique()
        assert version == event["champion"], "the one after the update"
        trained_on = registry.fetch_bundle(registry.version(version)).manifest.trained_on
        assert name not in trained_on
        assert set(trained_on) <= set(matured_batches(Installation(finished), name))


def test_no_model_has_seen_a_patient_of_the_test_side(finished: Settings) -> None:
    """The number of training rows that MLflow knows is that of the other two sides."""
    registry = Installation(finished).registry
    for version in registry.versions():
        if "recalibrates" in version.tags:
            continue
        labelled = read_labelled(Installation(finished), json.loads(version.tags["trained_on"])).frame
        params = registry.client.get_run(version.run_id).data.params
        assert int(params["training_rows"]) == int((sides(labelled) != "test").sum())


def test_a_training_searches_only_if_the_encounters_have_grown_enough(finished: Settings) -> None:
    """The first training always does."""
    installation = Installation(finished)
    registry, searched = installation.registry, 0
    for version in sorted(registry.versions(), key=lambda version: version.version):
        if "recalibrates" in version.tags:
            continue
        rows = cohort_rows(installation, json.loads(version.tags["trained_on"]))
        if rows >= 1.5 * searched:
            searched = rows
        assert int(version.tags["searched_rows"]) == searched
        params = registry.client.get_run(version.run_id).data.params
        assert (int(params["trials"]) > 0) == (searched == rows)


def test_groups_are_judged_on_all_outcomes_that_the_champion_was_not_trained_on(finished: Settings) -> None:
    registry, judged = Installation(finished).registry, 0
    for event in events(finished, "batch"):
        check = DriftCheck.model_validate(read_json(Layout(finished.data_uri).check(event["batch"])))
        trained_on = registry.fetch_bundle(registry.version(check.champion)).manifest.trained_on
        known = [
            read_labelled(Installation(finished), [name]).frame.assign(new=name not in trained_on)
            for name in matured_batches(Installation(finished), event["batch"])
        ]
        labelled = pd.concat(known, ignore_index=True)
        unseen = labelled[labelled["new"] | (sides(labelled) == "test")]
        for group in check.subgroups:
            if group.column == "gender" and group.known_rows:
                assert group.known_rows == (unseen["gender"] == group.value).sum()
                judged += 1
    assert judged, "no group was large enough"


def test_the_usefulness_of_each_version_is_in_mlflow(finished: Settings) -> None:
    registry = Installation(finished).registry
    for version in registry.versions():
        curve = registry.fetch_bundle(version).manifest.test.decision_curve
        assert curve is not None
        metrics = registry.client.get_run(version.run_id).data.metrics
        assert metrics["net_benefit"] == curve.at_threshold.net_benefit.value
        assert metrics["sensitivity_low"] == curve.at_threshold.sensitivity.low
        assert {f"{name}/0.10" for name in ("net_benefit", "treat_all", "baseline", "advantage")} <= metrics.keys()
        plots = registry.client.list_artifacts(version.run_id, "plots")
        assert "plots/decision_curve.png" in {plot.path for plot in plots}


def test_bundle_gives_what_was_written_as_prediction(finished: Settings) -> None:
    registry = Installation(finished).registry
    predicted = read_frame(Layout(finished.data_uri).predictions("batch-01"))
    bundle = registry.fetch_bundle(registry.version(int(predicted["model_version"].iloc[0])))
    encounters = read_labelled(Installation(finished), ["batch-01"]).frame
    assert LABEL in encounters
    both = encounters.merge(predicted, on="encounter_id", validate="one_to_one")
    risk = bundle.risks(encode_frame(bundle.encoder, both))
    np.testing.assert_allclose(risk, both["readmission_risk"], atol=1e-9)


def test_trials_are_nested_runs_with_curves(finished: Settings) -> None:
    registry = Installation(finished).registry
    run_id = registry.versions()[0].run_id
    trials = registry.client.search_runs([registry.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert len(trials) >= 3
    curve = registry.client.get_metric_history(trials[0].info.run_id, "validation_auroc")
    assert len(curve) > 1
    assert {trial.data.params["family"] for trial in trials} == {"logistic_regression", "lightgbm"}


def test_best_of_each_family_is_a_logged_model(finished: Settings) -> None:
    registry = Installation(finished).registry
    version = registry.versions()[0]
    models = registry.client.search_logged_models([registry.experiment_id], f"source_run_id = '{version.run_id}'")
    assert {model.name for model in models} == {"logistic_regression", "lightgbm"}


def test_loop_started_again_does_nothing(finished: Settings) -> None:
    before = Installation(finished).ledger.events()
    assert drift_loop(Installation(finished)).done == []
    assert Installation(finished).ledger.events() == before


def test_trace_leads_from_version_to_data_run_commit_gate_and_bundle(finished: Settings) -> None:
    result = CliRunner().invoke(app, ["trace", "1", "--json"])
    assert result.exit_code == 0, result.output
    line = json.loads(result.stdout)
    assert line["trigger"] == "initial"
    assert line["trained_on"] == ["initial"]
    assert len(line["data_digest"]) == len(line["bundle_digest"]) == 64
    assert line["gate"][0]["promote"] is True
    assert line["gate"][0]["reasons"]
    assert line["flow_run_id"]
    assert len(line["promoted_at"]) == 1


def test_status_shows_champion_and_last_decision(finished: Settings) -> None:
    result = CliRunner().invoke(app, ["status", "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["champion"] == events(finished, "promotion")[-1]["version"]
    assert shown["last_batch"]["batch"] == "batch-03"
    assert shown["pending"] == []


def test_report_holds_what_the_ledger_says(finished: Settings) -> None:
    result = CliRunner().invoke(app, ["report", "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads((Path(finished.reports_uri) / "summary.json").read_text())
    assert [batch["name"] for batch in summary["batches"]] == ["batch-01", "batch-02", "batch-03"]
    assert all(0 < batch["auroc"] < 1 and 0 < batch["auroc_frozen"] < 1 for batch in summary["batches"])
    # No interventions were reported.
    assert [batch["auroc_observed"] for batch in summary["batches"]] == [batch["auroc"] for batch in summary["batches"]]
    assert (summary["overlap"], summary["effect"]) == (None, None)
    first = summary["batches"][0]
    assert first["auroc"] == pytest.approx(first["auroc_frozen"], abs=1e-12), "the first model predicted it"
    assert [model["version"] for model in summary["models"]] == [
        v.version for v in Installation(finished).registry.versions()
    ]
    rates = [event["alert_rate"] for event in events(finished, "batch")]
    offsets = [abs(batch["offset"]) for batch in summary["batches"]]
    assert [batch["alert_rate"] for batch in summary["batches"]] == rates
    assert summary["delivered"] == {
        "batches": 3,
        "auroc": pytest.approx(np.mean([batch["auroc"] for batch in summary["batches"]])),
        "auroc_frozen": pytest.approx(np.mean([batch["auroc_frozen"] for batch in summary["batches"]])),
        "auroc_observed": pytest.approx(np.mean([batch["auroc_observed"] for batch in summary["batches"]])),
        "offset": pytest.approx(np.mean(offsets)),
        "worst_offset": pytest.approx(max(offsets)),
        "alert_rate_error": pytest.approx(np.mean([abs(rate - 0.2) for rate in rates])),
        "highest_alert_rate": pytest.approx(max(rates)),
    }
    page = (Path(finished.reports_uri) / "index.html").read_text()
    assert "batch-02" in page
    assert not re.findall(r"""(?:src=|url\(|@import|<link[^>]*href=)(?!["']?data:)""", page), (
        "the page needs no network"
    )
    assert {path.stem for path in (Path(finished.reports_uri) / "plots").iterdir()} == {
        "auroc",
        "offset",
        "roc",
        "calibration",
        "decision_curve",
        "drift",
    }
    for link in re.findall(r'href="(batches/[^"]+)"', page):
        assert (Path(finished.reports_uri) / link).is_file()


@pytest.mark.parametrize(("name", "width"), [("desktop", 1280), ("phone", 500)])
def test_page_opens_in_a_browser_without_an_error(finished: Settings, tmp_path: Path, name: str, width: int) -> None:
    """What it looks like is kept in `reports/e2e`."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium: apt-get install chromium")
    CliRunner().invoke(app, ["report"])
    page, picture = Path(finished.reports_uri) / "index.html", SCREENSHOTS / f"page-{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.unlink(missing_ok=True)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--window-size={width},3000"]
    command = [browser, *options, f"--user-data-dir={tmp_path}", f"--screenshot={picture}", page.resolve().as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert picture.stat().st_size > 50_000
    assert "CONSOLE" not in shown.stderr, shown.stderr


def test_scoring_a_file_gives_a_risk_or_a_reason_for_every_row(finished: Settings, tmp_path: Path) -> None:
    source = tmp_path / "encounters.parquet"
    synthesize_to_parquet(source, 3000, seed=5, chunk=1000)
    frame = pd.read_parquet(source)
    frame.loc[7, "time_in_hospital"] = 99
    frame.to_parquet(source)
    seen: list[int] = []
    scored = score(Installation(finished), str(source), str(tmp_path / "risks.parquet"), seen.append)
    risks, rejected = pd.read_parquet(scored.result_uri), pd.read_parquet(scored.rejected_uri)
    assert (scored.rows, len(risks), len(rejected)) == (3000, scored.predicted, scored.rejected)
    assert set(risks["encounter_id"]) | set(rejected["encounter_id"].astype(int)) == set(frame["encounter_id"])
    assert risks["readmission_risk"].between(0, 1).all()
    reasons = rejected["reason"].str.replace(r"^ended in death.*", "not at risk", regex=True)
    assert set(reasons) == {"not at risk", "time_in_hospital is outside 1 to 14"}
    assert seen[-1] == 3000


def test_promoting_what_the_gate_refused_needs_force(finished: Settings) -> None:
    result = CliRunner().invoke(app, ["promote", "99"])
    assert "has not passed the gate" in str(result.exception)


def test_request_of_the_documentation_is_answered(finished: Settings) -> None:
    body = (Path(__file__).parents[1] / "encounter.json").read_bytes()
    url = f"http://127.0.0.1:{finished.api_port}/predict"
    headers = {"content-type": "application/json"}
    answer = httpx.post(url, content=body, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert 0 < answer.json()["readmission_risk"] < 1
