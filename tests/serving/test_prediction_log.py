"""The prediction log contains every prediction once, without the patient, and its errors never fail a request."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from as_process import service, wait_until
from bundles import as_records, draw_encounters
from in_a_thread import Serve
from logged import lines_of

from healthpredict.bundle.model import Bundle
from healthpredict.errors import ConfigurationError, StorageError
from healthpredict.prediction_log import writer
from healthpredict.prediction_log.lines import LogEntry
from healthpredict.prediction_log.patient_key import make_patient_key, read_patient_key
from healthpredict.prediction_log.pseudonym import pseudonyms
from healthpredict.prediction_log.rolled_file import LogLimits, adopt_left_files, closed_files, rows_of
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.rollout.local import LocalTarget
from healthpredict.rollout.ports import free_port
from healthpredict.serving import service as serving_service
from healthpredict.serving.app import create_app
from healthpredict.serving.encounter import as_sent

RECORDS = as_records(draw_encounters(6, seed=8))
PATIENT = 4_444_444_444
KEY = bytes(32)
ANSWER = {"model_version": 1, "bundle_digest": "d", "readmission_risk": 0.5, "high_risk": True, "threshold": 0.3}


def sent(number: int, **changes: Any) -> dict[str, Any]:
    return as_sent(RECORDS[number]) | {"encounter_id": 100 + number, "patient_nbr": PATIENT + number} | changes


def add(log: PredictionLog, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        answer = ANSWER | {"request_id": str(number)}
        log.add(LogEntry(5, "/predict", False, answer, [1, number + 1, *RECORDS[0].values()]))


def ids_of(folder: Path) -> list[int]:
    return [int(line["request_id"]) for line in lines_of(folder)]


def metric(api: httpx.Client, name: str) -> float:
    (line,) = (line for line in api.get("/metrics").text.splitlines() if line.startswith(f"healthpredict_log_{name} "))
    return float(line.split()[1])


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make logs of this process write a hundred times a second."""
    monkeypatch.setattr(writer, "_WRITE_EVERY_SECONDS", 0.01)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """A disk with room for `disk["room"]` bytes of the log; unlimited at first."""
    disk = {"room": float("inf")}
    write, flush = os.write, os.fsync

    def of_log(file: int) -> bool:
        return Path(f"/proc/self/fd/{file}").readlink().is_relative_to(tmp_path / "log")

    def room() -> int:
        return int(max(0, min(1e9, disk["room"] - sum(p.stat().st_size for p in (tmp_path / "log").glob("pred*")))))

    def limited(file: int, data: Any) -> int:
        if not of_log(file):
            return write(file, data)
        if not room():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[: room()])

    def flush_with_room(file: int) -> None:
        if of_log(file) and disk["room"] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(file)

    monkeypatch.setattr(os, "write", limited)
    monkeypatch.setattr(os, "fsync", flush_with_room)
    yield disk
    disk["room"] = float("inf")


def test_every_prediction_is_logged_with_all_its_inputs(
    logged_api: httpx.Client, log: PredictionLog, bundle: Bundle, tmp_path: Path
) -> None:
    before = time.time_ns() // 1000
    answers = [logged_api.post(path, json=sent(i)).json() for i, path in ((0, "/predict"), (1, "/explain"))]
    batch = logged_api.post("/predict/batch", json={"encounters": [sent(2), sent(3)]}).json()
    answers += [row | {"request_id": batch["request_id"]} for row in batch["results"]]
    log.close()
    after = time.time_ns() // 1000
    lines = lines_of(tmp_path / "log")
    assert [line.pop("endpoint") for line in lines] == ["/predict", "/explain", "/predict/batch", "/predict/batch"]
    for number, (line, answer) in enumerate(zip(lines, answers, strict=True)):
        assert before <= line.pop("time") <= after
        assert line == {
            "request_id": answer["request_id"],
            "dry_run": False,
            "hold_out_probability": None,
            "model_version": 1,
            "bundle_digest": bundle.digest,
            "readmission_risk": answer["readmission_risk"],
            "high_risk": answer["high_risk"],
            "patient_id": pseudonyms(KEY, [PATIENT + number])[0],
            "encounter_id": 100 + number,
            **RECORDS[number],
        }


def test_the_id_of_a_patient_is_in_no_file(logged_api: httpx.Client, log: PredictionLog, tmp_path: Path) -> None:
    logged_api.post("/predict", json=sent(0)).raise_for_status()
    logged_api.post("/predict/batch", json={"encounters": [sent(1)]}).raise_for_status()
    log.close()
    written = b"".join(path.read_bytes() for path in (tmp_path / "log").iterdir())
    assert written.count(b'"/predict') == 2
    assert b"4444444" not in written


@pytest.mark.parametrize(
    "missing", [{"encounter_id": None, "patient_nbr": None}, dict.fromkeys(("encounter_id", "patient_nbr"), "?")]
)
def test_missing_ids_are_logged_as_null(
    logged_api: httpx.Client, log: PredictionLog, tmp_path: Path, missing: dict[str, Any]
) -> None:
    logged_api.post("/predict", json=sent(0, **missing)).raise_for_status()
    logged_api.post("/predict", json=as_sent(RECORDS[1])).raise_for_status()
    log.close()
    assert [(line["patient_id"], line["encounter_id"]) for line in lines_of(tmp_path / "log")] == [(None, None)] * 2


def test_rejected_encounters_are_not_logged(logged_api: httpx.Client, log: PredictionLog, tmp_path: Path) -> None:
    assert logged_api.post("/predict", json=sent(0, age="old")).status_code == 422
    answer = logged_api.post("/predict/batch", json={"encounters": [sent(0, age="old"), sent(1)]}).json()
    assert answer["refused"] == 1
    log.close()
    assert [line["encounter_id"] for line in lines_of(tmp_path / "log")] == [101]


def test_a_dry_run_is_logged_as_one(logged_api: httpx.Client, log: PredictionLog, tmp_path: Path) -> None:
    for path, body in (("/predict", sent(0)), ("/explain", sent(1)), ("/predict/batch", {"encounters": [sent(2)]})):
        for value in ("true", "false", "TRUE", "False"):
            logged_api.post(path, json=body, headers={"X-Dry-Run": value}).raise_for_status()
    log.close()
    assert [line["dry_run"] for line in lines_of(tmp_path / "log")] == [True, False] * 6


@pytest.mark.parametrize("values", [["1"], ["yes"], [""], ["true", "false"], ["false", "true"], ["true", ""]])
def test_a_dry_run_that_is_neither_true_nor_false_is_refused_and_not_logged(
    logged_api: httpx.Client, log: PredictionLog, tmp_path: Path, values: list[str]
) -> None:
    headers = [("X-Dry-Run", value) for value in values]
    for path, body in (("/predict", sent(0)), ("/explain", sent(1)), ("/predict/batch", {"encounters": [sent(2)]})):
        response = logged_api.post(path, json=body, headers=headers)
        assert response.status_code == 422, path
        assert response.json()["detail"].startswith("The header X-Dry-Run is neither true nor false.")
    log.close()
    assert lines_of(tmp_path / "log") == []


def test_nothing_is_lost_or_doubled_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_WRITE_EVERY_SECONDS", 0.0001)
    monkeypatch.setattr(writer, "_ROWS_AT_ONCE", 21)
    with closing(PredictionLog(tmp_path, KEY, LogLimits(roll_bytes=10_000))) as log:
        add(log, 3000)
    assert ids_of(tmp_path) == list(range(3000))
    assert (log.written, log.waiting, log.dropped) == (3000, 0, 0)
    assert len(closed_files(tmp_path, "predictions")) > 10


def test_metrics_count_what_is_written(logged_api: httpx.Client) -> None:
    for number in range(3):
        logged_api.post("/predict", json=sent(number)).raise_for_status()
    wait_until(lambda: metric(logged_api, "written_total") == 3)
    assert [metric(logged_api, name) for name in ("queue", "dropped_total", "failing")] == [0, 0, 0]


def test_full_disk_costs_the_oldest_predictions_and_no_answer(
    bundle: Bundle, serve_app: Serve, tmp_path: Path, disk: dict[str, float]
) -> None:
    """Every prediction is written, dropped, or in the queue. The oldest are dropped, and they are counted."""
    limits = LogLimits(roll_bytes=4_000)
    with closing(PredictionLog(tmp_path / "log", KEY, limits)) as log:
        api = serve_app(create_app(bundle, log=log))
        disk["room"] = 20_000
        answered = []
        for number in range(60):
            answered.append(api.post("/predict", json=sent(number % 6)).raise_for_status().json()["request_id"])
            wait_until(lambda number=number: log.written == number + 1)  # type: ignore[misc]
        assert metric(api, "dropped_total") > 0
        assert metric(api, "failing") == 0
        dropped = int(metric(api, "dropped_total"))
    kept = [line["request_id"] for line in lines_of(tmp_path / "log")]
    assert kept == answered[dropped:]


def test_full_disk_without_files_to_drop_fills_the_queue_up_to_its_bound(
    tmp_path: Path, disk: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    with closing(PredictionLog(tmp_path / "log", KEY, LogLimits(queue_rows=2_000))) as log:
        disk["room"] = -1
        add(log, 1)
        wait_until(lambda: log.failing)
        add(log, 5_999, first=1)
        assert (log.written, log.dropped, log.waiting) == (0, 3_999, 2_001)
        disk["room"] = float("inf")
        wait_until(lambda: log.written == 2_001)
        wait_until(lambda: not log.failing)
    assert ids_of(tmp_path / "log") == [0, *range(4_000, 6_000)]
    assert "No space left on device; 1 predictions wait in memory" in caplog.text
    assert "ship-log" not in caplog.text, "there is nothing to ship"


def test_lines_that_are_dropped_during_a_write_harm_no_others(tmp_path: Path) -> None:
    class DroppingTheRest(deque[Any]):
        def popleft(self) -> Any:
            taken = super().popleft()
            self.clear()
            return taken

    with closing(PredictionLog(tmp_path / "log", KEY)) as log:
        log._queue = DroppingTheRest()
        add(log, 6_000)
    ids = ids_of(tmp_path / "log")
    assert ids == sorted(set(ids))
    assert len(ids) == log.written > 0


def test_lines_that_cannot_be_written_at_the_end_are_reported_as_lost(
    tmp_path: Path, disk: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    with closing(PredictionLog(tmp_path / "log", KEY)) as log:
        disk["room"] = -1
        add(log, 3)
    assert "3 predictions are lost, not written" in caplog.text


def test_files_that_are_never_shipped_take_no_more_than_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = LogLimits(roll_bytes=1, folder_bytes=8_000)
    with closing(PredictionLog(tmp_path, KEY, limits)) as log:
        for number in range(40):
            add(log, 1, first=number)
            wait_until(lambda number=number: log.written == number + 1)  # type: ignore[misc]
    files = closed_files(tmp_path, "predictions")
    sizes = [path.stat().st_size for path in files]
    assert 8_000 - max(sizes) - 10 < sum(sizes) <= 8_000
    assert ids_of(tmp_path) == list(range(log.dropped, 40))
    assert "predictions that were not shipped are dropped. Is `healthpredict ship-log` running?" in caplog.text


def test_file_that_was_shipped_before_it_was_dropped_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed_before_it_was_shipped(folder: Path, kind: str, at_most: int) -> list[Path]:
        files = closed_files(folder, kind)
        for path in files:
            path.unlink()
        return files

    monkeypatch.setattr(writer, "files_beyond", listed_before_it_was_shipped)
    with closing(PredictionLog(tmp_path, KEY, LogLimits(roll_bytes=1))) as log:
        add(log, 1)
    assert (log.written, log.dropped, log.failing) == (1, 0, False)


def test_a_fault_of_the_log_ends_neither_the_log_nor_the_service(
    logged_api: httpx.Client,
    log: PredictionLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as context:
        context.setattr(writer.RolledFile, "append", None)
        logged_api.post("/predict", json=sent(0)).raise_for_status()
        wait_until(lambda: metric(logged_api, "failing") == 1)
    wait_until(lambda: metric(logged_api, "failing") == 0)
    logged_api.post("/predict", json=sent(1)).raise_for_status()
    log.close()
    assert [line["encounter_id"] for line in lines_of(tmp_path / "log")] == [100, 101]
    assert "it failed" in caplog.text


def test_a_line_that_cannot_be_made_costs_no_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Lines that were taken from the queue are written once the error is over."""
    with closing(PredictionLog(tmp_path, KEY)) as log:
        with monkeypatch.context() as context:
            context.setattr(writer, "patients_text", None)
            add(log, 3)
            wait_until(lambda: log.failing)
            assert (log.waiting, log.written) == (3, 0)
        wait_until(lambda: log.written == 3)
    assert ids_of(tmp_path) == [0, 1, 2]


def test_clock_that_jumps_back_changes_times_and_nothing_else(
    logged_api: httpx.Client, log: PredictionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([2_000_000_000_000, 1_000_000_000_000, 3_000_000_000_000])
    monkeypatch.setattr(serving_service, "time_ns", lambda: next(times))
    for number in range(3):
        logged_api.post("/predict", json=sent(number)).raise_for_status()
    monkeypatch.undo()
    log.close()
    lines = lines_of(tmp_path / "log")
    assert [line["encounter_id"] for line in lines] == [100, 101, 102]
    assert [line["time"] for line in lines] == [2_000_000_000, 1_000_000_000, 3_000_000_000]


def test_log_is_for_this_user_only(log: PredictionLog, tmp_path: Path) -> None:
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("problem", ["is a file", "may not be written"])
def test_folder_that_cannot_be_written_is_found_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    folder = tmp_path / "log"
    if problem == "is a file":
        folder.write_bytes(b"")
    else:
        monkeypatch.setattr(os, "access", lambda path, _: path != folder)
    with pytest.raises(StorageError, match=r"log cannot be written \(.+\)\. Choose another folder"):
        PredictionLog(folder, KEY)


def test_further_signals_do_not_cut_the_end_short(tmp_path: Path) -> None:
    """The first one has ended the service; others arrive while the rest is written."""
    program = """
import os, signal, sys
from pathlib import Path
from healthpredict.data.contract import RECORD_COLUMNS, Kind
from healthpredict.prediction_log import writer
from healthpredict.prediction_log.lines import LogEntry

append = writer.RolledFile.append
def append_and_send_signal(*arguments):
    append(*arguments)
    os.kill(os.getpid(), signal.SIGTERM)

writer.RolledFile.append = append_and_send_signal
writer._WRITE_EVERY_SECONDS = 1000
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
log = writer.PredictionLog(Path(sys.argv[1]), bytes(32))
answer = {"model_version": 1, "bundle_digest": "d", "readmission_risk": 0.5, "high_risk": True}
encounter = [0 if column.kind is Kind.COUNT else None for column in RECORD_COLUMNS]
for number in range(10_000):
    log.add(LogEntry(5, "/predict", False, answer | {"request_id": str(number)}, encounter))
log.close()
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert ids_of(tmp_path) == list(range(10_000))


def log_options(folder: Path) -> tuple[str, str]:
    make_patient_key(folder / "key")
    return f"--log={folder / 'log'}", f"--patient-key={folder / 'key'}"


def test_process_that_gets_sigterm_logs_every_response(bundle: Bundle, tmp_path: Path) -> None:
    answered = []
    with service(tmp_path / "said", bundle.path, *log_options(tmp_path)) as api:
        for number in range(50):
            answered.append(api.client.post("/predict", json=sent(number % 6)).json()["request_id"])
        api.process.terminate()
        assert api.process.wait(timeout=20) == 0
    assert [line["request_id"] for line in lines_of(tmp_path / "log")] == answered
    key = read_patient_key(tmp_path / "key")
    assert {line["patient_id"] for line in lines_of(tmp_path / "log")} == set(
        pseudonyms(key, [PATIENT + number for number in range(6)])
    )


def test_process_that_is_killed_loses_only_what_came_just_before(bundle: Bundle, tmp_path: Path) -> None:
    with service(tmp_path / "said", bundle.path, *log_options(tmp_path)) as api:
        answered = [api.client.post("/predict", json=sent(number)).json()["request_id"] for number in range(6)]
        wait_until(lambda: metric(api.client, "written_total") == 6)
        outcomes = [{"encounter_id": 100, "readmitted": "NO"}]
        api.client.post("/outcomes", json={"outcomes": outcomes}).raise_for_status()
        api.client.post("/predict", json=sent(0)).raise_for_status()
        api.process.send_signal(signal.SIGKILL)
        api.process.wait()
    (left,) = (tmp_path / "log").glob("predictions-*.open")
    with left.open("ab") as file:
        file.write(b"[179")
    adopt_left_files(tmp_path / "log")
    assert [line["request_id"] for line in lines_of(tmp_path / "log")][:6] == answered
    assert len(lines_of(tmp_path / "log")) in (6, 7)
    (adopted,) = closed_files(tmp_path / "log", "predictions")
    assert rows_of(adopted) == len(lines_of(tmp_path / "log"))
    assert [line["encounter_id"] for line in lines_of(tmp_path / "log", "outcomes")] == [100]


def test_a_service_with_a_log_needs_a_key_for_pseudonyms(bundle: Bundle, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "healthpredict.serving",
        bundle.path,
        f"--port={free_port()}",
        f"--log={tmp_path / 'log'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ConfigurationError.exit_code
    assert done.stderr.startswith("The prediction log needs a key for the pseudonyms of patients.")
    assert not (tmp_path / "log").exists()


def test_when_one_process_replaces_another_both_logs_are_whole(
    bundle: Bundle, next_bundle: Bundle, tmp_path: Path
) -> None:
    """Under requests; the golden rows that verify each process are logged as dry runs."""
    target = LocalTarget(tmp_path / "state", port=free_port(), options=log_options(tmp_path))
    answered: list[str] = []
    done = threading.Event()

    def roll_out(served: Bundle) -> str:
        candidate = target.start(served.path)
        target.verify(candidate)
        return target.switch(candidate).url

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
            while not done.is_set():
                answered.append(client.post("/predict", json=sent(len(answered) % 6)).json()["request_id"])

    try:
        url = roll_out(bundle)
        asking = threading.Thread(target=ask, args=(url,))
        asking.start()
        roll_out(next_bundle)
        count = len(answered)
        wait_until(lambda: len(answered) > count)
        done.set()
        asking.join()
    finally:
        done.set()
        target.stop()
    lines = lines_of(tmp_path / "log")
    assert sorted(line["request_id"] for line in lines if not line["dry_run"]) == sorted(answered)
    assert {line["model_version"] for line in lines if not line["dry_run"]} == {1, 2}
    golden = [(line["model_version"], line["patient_id"]) for line in lines if line["dry_run"]]
    assert sorted(golden) == [(1, None)] * len(bundle.golden) + [(2, None)] * len(next_bundle.golden)
