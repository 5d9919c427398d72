"""The reasons for a risk."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from bundles import as_records, draw_encounters
from fastapi import FastAPI

from healthpredict.bundle.build import build_bundle
from healthpredict.bundle.explainer import Explainer, Linear
from healthpredict.bundle.model import Bundle
from healthpredict.data.contract import BY_FIELD
from healthpredict.errors import BundleError
from healthpredict.serving.encounter import as_sent
from healthpredict.serving.reasons import reason_of

GOOD = [as_sent(record) for record in as_records(draw_encounters(30, seed=8))]


def ask(api: httpx.Client, row: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = api.post("/explain", json=row).raise_for_status().json()
    return answer


def test_the_reasons_add_up_to_the_prediction(api: httpx.Client) -> None:
    for row in GOOD:
        answer = ask(api, row)
        predicted = api.post("/predict", json=row).json()
        log_odds = answer["expected_log_odds"] + sum(reason["contribution"] for reason in answer["reasons"])
        assert log_odds == pytest.approx(answer["log_odds"], abs=1e-12)
        assert 1 / (1 + math.exp(-log_odds)) == pytest.approx(predicted["readmission_risk"], abs=1e-6)
        assert {name: answer[name] for name in predicted if name != "request_id"} == {
            name: value for name, value in predicted.items() if name != "request_id"
        }


def test_the_strongest_reason_comes_first(api: httpx.Client) -> None:
    strengths = [abs(reason["contribution"]) for reason in ask(api, GOOD[0])["reasons"]]
    assert strengths == sorted(strengths, reverse=True)


def test_every_reason_has_a_plain_name_and_comes_once(api: httpx.Client, bundle: Bundle) -> None:
    reasons = ask(api, GOOD[0])["reasons"]
    assert len({reason["name"] for reason in reasons}) == len(reasons)
    assert {field for reason in reasons for field in reason["fields"]} <= set(BY_FIELD)
    assert all("_" not in reason["name"].replace("IDS_mapping", "") for reason in reasons)


def test_features_of_one_column_are_one_reason() -> None:
    assert reason_of("diag_1.group") == reason_of("diag_1") == ("Primary diagnosis, ICD-9-CM or ICD-10-CM", ("diag_1",))
    assert reason_of("prior_stays")[1] == ("number_inpatient",)
    assert reason_of("diag_1.category@rows") == reason_of("diag_1")
    assert reason_of("diag_1.group x age") == reason_of("diag_1 x age@rows")
    assert reason_of("diag_1.group x age")[1] == ("diag_1", "age")


def test_an_encounter_that_breaks_the_contract_is_not_explained(api: httpx.Client) -> None:
    response = api.post("/explain", json=GOOD[0] | {"age": "old"})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "age")


def test_a_bundle_without_explanations_says_so(api: httpx.Client, app: FastAPI, bundle: Bundle) -> None:
    app.state.service.bundle = dataclasses.replace(bundle, explainer=None)
    try:
        assert api.post("/explain", json=GOOD[0]).status_code == 501
        assert api.post("/predict", json=GOOD[0]).status_code == 200
    finally:
        app.state.service.bundle = bundle


def test_an_explainer_of_another_model_gets_no_bundle(bundle: Bundle, tmp_path: Path) -> None:
    n = len(bundle.encoder.feature_names)
    manifest = bundle.manifest.model_dump(exclude={"code_systems", "files"})
    with pytest.raises(BundleError, match="Was the explainer built for it"):
        build_bundle(
            tmp_path / "bundle",
            manifest=manifest,
            encoder=bundle.encoder,
            onnx_model=(bundle.path / "model.onnx").read_bytes(),
            reference={},
            golden=list(bundle.golden),
            explainer=Explainer(Linear(np.ones(n), np.zeros(n)), 0.0, "log_odds"),
        )
    assert not (tmp_path / "bundle").exists()
