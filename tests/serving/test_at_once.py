"""What can be answered at once is, and exactly as on the long way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from socket import create_connection
from typing import Any

import pytest
from as_process import wait_until
from bundles import as_records, draw_encounters
from fastapi import FastAPI
from httpx import Client
from in_a_thread import Serve, served
from prometheus_client.parser import text_string_to_metric_families

from healthpredict.bundle.model import Bundle
from healthpredict.serving.app import create_app
from healthpredict.serving.encounter import as_sent
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits
from healthpredict.serving.prediction_log import PredictionLog
from healthpredict.serving.protocol import Connection
from healthpredict.storage.rolled_file import PREDICTIONS, closed_files, rows_of

ENCOUNTER = as_sent(as_records(draw_encounters(1, seed=11))[0])
BODY = json.dumps(ENCOUNTER).encode()
REQUESTS = {
    "an encounter": ("/predict", BODY, {}),
    "reasons": ("/explain", BODY, {}),
    "names with underscores": (
        "/predict",
        json.dumps({k.replace("-", "_"): v for k, v in ENCOUNTER.items()}).encode(),
        {},
    ),
    "a dry run": ("/predict", BODY, {"X-Dry-Run": "true"}),
    "a dry run in capitals": ("/predict", BODY, {"X-Dry-Run": "TRUE"}),
    "a wrong dry run": ("/predict", BODY, {"X-Dry-Run": "1"}),
    "two problems": ("/predict", json.dumps(ENCOUNTER | {"age": "old", "time_in_hospital": 99}).encode(), {}),
    "no JSON": ("/explain", b"{", {}),
    "no body": ("/predict", b"", {}),
    "a body too long": ("/predict", BODY + b" " * 5000, {}),
    "no key": ("/predict", BODY, {"Authorization": ""}),
    "a wrong key": ("/explain", BODY, {"Authorization": "Bearer hp_wrong"}),
    "a query": ("/predict?a=b", BODY, {}),
    "a wrong path": ("/predictions", BODY, {}),
}


@pytest.fixture
def guarded_api(bundle: Bundle, keys_path: Path, key: str, log: PredictionLog, serve_app: Serve) -> Client:
    """With keys, a log, and bodies of 4,000 bytes at most."""
    client = serve_app(create_app(bundle, keys=KeyRing(keys_path), log=log, limits=Limits(body_bytes=4000)))
    client.headers["authorization"] = f"Bearer {key}"
    return client


@pytest.fixture
def asked_at_once(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows by each request that was to be answered at once: whether it was."""
    asked: list[bool] = []
    send = Connection.send

    def noted(self: Connection, answer: bytes | None) -> None:
        asked.append(answer is not None)
        send(self, answer)

    monkeypatch.setattr(Connection, "send", noted)
    monkeypatch.setattr(Connection, "rest_of_body_seconds", 30.0)  # however busy the machine is
    return asked


def said(answer: HTTPResponse) -> tuple[Any, ...]:
    """What an answer says, but for what is new in each."""
    body = json.loads(answer.read())
    body.pop("request_id", None)
    headers = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in ("date", "connection")}
    return answer.status, headers, body


def test_it_is_answered_as_one_that_takes_the_long_way(
    guarded_api: Client, log: PredictionLog, tmp_path: Path, asked_at_once: list[bool]
) -> None:
    authorization = {"Authorization": guarded_api.headers["authorization"]}
    connection = HTTPConnection("127.0.0.1", guarded_api.base_url.port or 0, timeout=30)
    answers = {}
    with closing(connection):
        for name, (path, body, more) in REQUESTS.items():
            of_each = []
            for how in ({}, {"Connection": "close"}):
                connection.request("POST", path, body, authorization | more | how)
                of_each.append(said(connection.getresponse()))
            assert of_each[0] == of_each[1], name
            answers[name] = of_each[0][0]
    assert answers == {
        **dict.fromkeys(
            ("an encounter", "reasons", "names with underscores", "a dry run", "a dry run in capitals", "a query"), 200
        ),
        **{
            "a wrong dry run": 422,
            "two problems": 422,
            "no JSON": 400,
            "no body": 400,
            "a body too long": 413,
            "no key": 401,
            "a wrong key": 401,
        },
        "a wrong path": 404,
    }
    assert asked_at_once == [True] * 5 + [False] * 7, "those of a query and of a wrong path were not to be"
    metrics = guarded_api.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(metrics)}
    assert sum(sample.value for sample in families["healthpredict_requests"].samples) == 2 * len(REQUESTS)
    problems = {s.labels["field"]: s.value for s in families["healthpredict_validation_errors"].samples if s.labels}
    assert problems == {"age": 2, "time_in_hospital": 2, "other": 2}, "once for each request"
    log.close()
    assert sum(map(rows_of, closed_files(tmp_path / "log", PREDICTIONS))) == 2 * 6


def test_a_fault_is_answered_and_told_once(
    bundle: Bundle, serve_app: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve_app(create_app(bundle))
    monkeypatch.setattr("healthpredict.serving.app.read_encounter", lambda _body: 1 / 0)
    answer = client.post("/predict", json=ENCOUNTER)
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
    wait_until(lambda: bool(caplog.records))
    client.get("/health/live").raise_for_status()
    assert [record.message for record in caplog.records] == ["Exception in ASGI application\n"]


def answers_of(app: FastAPI, *pieces: bytes, pause: float = 0.0, n_answers: int) -> list[tuple[int, dict[str, Any]]]:
    """Send pieces on one connection, and read this many answers."""
    with served(app) as client, create_connection(("127.0.0.1", client.base_url.port or 0), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        found = []
        with connection.makefile("rb") as stream:
            for _ in range(n_answers):
                status = int(stream.readline().split()[1])
                length = 0
                while (line := stream.readline()) != b"\r\n":
                    name, _, value = line.partition(b":")
                    length = int(value) if name == b"content-length" else length
                found.append((status, json.loads(stream.read(length))))
        return found


def post(path: str, body: bytes = BODY) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(("waited_for", "at_once"), [(30.0, [True]), (0.001, [])])
def test_one_that_comes_in_pieces_is_waited_for(
    app: FastAPI, asked_at_once: list[bool], monkeypatch: pytest.MonkeyPatch, waited_for: float, at_once: list[bool]
) -> None:
    """For a moment on the short way, and then on the long one."""
    monkeypatch.setattr(Connection, "rest_of_body_seconds", waited_for)
    request = post("/predict")
    pieces = [request[i : i + 300] for i in range(0, len(request), 300)]
    ((status, answer),) = answers_of(app, *pieces, pause=0.02, n_answers=1)
    assert (status, answer["bundle_digest"], asked_at_once) == (200, app.state.bundle.digest, at_once)


def test_one_that_is_longer_than_any_encounter_is_refused(app: FastAPI, asked_at_once: list[bool]) -> None:
    ((status, _),) = answers_of(app, post("/predict", BODY + b" " * 100_000), n_answers=1)
    assert (status, asked_at_once) == (413, [])


def test_many_in_one_piece_are_answered_in_their_order(app: FastAPI) -> None:
    """Some at once, some the long way, and some that have to wait for those before."""
    explain, refused, batch = post("/explain"), post("/predict", b"{}"), post("/predict/batch", b'{"encounters": []}')
    sent = [post("/predict"), explain, LIVE, post("/predict"), refused, batch, explain, post("/predict"), LIVE]
    answers = answers_of(app, b"".join(sent), n_answers=len(sent))
    kinds = [
        next(k for k in ("reasons", "results", "errors", "status", "readmission_risk") if k in a) for _, a in answers
    ]
    assert kinds == [
        *("readmission_risk", "reasons", "status", "readmission_risk", "errors", "results"),
        *("reasons", "readmission_risk", "status"),
    ]


@pytest.fixture
def looking_often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Connection, "look_seconds", 0.2)
    yield


@pytest.mark.usefixtures("looking_often")
def test_a_connection_in_use_stays_and_an_idle_one_ends(app: FastAPI) -> None:
    with served(app) as client, create_connection(("127.0.0.1", client.base_url.port or 0), timeout=30) as connection:
        for _ in range(20):
            connection.sendall(post("/predict"))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
            time.sleep(0.05)
        assert connection.recv(65536) == b"", "it ends without an answer to what was not asked"
