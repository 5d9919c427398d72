"""The real process under load, with slow and hostile clients."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from as_process import Service, service, wait_until
from bundles import as_records, draw_encounters
from in_a_thread import Serve
from prometheus_client.parser import text_string_to_metric_families

from healthpredict.bundle.model import Bundle
from healthpredict.prediction_log.patient_key import make_patient_key
from healthpredict.prediction_log.rolled_file import PREDICTIONS, closed_files, rows_of
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.app import create_app
from healthpredict.serving.encounter import as_sent
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits
from healthpredict.storage.key_file import add_key, revoke_key

ENCOUNTERS = [as_sent(record) for record in as_records(draw_encounters(50, seed=11))]

IMPATIENT = """
import sys
from healthpredict.serving.limits import Limits
from healthpredict.serving.server import ServiceParams, serve
serve(ServiceParams(bundle=sys.argv[1], port=int(sys.argv[2])), Limits(body_seconds=1, head_seconds=0.5, batches=9))
"""


JSON = "Content-Type: application/json"


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", JSON, f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


def connect(api: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=30)


class Answer(NamedTuple):
    """A response; status 0 if the connection ended before, and whether the connection stays."""

    status: int
    body: bytes
    stays: bool


def read_answer(connection: socket.socket) -> Answer:
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            more = b""
        if not more:
            return Answer(0, data, False)
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    head = head.lower()
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return Answer(int(head.split()[1]), body, b"connection: close" not in head)


def in_flight(api: Service) -> float:
    families = text_string_to_metric_families(api.client.get("/metrics").text)
    return next(f.samples[0].value for f in families if f.name == "healthpredict_requests_in_flight")


@pytest.fixture(scope="module")
def api(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("load") / "log", bundle.path) as started:
        yield started


@pytest.fixture(scope="module")
def impatient(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a time limit of a second for bodies, and of half a second for heads."""
    with service(tmp_path_factory.mktemp("slow") / "log", bundle.path, program=IMPATIENT) as started:
        yield started


def test_two_hundred_connections_at_once_are_all_answered(api: Service, bundle: Bundle) -> None:
    """Each sends its own encounter, and a second one on the same connection."""
    connections = [connect(api) for _ in range(200)]
    risks = []
    for number in range(2):
        for i, connection in enumerate(connections):
            connection.sendall(post("/predict", json.dumps(ENCOUNTERS[(i + number) % 50]).encode()))
        for connection in connections:
            answer = read_answer(connection)
            assert answer.status == 200
            risks.append(json.loads(answer.body)["readmission_risk"])
    for connection in connections:
        connection.close()
    expected = [bundle.risk(record) for record in as_records(draw_encounters(50, seed=11))]
    assert risks == [expected[(i + number) % 50] for number in range(2) for i in range(200)]


def drip(api: Service, at_once: bytes, slowly: bytes) -> bytes:
    """Send a request, its end byte by byte, until a response arrives, and return all responses."""
    connection = connect(api)
    with closing(connection):
        connection.sendall(at_once)
        connection.settimeout(0.02)
        answer = b""
        for byte in slowly:
            try:
                connection.sendall(bytes([byte]))
                answer = connection.recv(65536)
                break
            except TimeoutError:
                continue
        connection.settimeout(30)
        with suppress(ConnectionResetError):  # the last byte came after the end
            while more := connection.recv(65536):
                answer += more
    return answer


SLOW_HEADS = {
    "nothing": (b"", b""),
    "half a line": (b"POST /pre", b""),
    "a head without end": (b"", b"POST /predict HTTP/1.1\r\n" + b"x-more: and more\r\n" * 100),
    "half a second head": (b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /hea", b""),
    "an empty line": (b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n\r\n", b""),
}
SLOW_BODIES = {
    "a body without end": (post("/predict", b" " * 1000)[:-1000], b" " * 999),
    "a batch without end": (post("/predict/batch", b'{"encounters": [' + b" " * 1000)[:-1000], b" " * 999),
    "half a body": (post("/predict", b" " * 1000)[:-900], b""),
    "chunks without end": (
        b"POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\n \r\n" * 300,
    ),
}


def test_slow_clients_are_disconnected_and_disturb_nobody(impatient: Service, bundle: Bundle) -> None:
    """Others are answered meanwhile, and no slow request is left in the end."""
    record = bundle.golden[0].record
    slow = SLOW_HEADS | SLOW_BODIES
    with ThreadPoolExecutor(3 * len(slow)) as pool:
        answers = {name: [pool.submit(drip, impatient, *parts) for _ in range(3)] for name, parts in slow.items()}
        others = 0
        while not all(answer.done() for of_one in answers.values() for answer in of_one):
            answer = impatient.client.post("/predict", json=as_sent(record)).raise_for_status()
            assert answer.json()["readmission_risk"] == bundle.risk(record)
            others += 1
    for name, of_one in answers.items():
        for answer in of_one:
            said = answer.result()
            assert (b"HTTP/1.1 408 Request Timeout\r\n" in said) == (name in SLOW_BODIES), (name, said)
            assert (b"application/problem+json" in said) == (name in SLOW_BODIES), (name, said)
    assert others > 20
    wait_until(lambda: in_flight(impatient) == 1)  # the question itself


def test_a_head_that_does_not_end_fills_no_memory(impatient: Service) -> None:
    with closing(connect(impatient)) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\n")
        sent = 0
        try:
            while sent < 50_000_000:
                sent += connection.send(b"x-more: " + b"y" * 8000 + b"\r\n")
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert sent < 50_000_000
    assert impatient.client.get("/health/live").status_code == 200


def connections_of(api: Service) -> int:
    connections = psutil.Process(api.process.pid).net_connections("tcp")
    return sum(connection.status == psutil.CONN_ESTABLISHED for connection in connections)


def test_a_client_that_never_reads_is_disconnected(impatient: Service) -> None:
    """Its responses fill the buffers of both ends, and then the server closes the connection."""
    impatient.client.close()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", impatient.port))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 400)
        wait_until(lambda: connections_of(impatient) == 1)
        wait_until(lambda: connections_of(impatient) == 0)


def test_every_request_that_was_accepted_is_answered_and_logged(bundle: Bundle, tmp_path: Path) -> None:
    """SIGTERM while clients send requests at full speed: on persistent and on new connections, and large batches."""
    make_patient_key(tmp_path / "key")
    options = (f"--log={tmp_path / 'log'}", f"--patient-key={tmp_path / 'key'}")
    body = json.dumps(ENCOUNTERS[0]).encode()
    batch = json.dumps({"encounters": ENCOUNTERS * 40}).encode()
    lock = threading.Lock()
    rows = 0
    statuses: set[int] = set()
    refused: list[OSError | None] = []

    def ask(request: bytes, rows_of_one: int) -> None:
        """Send requests on one connection after the other, until a new one is refused, or reset before it was accepted."""
        nonlocal rows
        while True:
            try:
                connection = connect(api)
            except OSError as error:
                refused.append(error)
                return
            with closing(connection):
                answered = 0
                stays = True
                while stays:
                    connection.sendall(request)
                    status, _, stays = read_answer(connection)
                    if status == 0 and answered == 0:
                        refused.append(None)
                        return
                    answered += 1
                    with lock:
                        statuses.add(status)
                        rows += rows_of_one * (status == 200)

    with service(tmp_path / "said", bundle.path, *options) as api:
        kinds = [(post("/predict", body), 1)] * 6 + [(post("/predict", body, "Connection: close"), 1)] * 2
        kinds += [(post("/predict/batch", batch), 2000)] * 2
        clients = [threading.Thread(target=ask, args=kind) for kind in kinds]
        for client in clients:
            client.start()
        wait_until(lambda: rows > 20_000)
        api.process.terminate()
        assert api.process.wait(timeout=30) == 0
        for client in clients:
            client.join()
    assert (statuses, len(refused)) == ({200}, len(clients))
    assert sum(map(rows_of, closed_files(tmp_path / "log", PREDICTIONS))) == rows


def test_a_bundle_altered_on_disk_changes_no_answer_and_is_not_loaded_again(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.path, folder)
    key = add_key(tmp_path / "admin-keys", "operator")

    def answers() -> list[object]:
        of_each = [
            api.client.post(path, json=body).raise_for_status().json()
            for path in ("/predict", "/explain", "/predict/batch")
            for body in (ENCOUNTERS[:3] if path != "/predict/batch" else [{"encounters": ENCOUNTERS}])
        ]
        return [{name: value for name, value in answer.items() if name != "request_id"} for answer in of_each]

    with service(tmp_path / "log", folder, f"--admin-keys={tmp_path / 'admin-keys'}") as api:
        before = answers()
        for file in folder.iterdir():
            with file.open("r+b") as open_file:
                open_file.write(b"\0" * 100)
        assert answers() == before
        refused = api.client.post("/admin/reload", headers={"Authorization": f"Bearer {key}"})
        assert (refused.status_code, refused.json()["title"]) == (409, "Conflict")
        api.process.send_signal(signal.SIGHUP)
        api.wait_for_output("Reload refused", 2)
        assert answers() == before
        assert api.client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("years", [-30, 30])
def test_a_clock_that_jumps_changes_neither_keys_nor_limits(
    bundle: Bundle, serve_app: Serve, tmp_path: Path, years: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time limits use the monotonic clock; only the log uses the time of day."""
    keys_path = tmp_path / "keys"
    key = add_key(keys_path, "ward")
    jump = years * 365 * 24 * 3600
    real, real_ns = time.time, time.time_ns
    with closing(PredictionLog(tmp_path / "log", bytes(32))) as log:
        limits = Limits(body_seconds=0.2)
        client = serve_app(create_app(bundle, limits=limits, keys=KeyRing(keys_path), log=log))
        client.headers["authorization"] = f"Bearer {key}"
        assert client.get("/model").status_code == 200
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + jump * 10**9)
        second = add_key(keys_path, "ward-2")
        revoke_key(keys_path, "ward")
        wait_until(lambda: client.get("/model").status_code == 401, "the file is looked at once a second")
        client.headers["authorization"] = f"Bearer {second}"
        client.post("/predict", json=ENCOUNTERS[0]).raise_for_status()
        address = (client.base_url.host, client.base_url.port or 80)
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(post("/predict", b" " * 9, f"Authorization: Bearer {second}")[:-5])
            assert read_answer(connection).status == 408
    (file,) = closed_files(tmp_path / "log", PREDICTIONS)
    assert rows_of(file) == 1
