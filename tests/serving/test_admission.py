"""Admission: keys, limits, and what is counted."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from in_a_thread import Serve
from prometheus_client.parser import text_string_to_metric_families

from healthpredict.bundle.model import Bundle
from healthpredict.serving.app import create_app
from healthpredict.serving.encounter import as_sent
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits
from healthpredict.storage.key_file import add_key, revoke_key


def counted(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """Return every sample by name and values of its labels, as Prometheus reads it."""
    text = client.get("/metrics").raise_for_status().text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


def half_a_request(client: httpx.Client, path: str) -> socket.socket:
    """Send a request without its body."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port or 80))
    connection.sendall(
        b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        % path.encode()
    )
    return connection


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer hp_wrong", "Basic KEY", "KEY", "Bearer KEYx"])
def test_without_a_valid_key_nothing_is_answered(
    bundle: Bundle, serve_app: Serve, keys_path: Path, key: str, header: str | None
) -> None:
    client = serve_app(create_app(bundle, keys=KeyRing(keys_path)))
    headers = {} if header is None else {"Authorization": header.replace("KEY", key)}
    for method, path in (("POST", "/predict"), ("POST", "/predict/batch"), ("GET", "/model"), ("GET", "/metrics")):
        response = client.request(method, path, headers=headers)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert response.headers["content-type"] == "application/problem+json"
        assert key not in response.text
    for path in ("/health", "/health/live", "/health/ready", "/docs", "/openapi.json"):
        assert client.get(path, headers=headers).status_code == 200


def test_keys_change_while_the_service_runs(
    bundle: Bundle, serve_app: Serve, keys_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healthpredict.serving.keys._CHECK_SECONDS", 0.0)
    client = serve_app(create_app(bundle, keys=KeyRing(keys_path)))

    def status(key: str) -> int:
        return client.get("/model", headers={"Authorization": f"bearer {key}"}).status_code

    second = add_key(keys_path, "ward-2")
    assert (status(key), status(second)) == (200, 200)
    revoke_key(keys_path, "ward")
    assert (status(key), status(second)) == (401, 200)
    keys_path.write_text("{")
    assert (status(key), status(second)) == (401, 200)


def test_the_documentation_names_what_needs_a_key(bundle: Bundle, keys_path: Path, key: str) -> None:
    document = create_app(bundle, keys=KeyRing(keys_path)).openapi()
    assert document["paths"]["/predict"]["post"]["security"] == [{"key": []}]
    assert "401" in document["paths"]["/model"]["get"]["responses"]
    assert "security" not in document["paths"]["/health/ready"]["get"]
    assert "securitySchemes" not in json.dumps(create_app(bundle).openapi())


@pytest.mark.parametrize("chunked", [False, True])
def test_a_long_body_is_rejected_and_the_connection_stays(bundle: Bundle, serve_app: Serve, chunked: bool) -> None:
    client = serve_app(create_app(bundle, limits=Limits(body_bytes=2000)))
    body = b" " * 300_000
    response = client.post("/predict", content=iter([body[:1500], body[1500:]]) if chunked else body)
    assert (response.status_code, response.json()["status"]) == (413, 413)
    assert client.post("/predict", json=as_sent(bundle.golden[0].record)).status_code == 200


def test_a_body_that_is_not_sent_times_out(bundle: Bundle, serve_app: Serve) -> None:
    client = serve_app(create_app(bundle, limits=Limits(body_seconds=0.1)))
    with half_a_request(client, "/predict") as connection:
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408")


def test_a_client_that_disconnects_is_counted_and_is_no_error(bundle: Bundle, serve_app: Serve) -> None:
    client = serve_app(create_app(bundle))
    half_a_request(client, "/predict").close()
    deadline = time.monotonic() + 5
    while ("healthpredict_requests_total", "/predict", "499") not in counted(client):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_above_the_limit_requests_are_rejected_and_probes_are_answered(bundle: Bundle, serve_app: Serve) -> None:
    client = serve_app(create_app(bundle, limits=Limits(requests=1)))
    with half_a_request(client, "/predict"):
        response = wait_for_status(client, "/model", 503)
        assert response.headers["retry-after"] == "1"
        assert client.get("/health/ready").status_code == 200
    wait_for_status(client, "/model", 200)


def test_batches_have_a_limit_of_their_own(bundle: Bundle, serve_app: Serve) -> None:
    client = serve_app(create_app(bundle, limits=Limits(batches=1)))
    with half_a_request(client, "/predict/batch"):
        deadline = time.monotonic() + 5
        while (refused := client.post("/predict/batch", json={"encounters": []})).status_code != 429:
            assert time.monotonic() < deadline
        assert refused.headers["retry-after"] == "1"
        assert client.post("/predict", json=as_sent(bundle.golden[0].record)).status_code == 200


def test_a_batch_that_takes_too_long_fails(bundle: Bundle, serve_app: Serve) -> None:
    client = serve_app(create_app(bundle, limits=Limits(batch_seconds=0.001)))
    response = client.post("/predict/batch", json={"encounters": [{}] * 2000})
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")


def test_a_batch_holds_its_slot_until_its_thread_has_ended(
    bundle: Bundle, serve_app: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread cannot be cancelled, so after the time limit it still uses memory and CPU."""
    started, go_on = threading.Event(), threading.Event()

    def read_slowly(body: bytes, at_most: int) -> list[object]:
        started.set()
        assert go_on.wait(30)
        return []

    client = serve_app(create_app(bundle, limits=Limits(batches=1, batch_seconds=0.05)))
    with ThreadPoolExecutor(1) as pool:
        with monkeypatch.context() as context:
            context.setattr("healthpredict.serving.batch.read_batch", read_slowly)
            slow = pool.submit(client.post, "/predict/batch", json={"encounters": []}, timeout=60)
            assert started.wait(30)
        time.sleep(0.2)
        assert client.post("/predict/batch", json={"encounters": []}).status_code == 429
        go_on.set()
        assert slow.result().status_code == 503
    assert client.post("/predict/batch", json={"encounters": []}).status_code == 200


def test_two_hundred_connections_at_once_are_all_answered(api: httpx.Client, bundle: Bundle) -> None:
    body = json.dumps(bundle.golden[0].record).encode()
    request = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
    request += b"Content-Length: %d\r\n\r\n" % len(body) + body
    address = (api.base_url.host, api.base_url.port or 80)
    connections = [socket.create_connection(address) for _ in range(200)]
    for connection in connections:
        connection.sendall(request)
    answers = [connection.makefile("rb").read() for connection in connections]
    for connection in connections:
        connection.close()
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


def test_what_happened_is_counted(bundle: Bundle, serve_app: Serve) -> None:
    client = serve_app(create_app(bundle))
    good = as_sent(bundle.golden[0].record)
    client.post("/predict", json=good)
    client.post("/predict", json=good | {"age": "old", "made_up_1": 1, "made_up_2": 2})
    client.post("/predict", content=b"{")
    client.post("/predict/batch", json={"encounters": [good, good, 7]})
    for i in range(3):
        client.get(f"/made/up/{i}")
    found = counted(client)
    assert {key[1:]: value for key, value in found.items() if key[0] == "healthpredict_requests_total"} == {
        ("/predict", "200"): 1,
        ("/predict", "400"): 1,
        ("/predict", "422"): 1,
        ("/predict/batch", "200"): 1,
        ("other", "404"): 3,
    }
    assert found["healthpredict_request_seconds_count", "/predict"] == 3
    assert 0 < found["healthpredict_request_seconds_sum", "/predict"] < 3
    assert found["healthpredict_readmission_risk_count",] == 3
    assert found["healthpredict_readmission_risk_bucket", "1.0"] == 3
    assert found["healthpredict_readmission_risk_sum",] == pytest.approx(3 * bundle.golden[0].risk, abs=1e-5)
    assert found["healthpredict_validation_errors_total", "age"] == 1
    assert found["healthpredict_validation_errors_total", "other"] == 2
    assert found["healthpredict_batch_rows_total", "predicted"] == 2
    assert found["healthpredict_batch_rows_total", "refused"] == 1
    assert found["healthpredict_requests_in_flight",] == 1  # this one
    assert found["healthpredict_model_info", bundle.digest, "1"] == 1


def wait_for_status(client: httpx.Client, path: str, status: int) -> httpx.Response:
    deadline = time.monotonic() + 5
    while (response := client.get(path)).status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return response


def test_slow_requests_without_a_key_do_not_count_towards_the_limit(
    bundle: Bundle, serve_app: Serve, keys_path: Path, key: str
) -> None:
    client = serve_app(create_app(bundle, keys=KeyRing(keys_path), limits=Limits(requests=1)))
    with half_a_request(client, "/predict"), half_a_request(client, "/predict"):
        time.sleep(0.2)
        assert client.get("/model", headers={"Authorization": f"Bearer {key}"}).status_code == 200
