"""CDS Hooks: what an EHR sends, and the card that it gets."""

from __future__ import annotations

import copy
import json
import re
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from in_a_thread import Serve
from logged import lines_of

from healthpredict.bundle.model import Bundle
from healthpredict.cds_hooks_params import CdsHooksParams, read_params
from healthpredict.errors import ConfigurationError
from healthpredict.prediction_log.rolled_file import FEEDBACK
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.app import create_app
from healthpredict.serving.cds_hooks.card import suggestion_id
from healthpredict.serving.cds_hooks.hook_request import PREFETCH

CALL = json.loads((Path(__file__).parents[1] / "hook.json").read_text())
PATH = "/cds-services/readmission-risk"


def changed(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(CALL), **changes}


def with_prefetch(**resources: Any) -> dict[str, Any]:
    return changed(prefetch={**copy.deepcopy(CALL["prefetch"]), **resources})


def without_prefetch(*keys: str) -> dict[str, Any]:
    return changed(prefetch={key: value for key, value in CALL["prefetch"].items() if key not in keys})


def card_of(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    assert len(response.json()["cards"]) == 1, response.text
    card: dict[str, Any] = response.json()["cards"][0]
    return card


def reason_of(response: httpx.Response) -> str:
    """Why there is no card."""
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["cards"] == []
    return body["extension"]["healthpredict.no-card-because"]


def test_the_service_is_described_for_each_hook(bundle: Bundle, api: httpx.Client, serve_app: Serve) -> None:
    (service,) = api.get("/cds-services").json()["services"]
    assert (service["hook"], service["id"]) == ("encounter-discharge", "readmission-risk")
    assert service["prefetch"] == PREFETCH["encounter-discharge"]
    assert {"title", "description", "usageRequirements"} <= service.keys()
    both = serve_app(create_app(bundle, cds_hooks=CdsHooksParams(patient_view=True))).get("/cds-services").json()
    assert [each["hook"] for each in both["services"]] == ["encounter-discharge", "patient-view"]


@pytest.mark.parametrize("template", sorted({t for templates in PREFETCH.values() for t in templates.values()}))
def test_a_prefetch_template_uses_only_what_the_specification_recommends(template: str) -> None:
    """Instance reads and searches with plain parameters; tokens of the context that each hook has."""
    tokens = set(re.findall(r"\{\{(.*?)\}\}", template))
    assert tokens <= {"context.patientId", "context.encounterId"}
    assert re.fullmatch(r"[A-Z][A-Za-z]+(/\{\{context\.\w+\}\}|\?[a-z_]+=[^?]+)", template)


def test_a_call_gets_a_card(api: httpx.Client) -> None:
    card = card_of(api.post(PATH, json=CALL))
    assert len(card["summary"]) < 140
    assert re.fullmatch(r"Readmission within 30 days: \d+% risk, (not )?high\. Of .+, \d+% return\.", card["summary"])
    assert card["indicator"] in ("info", "warning")
    assert len(re.findall(r"^\d\. ", card["detail"], re.MULTILINE)) == 5
    assert "Not known for this prediction:" in card["detail"]
    assert card["source"]["label"] == "Health Predict, model version 1"
    assert {reason["code"] for reason in card["overrideReasons"]} >= {"already-arranged", "patient-declined"}
    assert all(reason["display"] and reason["system"] for reason in card["overrideReasons"])
    assert uuid.UUID(card["uuid"])


def of_risk(bundle: Bundle, serve_app: Serve, *, high: bool, **params: Any) -> httpx.Response:
    """The answer of a service whose threshold is below or above every risk."""
    threshold = 0.0 if high else 1.0
    judged = bundle.__class__(
        **{**_parts(bundle), "manifest": bundle.manifest.model_copy(update={"threshold": threshold})}
    )
    client = serve_app(create_app(judged, cds_hooks=CdsHooksParams(**params)))
    return client.post(PATH, json=CALL)


def _parts(bundle: Bundle) -> dict[str, Any]:
    return {name: getattr(bundle, name) for name in bundle.__dataclass_fields__}


def test_a_high_risk_suggests_an_order_for_this_patient(bundle: Bundle, serve_app: Serve) -> None:
    card = card_of(of_risk(bundle, serve_app, high=True))
    assert (card["indicator"], card["selectionBehavior"]) == ("warning", "any")
    (suggestion,) = card["suggestions"]
    (action,) = suggestion["actions"]
    assert action["type"] == "create"
    order = action["resource"]
    assert (order["resourceType"], order["status"]) == ("ServiceRequest", "draft")
    assert order["subject"] == {"reference": "Patient/p1"}
    assert order["encounter"] == {"reference": "Encounter/e3"}


def test_a_low_risk_suggests_nothing(bundle: Bundle, serve_app: Serve) -> None:
    card = card_of(of_risk(bundle, serve_app, high=False))
    assert card["indicator"] == "info"
    assert not {"suggestions", "selectionBehavior"} & card.keys()


def test_cards_below_the_threshold_can_be_suppressed(bundle: Bundle, serve_app: Serve) -> None:
    assert "not flagged" in reason_of(of_risk(bundle, serve_app, high=False, only_high_risk=True))
    assert card_of(of_risk(bundle, serve_app, high=True, only_high_risk=True))


def test_a_very_high_risk_is_critical_if_the_hospital_says_so(bundle: Bundle, serve_app: Serve) -> None:
    assert card_of(of_risk(bundle, serve_app, high=True, critical_risk=1e-9))["indicator"] == "critical"
    assert card_of(of_risk(bundle, serve_app, high=False, critical_risk=0.9999))["indicator"] == "info"


def test_the_card_links_to_the_model_card(bundle: Bundle, serve_app: Serve) -> None:
    card = card_of(of_risk(bundle, serve_app, high=True, base_url="https://risk.example/"))
    assert card["source"]["url"] == "https://risk.example/model/card"


def test_the_risk_is_that_of_predict(
    api: httpx.Client, logged_api: httpx.Client, log: PredictionLog, tmp_path: Path
) -> None:
    card = card_of(logged_api.post(PATH, json=CALL))
    log.close()
    (line,) = lines_of(tmp_path / "log")
    assert line["endpoint"] == PATH
    assert line["request_id"] == uuid.UUID(card["uuid"]).hex
    assert f"{line['readmission_risk']:.0%} risk" in card["summary"]


def test_a_patient_who_died_or_has_no_diabetes_gets_no_card(api: httpx.Client) -> None:
    patient = CALL["prefetch"]["patient"]
    died = reason_of(api.post(PATH, json=with_prefetch(patient={**patient, "deceasedDateTime": "2026-01-30"})))
    assert "died" in died or "deceased" in died
    conditions = copy.deepcopy(CALL["prefetch"]["conditions"])
    del conditions["entry"][1]
    without = with_prefetch(conditions=conditions, medicationRequests=None)
    assert "diabetes" in reason_of(api.post(PATH, json=without))


def test_resources_of_another_patient_get_no_card(api: httpx.Client) -> None:
    other = {**CALL["context"], "patientId": "p2"}
    assert "not the patient of the context" in reason_of(api.post(PATH, json=changed(context=other)))
    patient = {**CALL["prefetch"]["patient"], "id": "p2"}
    call = {**with_prefetch(patient=patient), "context": other}
    assert "Patient of the stay was not delivered" in reason_of(api.post(PATH, json=call))


def test_an_error_instead_of_data_is_reported(api: httpx.Client) -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "timeout"}]}
    assert reason_of(api.post(PATH, json=with_prefetch(conditions=outcome))) == (
        "The EHR reported an error instead of conditions."
    )


def test_a_missing_prefetch_key_is_named(api: httpx.Client) -> None:
    response = api.post(PATH, json=without_prefetch("conditions", "observations", "coverage"))
    assert response.status_code == 412
    assert "conditions, observations" in response.json()["detail"]
    assert "coverage" not in response.json()["detail"]


def test_a_server_that_is_not_on_the_list_is_not_asked(bundle: Bundle, serve_app: Serve) -> None:
    params = CdsHooksParams(fhir_servers=("http://127.0.0.1:9/fhir",))
    client = serve_app(create_app(bundle, cds_hooks=params))
    call = {**without_prefetch("conditions"), "fhirServer": "http://127.0.0.1:9/fhir/../evil"}
    assert client.post(PATH, json=call).status_code == 412


class _Fhir(BaseHTTPRequestHandler):
    """A FHIR server with the resources of the call."""

    asked: list[tuple[str, str | None]]
    wait = 0.0
    status = 200
    next_page: str | None = None

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("authorization")))
        time.sleep(self.wait)
        kind, *identifier = urlsplit(self.path).path.split("/")[2:]
        found = [each for each in CALL["prefetch"].values() if isinstance(each, dict)]
        bundles = {each["entry"][0]["resource"]["resourceType"]: each for each in found if "entry" in each}
        single = {each["resourceType"]: each for each in found if "entry" not in each}
        body = single[kind] if identifier else bundles.get(kind, {"resourceType": "Bundle"})
        if self.next_page is not None and "page=2" not in self.path and "entry" in body:
            url = self.next_page.format(base=f"http://{self.headers['host']}/fhir", kind=kind)
            body = {"resourceType": "Bundle", "link": [{"relation": "next", "url": url}]}
        data = json.dumps(body).encode()
        self.send_response(self.status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def fhir() -> Iterator[tuple[type[_Fhir], str]]:
    handler = type("_ThisFhir", (_Fhir,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_port}/fhir"
        server.shutdown()


@pytest.fixture
def reading(bundle: Bundle, serve_app: Serve, fhir: tuple[type[_Fhir], str]) -> httpx.Client:
    return serve_app(create_app(bundle, cds_hooks=CdsHooksParams(fhir_servers=(fhir[1],), fhir_seconds=30)))


def call_with_server(url: str, *missing: str) -> dict[str, Any]:
    return {**without_prefetch(*missing), "fhirServer": url, "fhirAuthorization": {"access_token": "secret-token"}}


@pytest.mark.parametrize("next_page", [None, "{base}/{kind}?page=2", "{kind}?page=2"])
def test_what_is_missing_is_read_from_the_fhir_server(
    reading: httpx.Client, fhir: tuple[type[_Fhir], str], next_page: str | None
) -> None:
    handler, url = fhir
    handler.next_page = next_page
    card = card_of(reading.post(PATH, json=call_with_server(url, "conditions", "patient", "observations")))
    assert card["detail"] == card_of(reading.post(PATH, json=CALL))["detail"]
    assert {path.partition("?")[0] for path, _ in handler.asked} == {
        "/fhir/Condition",
        "/fhir/Patient/p1",
        "/fhir/Observation",
    }
    assert {authorization for _, authorization in handler.asked} == {"Bearer secret-token"}


def test_resources_that_are_not_needed_change_nothing(api: httpx.Client) -> None:
    prefetch = copy.deepcopy(CALL["prefetch"])
    prefetch["observations"]["entry"] += [{"resource": {"resourceType": "OperationOutcome", "id": "warning"}}]
    assert (
        card_of(api.post(PATH, json=changed(prefetch=prefetch)))["detail"]
        == card_of(api.post(PATH, json=CALL))["detail"]
    )


def test_nothing_is_read_if_all_was_prefetched(reading: httpx.Client, fhir: tuple[type[_Fhir], str]) -> None:
    handler, url = fhir
    assert card_of(reading.post(PATH, json=call_with_server(url)))
    assert handler.asked == []


def test_everything_can_be_read_from_the_fhir_server(reading: httpx.Client, fhir: tuple[type[_Fhir], str]) -> None:
    _, url = fhir
    assert card_of(reading.post(PATH, json={**call_with_server(url), "prefetch": None}))


def test_a_slow_fhir_server_costs_the_card_and_nothing_else(
    bundle: Bundle, serve_app: Serve, fhir: tuple[type[_Fhir], str]
) -> None:
    handler, url = fhir
    handler.wait = 5.0
    client = serve_app(create_app(bundle, cds_hooks=CdsHooksParams(fhir_servers=(url,), fhir_seconds=0.5)))
    started = time.monotonic()
    reason = reason_of(client.post(PATH, json=call_with_server(url, "conditions")))
    assert reason == "The FHIR server did not answer within 0.5 seconds."
    assert time.monotonic() - started < handler.wait


@pytest.mark.parametrize("status", [401, 403, 500, 302])
def test_a_fhir_server_that_refuses_costs_the_card_and_nothing_else(
    reading: httpx.Client, fhir: tuple[type[_Fhir], str], status: int
) -> None:
    handler, url = fhir
    handler.status = status
    reason = reason_of(reading.post(PATH, json=call_with_server(url, "conditions")))
    assert str(status) in reason
    assert "secret-token" not in reason


def test_a_fhir_server_that_fails_costs_no_card_if_only_optional_data_are_missing(
    reading: httpx.Client, fhir: tuple[type[_Fhir], str]
) -> None:
    handler, url = fhir
    handler.status = 500
    card = card_of(reading.post(PATH, json=call_with_server(url, "coverage", "medicationAdministrations")))
    assert "Payer" in card["detail"].partition("Not known for this prediction:")[2]
    assert handler.asked


def test_a_page_that_is_too_large_costs_the_card(
    reading: httpx.Client, fhir: tuple[type[_Fhir], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healthpredict.serving.cds_hooks.fhir_server._MAX_BYTES", 100)
    reason = reason_of(reading.post(PATH, json=call_with_server(fhir[1], "conditions")))
    assert reason == "The FHIR server sent more than a prediction needs."


@pytest.mark.parametrize(
    ("next_page", "because"),
    [
        ("https://stranger.example/{kind}?page=2", "on another server"),
        ("{base}.stranger.example/{kind}?page=2", "on another server"),
        ("{base}/{kind}?page=\x7f", "cannot be read"),
    ],
)
def test_a_next_page_that_must_not_or_cannot_be_read_costs_the_card(
    reading: httpx.Client, fhir: tuple[type[_Fhir], str], next_page: str, because: str
) -> None:
    handler, url = fhir
    handler.next_page = next_page
    assert because in reason_of(reading.post(PATH, json=call_with_server(url, "conditions")))
    assert len(handler.asked) == 1


@pytest.mark.parametrize("token", ["M\u00fcller", "two\nlines"])
def test_a_token_that_no_header_can_contain_costs_the_card(
    reading: httpx.Client, fhir: tuple[type[_Fhir], str], token: str
) -> None:
    handler, url = fhir
    call = {**call_with_server(url, "conditions"), "fhirAuthorization": {"access_token": token}}
    reason = reason_of(reading.post(PATH, json=call))
    assert "cannot be read" in reason
    assert token not in reason
    assert handler.asked == []


def test_a_fhir_server_that_cannot_be_reached_costs_the_card(bundle: Bundle, serve_app: Serve) -> None:
    url = "http://127.0.0.1:9/fhir"
    client = serve_app(create_app(bundle, cds_hooks=CdsHooksParams(fhir_servers=(url,))))
    assert "cannot be read" in reason_of(client.post(PATH, json=call_with_server(url, "conditions")))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (json.dumps(CALL).encode().replace(b'"Condition"', b'"Condition", "id": "M\xfcller"', 1), 400),
        (b"[" * 100_000, 422),
        (b'{"prefetch":{"a":' + b'{"a":' * 10_000, 400),
        (b"[]", 422),
        (json.dumps({**CALL, "hook": "order-sign"}).encode(), 422),
        (json.dumps({**CALL, "hook": "patient-view"}).encode(), 422),
        (json.dumps({**CALL, "hook": 1}).encode(), 422),
        (json.dumps({**CALL, "context": {}}).encode(), 422),
        (json.dumps({**CALL, "context": {"patientId": "p1"}}).encode(), 422),
        (json.dumps({**CALL, "context": {"patientId": "../../SECRET", "encounterId": "e3"}}).encode(), 422),
        (json.dumps({**CALL, "prefetch": "SECRET"}).encode(), 422),
    ],
)
def test_a_call_that_is_none_is_refused_without_repeating_it(api: httpx.Client, body: bytes, status: int) -> None:
    response = api.post(PATH, content=body)
    assert response.status_code == status, response.text
    assert "SECRET" not in response.text


@pytest.mark.parametrize(
    "prefetch",
    [
        {},
        {"patient": 5, "encounter": "x", "encounters": [], "conditions": {}},
        {"patient": {"resourceType": "OperationOutcome", "issue": []}},
        {"patient": {"resourceType": "Patient"}},
        {"conditions": {"resourceType": "Bundle", "entry": "x"}},
        {"conditions": {"resourceType": "Bundle", "entry": [None, {}, {"resource": None}, {"resource": {"id": 1}}]}},
    ],
)
def test_odd_prefetched_data_never_fail(api: httpx.Client, prefetch: dict[str, Any]) -> None:
    nothing = dict.fromkeys(PREFETCH["encounter-discharge"])
    response = api.post(PATH, json=changed(prefetch={**nothing, **prefetch}))
    assert response.status_code == 200, response.text


def test_feedback_is_logged_with_the_suggestion_and_the_reason(
    logged_api: httpx.Client, log: PredictionLog, tmp_path: Path
) -> None:
    card = uuid.uuid4()
    (suggestion,) = CdsHooksParams().suggestions
    sent = [
        {
            "card": str(card),
            "outcome": "accepted",
            "acceptedSuggestions": [{"id": suggestion_id(card, suggestion)}],
            "outcomeTimestamp": "2026-01-31T10:05:31Z",
        },
        {
            "card": str(card),
            "outcome": "overridden",
            "overrideReason": {"reason": {"code": "no-capacity", "system": "urn:x"}, "userComment": "tomorrow"},
            "outcomeTimestamp": "2026-01-31T11:05:31+01:00",
        },
    ]
    assert logged_api.post(f"{PATH}/feedback", json={"feedback": sent}).status_code == 200
    assert logged_api.post(f"{PATH}/feedback", json={"feedback": []}).status_code == 200
    log.close()
    accepted, overridden = lines_of(tmp_path / "log", FEEDBACK)
    assert accepted["request_id"] == overridden["request_id"] == card.hex
    assert accepted["accepted"] == [suggestion.code]
    assert (overridden["reason"], overridden["comment"]) == ("no-capacity", "tomorrow")
    assert accepted["acted_at"] == overridden["acted_at"]


GOOD = {"card": str(uuid.uuid4()), "outcome": "overridden", "outcomeTimestamp": "2026-01-31T10:05:31Z"}


@pytest.mark.parametrize(
    ("feedback", "status"),
    [
        ({"card": "SECRET"}, 422),
        ({"outcome": "SECRET"}, 422),
        ({"outcome": "accepted"}, 422),
        ({"outcomeTimestamp": "SECRET"}, 422),
        ({"outcomeTimestamp": "2026-01-31T10:05:31"}, 422),
        ({"outcomeTimestamp": "0001-01-01T00:00:00+23:59"}, 422),
        ({"outcomeTimestamp": "9999-12-31T23:59:59-23:59"}, 422),
        ({"overrideReason": "SECRET"}, 422),
    ],
)
def test_wrong_feedback_is_refused_without_repeating_it(
    logged_api: httpx.Client, feedback: dict[str, Any], status: int
) -> None:
    response = logged_api.post(f"{PATH}/feedback", json={"feedback": [{**GOOD, **feedback}]})
    assert response.status_code == status
    assert "SECRET" not in response.text


def test_a_browser_of_a_listed_origin_may_call(bundle: Bundle, serve_app: Serve) -> None:
    origin = "https://ehr.example"
    client = serve_app(create_app(bundle, cds_hooks=CdsHooksParams(origins=(origin,))))
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
        "access-control-request-private-network": "true",
    }
    preflight = client.options(PATH, headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    assert preflight.headers["access-control-allow-private-network"] == "true"
    answered = client.post(PATH, json=CALL, headers={"origin": origin})
    assert card_of(answered)
    assert answered.headers["access-control-allow-origin"] == origin
    stranger = client.post(PATH, json=CALL, headers={"origin": "https://stranger.example"})
    assert stranger.status_code == 403
    assert "access-control-allow-origin" not in stranger.headers


def test_parameters_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "cds-hooks.toml"
    file.write_text(
        'patient_view = true\n[[suggestions]]\nlabel = "Call"\ncode = "1"\nsystem = "urn:x"\ndisplay = "Call"\n'
    )
    params = read_params(file)
    assert params.patient_view
    assert [each.label for each in params.suggestions] == ["Call"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "cannot be read"),
        ("x", "not TOML"),
        ("colour = 1", "colour"),
        ("critical_risk = 2", "critical_risk"),
        ('[[clients]]\nissuer = "x"\njwks_file = "y"', r"parameters\. clients need base_url"),
        ('fhir_servers = ["ftp://x"]', "fhir_servers"),
        ('fhir_servers = ["https://x:99999/fhir"]', "fhir_servers"),
        ('base_url = "https://x"\n[[clients]]\nissuer = "x"\njwks_url = "https://x:port/keys"', "jwks_url"),
        ('origins = ["https://ehr.example/page"]', "origins"),
        ('[[clients]]\nissuer = "x"\njwks_url = "https://x/keys"', "base_url"),
        ('base_url = "https://x"\n[[clients]]\nissuer = "x"', "jwks_url"),
    ],
)
def test_a_wrong_file_of_parameters_is_an_error(tmp_path: Path, text: str | None, named: str) -> None:
    file = tmp_path / "cds-hooks.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=named):
        read_params(file)
