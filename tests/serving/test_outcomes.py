"""`POST /outcomes` stores all or none, responds when they are on the disk, and lists every problem."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_a_thread import Serve
from logged import lines_of
from pydantic import ValidationError

from healthpredict.bundle.model import Bundle
from healthpredict.prediction_log.rolled_file import RolledFile
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.app import create_app
from healthpredict.serving.limits import Limits
from healthpredict.serving.outcomes import Outcomes, record_outcomes
from healthpredict.serving.problems import ProblemError

GOOD = [{"encounter_id": 4711, "readmitted": "NO"}, {"encounter_id": 2**63 - 1, "readmitted": "<30"}]
MISSING = "is missing: leave the encounter out until its outcome is known"


def ask(api: httpx.Client, *outcomes: Any) -> httpx.Response:
    return api.post("/outcomes", json={"outcomes": outcomes})


def stored(folder: Path) -> list[dict[str, Any]]:
    """Return the outcomes on the disk, also of files that are open."""
    return [json.loads(line) for path in folder.glob("outcomes-*") for line in path.read_bytes().splitlines()]


def test_outcomes_are_on_the_disk_when_they_are_answered(
    logged_api: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    flush = os.fsync

    def recording_flush(file: int) -> None:
        flush(file)
        flushed.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else Path(f"/proc/self/fd/{file}").read_text())

    monkeypatch.setattr(os, "fsync", recording_flush)
    answer = ask(logged_api, *GOOD).raise_for_status().json()
    assert answer.keys() == {"recorded", "request_id"}
    assert answer["recorded"] == 2
    assert "folder" in flushed, "else the file could be gone with its name"
    assert [json.loads(line) for line in flushed[-1].splitlines()] == stored(tmp_path / "log")
    assert [{name: line[name] for name in ("encounter_id", "readmitted")} for line in stored(tmp_path / "log")] == GOOD


def test_outcomes_have_a_file_of_their_own_for_shipping(
    logged_api: httpx.Client, log: PredictionLog, tmp_path: Path
) -> None:
    ask(logged_api, GOOD[0]).raise_for_status()
    ask(logged_api, GOOD[1]).raise_for_status()
    log.close()
    assert [line["encounter_id"] for line in lines_of(tmp_path / "log", "outcomes")] == [4711, 2**63 - 1]
    assert lines_of(tmp_path / "log") == []


def test_all_problems_are_listed_and_nothing_is_recorded(logged_api: httpx.Client, tmp_path: Path) -> None:
    response = ask(
        logged_api,
        GOOD[0],
        {"encounter_id": "SECRET", "readmitted": "SECRET"},
        {},
        "SECRET",
        {"encounter_id": 0, "readmitted": None},
        {"encounter_id": True, "readmitted": "NO", "SECRET": 1},
        {"encounter_id": 2**63, "readmitted": 30},
        {"encounter_id": 1.5, "readmitted": "NO"},
    )
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == "The outcomes have 12 problems; nothing was recorded."
    assert [(error["field"], error["problem"]) for error in response.json()["errors"]] == [
        ("outcomes.1.encounter_id", "is not a whole number"),
        ("outcomes.1.readmitted", "is not one of NO, >30, <30"),
        ("outcomes.2.encounter_id", "is missing"),
        ("outcomes.2.readmitted", MISSING),
        ("outcomes.3", "is not an object"),
        ("outcomes.4.encounter_id", "is not a positive 64-bit whole number"),
        ("outcomes.4.readmitted", MISSING),
        ("outcomes.5.encounter_id", "is not a whole number"),
        ("outcomes.5", "has a field that an outcome does not have"),
        ("outcomes.6.encounter_id", "is not a positive 64-bit whole number"),
        ("outcomes.6.readmitted", "is not text"),
        ("outcomes.7.encounter_id", "is not a whole number"),
    ]
    assert "SECRET" not in response.text
    assert stored(tmp_path / "log") == []


@pytest.mark.parametrize(
    ("body", "field", "problem"),
    [
        (b'{"outcomes":[{"encounter_id":NaN,"readmitted":"NO"}]}', "outcomes.0.encounter_id", "is not a whole number"),
        (b'{"outcomes":[{"encounter_id":1,"readmitted":Infinity}]}', "outcomes.0.readmitted", "is not text"),
        (
            b'{"outcomes":[{"encounter_id":1,"readmitted":"NO","encounter_id":1}]}',
            "outcomes.0.encounter_id",
            "is given twice",
        ),
        (b'{"outcomes":[{"encounter_id":1,"readmitted":"NO"}],"outcomes":[]}', "outcomes", "is given twice"),
    ],
)
def test_odd_json_names_its_field(
    logged_api: httpx.Client, tmp_path: Path, body: bytes, field: str, problem: str
) -> None:
    response = logged_api.post("/outcomes", content=body)
    assert response.status_code == 422
    assert response.json()["errors"] == [{"field": field, "problem": problem}]
    assert stored(tmp_path / "log") == []


@pytest.mark.parametrize("word", ["NA", "nan", " null ", "None", "?", ""])
def test_a_word_for_missing_is_no_outcome(logged_api: httpx.Client, tmp_path: Path, word: str) -> None:
    """The same words are missing in a file."""
    response = ask(logged_api, {"encounter_id": 1, "readmitted": word})
    assert response.status_code == 422
    assert response.json()["errors"] == [{"field": "outcomes.0.readmitted", "problem": MISSING}]
    assert stored(tmp_path / "log") == []


def test_an_id_may_be_written_as_a_decimal(logged_api: httpx.Client, tmp_path: Path) -> None:
    body = b'\xef\xbb\xbf{"outcomes":[{"encounter_id":4711.0,"readmitted":"NO"}]}'
    logged_api.post("/outcomes", content=body).raise_for_status()
    assert [line["encounter_id"] for line in stored(tmp_path / "log")] == [4711]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "The body is not JSON."),
        (b'{"outcomes": [{]}', 400, "The body is not JSON."),
        (b'{"outcomes": ["\xff"]}', 400, "The body is not JSON."),
        (b'{"outcomes": ' + b"[" * 100_000, 400, "The body is not JSON."),
        (b"[]", 422, 'The body is not one JSON object with the list "outcomes" and nothing else.'),
        (b'{"outcomes": 7}', 422, 'The body is not one JSON object with the list "outcomes" and nothing else.'),
        (
            b'{"outcomes": [], "more": 1}',
            422,
            'The body is not one JSON object with the list "outcomes" and nothing else.',
        ),
        (b'{"outcomes": []}', 422, "There are no outcomes; nothing was recorded."),
    ],
)
def test_a_body_without_a_list_of_outcomes_is_rejected(
    logged_api: httpx.Client, tmp_path: Path, body: bytes, status: int, detail: str
) -> None:
    response = logged_api.post("/outcomes", content=body)
    assert (response.status_code, response.json()["detail"]) == (status, detail)
    assert stored(tmp_path / "log") == []


def test_too_many_outcomes_or_bytes_are_rejected_before_they_are_checked(
    bundle: Bundle, log: PredictionLog, serve_app: Serve, tmp_path: Path
) -> None:
    api = serve_app(create_app(bundle, log=log, limits=Limits(batch_rows=3, outcomes_body_bytes=1000)))
    many = ask(api, 1, 2, 3, 4)
    assert (many.status_code, many.json()["detail"]) == (
        413,
        "There are 4 outcomes, and 3 is the most. Send several requests.",
    )
    long = ask(api, {"encounter_id": 1, "readmitted": "N" * 1000})
    assert (long.status_code, long.json()["detail"]) == (413, "The body is longer than 1,000 bytes. Send less at once.")
    assert stored(tmp_path / "log") == []
    ask(api, GOOD[0], GOOD[0], GOOD[0]).raise_for_status()


@pytest.mark.parametrize(
    ("call", "problem"),
    [("write", "were not written"), ("fsync", "were written, but may not survive a power cut")],
)
def test_a_failed_write_says_what_happened_to_the_outcomes(
    logged_api: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, problem: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ask(logged_api, GOOD[0]).raise_for_status()
    with monkeypatch.context() as context:
        context.setattr(os, call, full)
        response = ask(logged_api, GOOD[0])
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert response.json()["detail"] == f"The outcomes {problem} (No space left on device). Send the request again."
    assert len(stored(tmp_path / "log")) == (1 if call == "write" else 2)
    assert ask(logged_api, GOOD[1]).status_code == 200
    assert stored(tmp_path / "log")[-1]["encounter_id"] == 2**63 - 1


def test_concurrent_outcomes_are_written_one_after_the_other(
    logged_api: httpx.Client, log: PredictionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, writing = RolledFile.append, threading.Lock()

    def append_alone(file: RolledFile, lines: bytes, rows: int) -> None:
        assert writing.acquire(blocking=False)
        try:
            time.sleep(0.001)  # long enough for another caller to come in
            append(file, lines, rows)
        finally:
            writing.release()

    monkeypatch.setattr(RolledFile, "append", append_alone)

    def ask_for(number: int) -> int:
        outcomes = [{"encounter_id": 1000 * number + i, "readmitted": ">30"} for i in range(1, 50)]
        return ask(logged_api, *outcomes).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask_for, range(20))) == {200}
    log.close()
    ids = [line["encounter_id"] for line in lines_of(tmp_path / "log", "outcomes")]
    assert sorted(ids) == [1000 * number + i for number in range(20) for i in range(1, 50)]


def test_without_a_log_there_is_no_such_endpoint(api: httpx.Client) -> None:
    assert ask(api, GOOD[0]).status_code == 404


class Nowhere:
    def add_outcomes(self, outcomes: list[Any]) -> None:
        """Drop them."""


VALUES = st.sampled_from(["NO", ">30", "<30", "?", "", None]) | st.integers(-1, 2**64) | st.floats() | st.booleans()
OUTCOME = st.dictionaries(st.sampled_from(["encounter_id", "readmitted", "time"]), VALUES, max_size=3)
LIKELY = st.fixed_dictionaries(
    {"encounter_id": st.integers(0, 2**63), "readmitted": st.sampled_from(["NO", ">30", "<30", "no"])}
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.just("outcomes") | st.just("more"), st.lists(LIKELY | OUTCOME | VALUES, max_size=3) | VALUES))
def test_what_is_recorded_is_what_the_documentation_says(body: dict[str, Any]) -> None:
    text = json.dumps(body)
    try:
        Outcomes.model_validate_json(text)
        documented = True
    except ValidationError:
        documented = False
    try:
        record_outcomes(Nowhere(), text.encode(), 10_000)  # type: ignore[arg-type]
        recorded = True
    except ProblemError:
        recorded = False
    assert recorded == documented
