"""The endpoints, over real HTTP."""

from __future__ import annotations

import dataclasses
import json
import re
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx
import pytest
from bundles import as_records, draw_encounters
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from healthpredict.bundle.model import Bundle, GoldenRow
from healthpredict.errors import BundleError
from healthpredict.serving.app import create_app
from healthpredict.serving.encounter import as_sent

FIELD_NAMES = [*as_records(draw_encounters(1))[0], "encounter_id", "glyburide-metformin", "shoe_size"]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
)


def test_http_gives_the_risk_of_the_bundle(api: httpx.Client, bundle: Bundle) -> None:
    for record in as_records(draw_encounters(200, seed=9)):
        answer = api.post("/predict", json=as_sent(record)).json()
        assert answer["readmission_risk"] == bundle.risk(record)


def test_a_prediction_says_what_it_was_made_with(api: httpx.Client, bundle: Bundle) -> None:
    row = bundle.golden[0]
    answers = [api.post("/predict", json=as_sent(row.record)).json() for _ in range(2)]
    ids = {UUID(answer.pop("request_id")) for answer in answers}
    assert len(ids) == 2
    risk = answers[0]["readmission_risk"]
    assert risk == pytest.approx(row.risk, abs=1e-6)
    assert answers[0] == {
        "readmission_risk": risk,
        "high_risk": risk >= 0.3,
        "threshold": 0.3,
        "model_version": 1,
        "bundle_digest": bundle.digest,
    }


def test_a_refusal_is_problem_details(api: httpx.Client, bundle: Bundle) -> None:
    response = api.post("/predict", json={**as_sent(bundle.golden[0].record), "age": "old"})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["title"], problem["status"]) == (HTTPStatus(422).phrase, 422)
    assert problem["detail"] == "The encounter has 1 problem."
    assert problem["errors"][0]["field"] == "age"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/predict", 405)])
def test_a_wrong_address_or_method_is_problem_details_too(
    api: httpx.Client, method: str, path: str, status: int
) -> None:
    response = api.request(method, path)
    assert (response.status_code, response.json()["status"]) == (status, status)


def test_the_model_is_named_by_its_manifest_and_digest(api: httpx.Client, bundle: Bundle) -> None:
    served = api.get("/model").json()
    assert served.pop("bundle_digest") == bundle.digest
    assert served.pop("silent") is False
    assert served == bundle.manifest.model_dump(mode="json")


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health"])
def test_a_well_service_says_so(api: httpx.Client, path: str) -> None:
    response = api.get(path)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def wrong_about_its_golden_rows(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, golden=(GoldenRow(bundle.golden[0].record, bundle.golden[0].risk + 1e-5),))


def test_ready_asks_the_model_and_not_a_flag(api: httpx.Client, app: FastAPI, bundle: Bundle) -> None:
    app.state.service.bundle = wrong_about_its_golden_rows(bundle)
    try:
        assert api.get("/health/ready").status_code == 503
        assert api.get("/health/live").status_code == 200
    finally:
        app.state.service.bundle = bundle


def test_a_fault_is_answered_without_its_message(api: httpx.Client, app: FastAPI, bundle: Bundle) -> None:
    app.state.service.bundle = None
    try:
        response = api.post("/predict", json=as_sent(bundle.golden[0].record))
    finally:
        app.state.service.bundle = bundle
    assert (response.status_code, response.json()["detail"]) == (500, "The service failed. Its log says where.")


def test_a_bundle_that_differs_from_training_gets_no_app(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="differs from training by"):
        create_app(wrong_about_its_golden_rows(bundle))


def test_the_example_in_the_documentation_is_real(api: httpx.Client) -> None:
    operation = api.get("/openapi.json").json()["paths"]["/predict"]["post"]
    sent = operation["requestBody"]["content"]["application/json"]["example"]
    shown = operation["responses"]["200"]["content"]["application/json"]["example"]
    answer = api.post("/predict", json=sent).json()
    assert {**answer, "request_id": ""} == {**shown, "request_id": ""}
    assert set(operation["responses"]) == {"200", "400", "408", "413", "422", "503"}


def test_every_reference_in_the_documentation_leads_somewhere(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    references = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document)))
    assert json.dumps(document).count('"$ref"') > 0
    assert "$defs" not in json.dumps(document)
    assert references <= set(document["components"]["schemas"])


def test_the_documentation_is_served(api: httpx.Client) -> None:
    assert api.get("/docs").status_code == 200


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=ANY_JSON | st.dictionaries(st.sampled_from(FIELD_NAMES), ANY_JSON))
def test_any_json_is_answered_without_a_fault(api: httpx.Client, data: Any) -> None:
    response = api.post("/predict", content=json.dumps(data).encode())
    assert response.status_code in (400, 422)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
def test_any_bytes_are_answered_without_a_fault(api: httpx.Client, body: bytes) -> None:
    assert api.post("/predict", content=body).status_code in (400, 422)
