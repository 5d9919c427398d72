"""HTTP itself: clients that send too much, in pieces, pipelined, or from a web page."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from as_process import Service, service, wait_until
from bundles import as_records, draw_encounters
from in_a_thread import Serve
from prometheus_client.parser import text_string_to_metric_families

from healthpredict.bundle.model import Bundle
from healthpredict.prediction_log.rolled_file import PREDICTIONS, closed_files, rows_of
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.app import create_app
from healthpredict.serving.encounter import as_sent
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits

ENCOUNTER = as_sent(as_records(draw_encounters(1, seed=11))[0])
BODY = json.dumps(ENCOUNTER).encode()
LIVE = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEAD = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA\r\n"


def post(path: bytes, body: bytes = BODY, more: bytes = b"") -> bytes:
    return HEAD % path + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def responses(connection: socket.socket, number: int) -> list[tuple[int, dict[str, Any]]]:
    """Read a number of responses, and return status and JSON of each."""
    found = []
    with connection.makefile("rb") as stream:
        for _ in range(number):
            status = int(stream.readline().split()[1])
            length = 0
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, _, value = line.lower().partition(b":")
                length = int(value) if name == b"content-length" else length
            found.append((status, json.loads(stream.read(length) or "{}")))
    return found


@pytest.fixture(scope="module")
def alone(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The API as a process of its own."""
    with service(tmp_path_factory.mktemp("http") / "log", bundle.path) as started:
        yield started


def connect(api: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=30)


def send_what_is_taken(connection: socket.socket, piece: bytes, at_most: int) -> None:
    """Send a piece again and again, until the server closes the connection or reads no more."""
    connection.settimeout(2)
    sent = 0
    with contextlib.suppress(OSError):
        while sent < at_most:
            sent += connection.send(piece)


def test_hostile_clients_fill_no_memory(alone: Service) -> None:
    """Endless trailers, headers, pipelined requests and bodies add less than 32 MB in all."""
    process = psutil.Process(alone.process.pid)
    alone.client.post("/predict", json=ENCOUNTER).raise_for_status()
    before = process.memory_info().rss
    with contextlib.ExitStack() as stack:

        def connection() -> socket.socket:
            return stack.enter_context(connect(alone))

        trailing = connection()
        trailing.sendall(HEAD % b"/predict" + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        send_what_is_taken(trailing, b"x-more: " + b"y" * 8000 + b"\r\n", 40_000_000)
        heading = connection()
        heading.sendall(b"GET /health/live HTTP/1.1\r\n")
        send_what_is_taken(heading, b"x-more: " + b"y" * 8000 + b"\r\n", 40_000_000)
        for _ in range(40):
            connection().sendall(LIVE * (65_536 // len(LIVE)))
        for i in range(200):
            unfinished = connection()
            path = (b"/predict", b"/predict/batch")[i % 2]
            unfinished.sendall(HEAD % path + b"Content-Length: 2000001\r\n\r\n")
            unfinished.setblocking(False)
            with contextlib.suppress(OSError):
                unfinished.send(b" " * 2_000_000)
        added = process.memory_info().rss - before
        assert alone.client.get("/health/live").status_code == 200
    assert added < 32_000_000


def test_credentials_in_a_trailer_are_none(bundle: Bundle, serve_app: Serve, keys_path: Path, key: str) -> None:
    client = serve_app(create_app(bundle, keys=KeyRing(keys_path)))
    chunks = b"%x\r\n%s\r\n0\r\nAuthorization: Bearer %s\r\n\r\n" % (len(BODY), BODY, key.encode())
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=30) as connection:
        connection.sendall(
            HEAD % b"/predict" + b"Trailer: Authorization\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
        )
        assert responses(connection, 1)[0][0] == 401


@pytest.mark.parametrize(
    ("more", "body"),
    [
        (b"Transfer-Encoding: chunked\r\n", b"ZZ\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n" + b"x-more: y\r\n" * 10_000),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"{}"),
        (b"Content-Length: -5\r\n", b"{}"),
        (b"Transfer-Encoding: gzip\r\n", b"{}"),
    ],
)
def test_a_body_that_is_not_valid_http_is_a_bad_request(alone: Service, more: bytes, body: bytes) -> None:
    with connect(alone) as connection:
        connection.sendall(HEAD % b"/predict" + more + b"\r\n" + body)
        assert responses(connection, 1)[0][0] == 400


@pytest.mark.parametrize("length", [65_537, 10**8])
def test_a_body_that_would_be_too_long_is_not_asked_for(alone: Service, length: int) -> None:
    with connect(alone) as connection:
        connection.sendall(HEAD % b"/predict" + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % length)
        assert responses(connection, 1)[0][0] == 413


def test_an_offer_of_http_2_is_declined_and_the_request_answered(alone: Service) -> None:
    """Java's HTTP client and `curl --http2` send this header."""
    for _ in range(100):
        with connect(alone) as connection:
            connection.sendall(post(b"/predict", more=UPGRADE))
            assert responses(connection, 1)[0][0] == 200


def test_pipelined_requests_are_answered_in_their_order(alone: Service) -> None:
    """A thousand on twenty connections, the last of each invalid: no error overtakes a response."""
    refused, model, unknown = (
        post(b"/predict", b"{}"),
        b"GET /model HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        post(b"/nothing"),
    )
    kinds = [post(b"/predict"), post(b"/explain"), LIVE, refused, model, unknown, b"BROKEN\r\n\r\n"]
    names = ["readmission_risk", "reasons", "status", "errors", "trained_on", "404", "400"]
    orders = [[(3 * i + j * (i % 5 + 1)) % 6 for j in range(49)] + [6] for i in range(20)]
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(alone)) for _ in orders]
        for connection, order in zip(connections, orders, strict=True):
            connection.sendall(b"".join(kinds[kind] for kind in order))
        for connection, order in zip(connections, orders, strict=True):
            found = responses(connection, len(order))
            for (status, answer), kind in zip(found, order, strict=True):
                assert str(status) == names[kind] or names[kind] in answer, (status, answer, names[kind])


def test_a_body_may_come_in_pieces(alone: Service) -> None:
    request = post(b"/predict")
    with connect(alone) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(request), 100):
            connection.sendall(request[at : at + 100])
        assert responses(connection, 1)[0][0] == 200


REQUESTS = {
    "an encounter": ("/predict", BODY, {}, 200),
    "reasons": ("/explain", BODY, {}, 200),
    "names with underscores": ("/predict", BODY.replace(b"glyburide-metformin", b"glyburide_metformin"), {}, 200),
    "a dry run": ("/predict", BODY, {"X-Dry-Run": "true"}, 200),
    "a dry run in capitals": ("/predict", BODY, {"X-Dry-Run": "TRUE"}, 200),
    "a query": ("/predict?a=b", BODY, {}, 200),
    "a wrong dry run": ("/predict", BODY, {"X-Dry-Run": "1"}, 422),
    "a wrong dry run of a batch": ("/predict/batch", b'{"encounters": []}', {"X-Dry-Run": "1"}, 422),
    "two problems": ("/predict", json.dumps(ENCOUNTER | {"age": "old", "time_in_hospital": 99}).encode(), {}, 422),
    "no JSON": ("/explain", b"{", {}, 400),
    "no body": ("/predict", b"", {}, 400),
    "a body too long": ("/predict", BODY + b" " * 5000, {}, 413),
    "no key": ("/predict", BODY, {"Authorization": ""}, 401),
    "a wrong key": ("/explain", BODY, {"Authorization": "Bearer hp_wrong"}, 401),
    "a wrong path": ("/predictions", BODY, {}, 404),
}


def test_every_kind_of_request_is_answered_counted_and_logged(
    bundle: Bundle, keys_path: Path, key: str, log: PredictionLog, serve_app: Serve
) -> None:
    client = serve_app(create_app(bundle, keys=KeyRing(keys_path), log=log, limits=Limits(body_bytes=4000)))
    client.headers["authorization"] = f"Bearer {key}"
    connection = HTTPConnection("127.0.0.1", client.base_url.port or 0, timeout=30)
    with contextlib.closing(connection):
        for name, (path, body, headers, status) in REQUESTS.items():
            connection.request("POST", path, body, {"Authorization": f"Bearer {key}"} | headers)
            response = connection.getresponse()
            assert (response.status, json.loads(response.read()).get("status", 200)) == (status, status), name
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    assert sum(s.value for s in families["healthpredict_requests"].samples) == len(REQUESTS)
    problems = {s.labels["field"]: s.value for s in families["healthpredict_validation_errors"].samples if s.labels}
    assert problems == {"age": 1, "time_in_hospital": 1, "other": 1}
    log.close()
    assert sum(map(rows_of, closed_files(keys_path.with_name("log"), PREDICTIONS))) == 6


def test_a_fault_is_answered_and_logged_once_without_values(
    bundle: Bundle, serve_app: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve_app(create_app(bundle))
    monkeypatch.setattr("healthpredict.serving.predictions.read_encounter", lambda _body: 1 / 0)
    answer = client.post("/predict", json=ENCOUNTER)
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
    wait_until(lambda: bool(caplog.records))
    client.get("/health/live").raise_for_status()
    assert [record.message for record in caplog.records] == ["A request to /predict failed"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Host": "rebound.example:8080"}, 403),
        ({"Host": "127.0.0.1.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": ""}, 415),
    ],
)
def test_without_keys_a_web_page_cannot_post(api: httpx.Client, headers: dict[str, str], status: int) -> None:
    response = api.post("/predict", content=BODY, headers=headers)
    assert (response.status_code, response.json().get("status", 200)) == (status, status)


def test_without_keys_every_host_must_be_this_machine(alone: Service) -> None:
    with connect(alone) as connection:
        connection.sendall(post(b"/predict", more=b"Host: rebound.example\r\n"))
        assert responses(connection, 1)[0][0] == 403


def test_with_keys_the_key_is_what_counts(bundle: Bundle, serve_app: Serve, keys_path: Path, key: str) -> None:
    client = serve_app(create_app(bundle, keys=KeyRing(keys_path)))
    headers = {"Authorization": f"Bearer {key}", "Host": "api.hospital.example", "Content-Type": "text/plain"}
    assert client.post("/predict", content=BODY, headers=headers).status_code == 200


def test_the_documentation_needs_no_internet(api: httpx.Client) -> None:
    page = api.get("/docs").raise_for_status().text
    resources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(resources) >= 3
    for resource in resources:
        assert api.get(resource).raise_for_status().content
    assert not re.search(r"https?://", page)
