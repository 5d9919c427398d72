"""Shipping: every line reaches the store exactly once, whatever fails on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from logged import entry_of, lines_of, outcome, prediction, write_log
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.config import Settings
from healthpredict.data.contract import COLUMNS, Kind
from healthpredict.errors import AlreadyRunning, StorageError
from healthpredict.operations import ship_log as shipping
from healthpredict.operations.installation import Installation
from healthpredict.operations.ship_log import Shipped, ship_log, usable_rows
from healthpredict.prediction_log import writer
from healthpredict.prediction_log.rolled_file import LogLimits, closed_files
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.storage.layout import Layout
from healthpredict.storage.lock import exclusive
from healthpredict.storage.uris import list_uris, read_bytes

KILLED_AT = """
import os, signal, sys
from pathlib import Path
from healthpredict.operations.installation import Installation
from healthpredict.operations import ship_log as shipping

def die(*arguments, **_):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(shipping, sys.argv[2], die)
shipping.ship_log(Installation(), Path(sys.argv[1]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def shipped(settings: Settings, what: str = "predictions") -> pa.Table:
    uris = list_uris(f"{settings.data_uri}/{what}/log")
    return pa.concat_tables([pq.read_table(BytesIO(read_bytes(uri))) for uri in uris])


def shipped_ids(settings: Settings) -> list[int]:
    return sorted(shipped(settings)["encounter_id"].to_pylist())


def test_what_was_predicted_is_in_the_store_with_its_types(settings: Settings, folder: Path) -> None:
    """The log that the API writes, with everything that may be missing missing."""
    nothing = {column.field: None for column in COLUMNS if column.nullable}
    lines = [prediction(1, 7, readmission_risk=0.125), prediction(None, None, dry_run=True, **nothing)]
    with closing(PredictionLog(folder, bytes(32))) as log:
        for line in lines:
            log.add(entry_of(line))
    written = lines_of(folder)
    assert ship_log(Installation(settings), folder) == Shipped(files=1, predictions=2, outcomes=0, broken=0)
    table = shipped(settings)
    texts = {c.field for c in COLUMNS if c.kind in (Kind.CATEGORY, Kind.CODE)} | {
        "request_id",
        "endpoint",
        "bundle_digest",
    }
    numbers = {c.field for c in COLUMNS if c.kind in (Kind.ID, Kind.COUNT)} | {"model_version"}
    assert {field.name: field.type for field in table.schema} == {
        "time": pa.timestamp("us", tz="UTC"),
        "dry_run": pa.bool_(),
        "high_risk": pa.bool_(),
        "hold_out_probability": pa.float64(),
        "readmission_risk": pa.float64(),
        **dict.fromkeys(texts, pa.string()),
        **dict.fromkeys(numbers, pa.int64()),
    }
    times = table["time"].cast(pa.int64()).to_pylist()
    rows = table.drop_columns("time").to_pylist()
    assert [{"time": when, **row} for when, row in zip(times, rows, strict=True)] == written
    assert closed_files(folder, "predictions") == []


def test_outcomes_are_in_the_store_with_their_types(settings: Settings, folder: Path) -> None:
    write_log(folder, [outcome(1), outcome(2**63 - 1, "<30", time=5)])
    assert ship_log(Installation(settings), folder) == Shipped(files=1, predictions=0, outcomes=2, broken=0)
    frame = shipped(settings, "outcomes").to_pandas()
    assert frame["encounter_id"].tolist() == [1, 2**63 - 1]
    assert frame["readmitted"].tolist() == ["NO", "<30"]
    assert frame["time"].iloc[1] == pd.Timestamp(5, unit="us", tz="UTC")


def test_shipping_to_s3_is_the_same(settings: Settings, folder: Path, s3_bucket: str) -> None:
    there = settings.model_copy(update={"data_uri": f"{s3_bucket}/hospital"})
    write_log(folder, [prediction(1)], [prediction(2)], [outcome(1)])
    assert ship_log(Installation(there), folder) == Shipped(files=3, predictions=2, outcomes=1, broken=0)
    assert shipped_ids(there) == [1, 2]
    assert len(list_uris(f"{s3_bucket}/hospital/outcomes/log")) == 1


def test_shipping_again_finds_nothing(settings: Settings, folder: Path) -> None:
    write_log(folder, [prediction(1)])
    ship_log(Installation(settings), folder)
    assert ship_log(Installation(settings), folder) == Shipped(files=0, predictions=0, outcomes=0, broken=0)
    assert shipped_ids(settings) == [1]


def test_name_of_an_object_says_how_many_rows_something_can_be_learned_from(settings: Settings, folder: Path) -> None:
    write_log(
        folder, [prediction(1), prediction(2, dry_run=True), prediction(None), prediction(4, None), prediction(5)]
    )
    ship_log(Installation(settings), folder)
    (uri,) = list_uris(Layout(settings.data_uri).logged_predictions)
    assert usable_rows(uri) == 2


@pytest.mark.parametrize("point", ["write_bytes", "delete"])
def test_shipper_that_is_killed_neither_loses_nor_doubles_a_row(settings: Settings, folder: Path, point: str) -> None:
    """Before the object is written, and between that and the removal of the file."""
    write_log(folder, [prediction(1), prediction(2)], [prediction(3)], [outcome(1)])
    environment = {**os.environ, "HEALTHPREDICT_DATA_URI": settings.data_uri}
    killed = subprocess.run([sys.executable, "-c", KILLED_AT, folder, point], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list_uris(Layout(settings.data_uri).logged_predictions)) == (point == "delete")
    ship_log(Installation(settings), folder)
    assert shipped_ids(settings) == [1, 2, 3]
    assert shipped(settings, "outcomes").num_rows == 1


def test_what_a_killed_service_left_is_shipped_too(settings: Settings, folder: Path) -> None:
    (path,) = write_log(folder, [prediction(1), prediction(2)])
    path.rename(path.with_name("predictions-20261101T000000.000000-0011aabb.open"))
    with (folder / "predictions-20261101T000000.000000-0011aabb.open").open("ab") as file:
        file.write(b"[18000")
    assert ship_log(Installation(settings), folder).predictions == 2
    assert shipped_ids(settings) == [1, 2]


def test_store_that_fails_for_a_while_under_load_loses_nothing(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions go on being noted, a tenth of a millisecond each, while one shipment after another fails."""
    attempts: Counter[bool] = Counter()
    write = shipping.write_bytes
    down = True

    def write_unless_down(uri: str, data: bytes) -> None:
        attempts[down] += 1
        if down and attempts[down] % 2:
            time.sleep(0.05)
            raise StorageError("The store is down.")
        write(uri, data)
        if down:
            raise StorageError("The store wrote it, and its answer was lost.")

    def ship_until(done: threading.Event) -> None:
        while not done.is_set():
            try:
                ship_log(Installation(settings), folder)
            except StorageError:
                continue

    monkeypatch.setattr(shipping, "write_bytes", write_unless_down)
    monkeypatch.setattr(writer, "_WRITE_EVERY_SECONDS", 0.01)
    done = threading.Event()
    shipper = threading.Thread(target=ship_until, args=(done,))
    with closing(PredictionLog(folder, bytes(32), LogLimits(roll_bytes=20_000))) as log:
        shipper.start()
        noted = 0
        while noted < 3000 or attempts[True] < 6:
            line = prediction(noted + 1)
            log.add(entry_of(line))
            noted += 1
            time.sleep(0.0001)
        down = False
    while closed_files(folder, "predictions"):
        time.sleep(0.01)
    done.set()
    shipper.join()
    assert log.dropped == 0
    assert shipped_ids(settings) == list(range(1, noted + 1))
    assert min(attempts.values()) > 3


def test_second_shipper_is_told_who_ships(settings: Settings, folder: Path) -> None:
    write_log(folder, [prediction(1)])
    with (
        exclusive(folder / "ship-log.lock", "Shipping"),
        pytest.raises(AlreadyRunning, match=rf"Shipping .*log is already running \(.+, process {os.getpid()}\)"),
    ):
        ship_log(Installation(settings), folder)
    assert len(closed_files(folder, "predictions")) == 1


def test_several_shippers_at_once_ship_every_row_once(settings: Settings, folder: Path) -> None:
    for number in range(30):
        write_log(folder, [prediction(number + 1)])
    counts: list[int] = []

    def ship() -> None:
        while closed_files(folder, "predictions"):
            try:
                counts.append(ship_log(Installation(settings), folder).predictions)
            except AlreadyRunning:
                continue

    shippers = [threading.Thread(target=ship) for _ in range(3)]
    for shipper in shippers:
        shipper.start()
    for shipper in shippers:
        shipper.join()
    assert sum(counts) == 30
    assert shipped_ids(settings) == list(range(1, 31))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b'["SECRET"]\n',
        b'{"SECRET": 1}\n',
        b'"SECRET\n',
        b"\xff\n",
    ],
)
def test_file_that_is_no_log_is_kept_aside_and_named_without_its_content(
    settings: Settings, folder: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    broken, _ = write_log(folder, [prediction(1)], [prediction(2)])
    broken.write_bytes(content)
    assert ship_log(Installation(settings), folder) == Shipped(files=1, predictions=1, outcomes=0, broken=1)
    assert broken.with_suffix(".broken").read_bytes() == content
    assert broken.name in caplog.text
    assert "SECRET" not in caplog.text
    assert ship_log(Installation(settings), folder).broken == 0


def test_file_that_the_service_gave_up_meanwhile_is_passed_over(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = write_log(folder, [prediction(1)], [prediction(2)])
    read = shipping.read_bytes

    def read_after_it_was_given_up(uri: str) -> bytes:
        first.unlink(missing_ok=True)
        return read(uri)

    monkeypatch.setattr(shipping, "read_bytes", read_after_it_was_given_up)
    assert ship_log(Installation(settings), folder).predictions == 1


def test_folder_of_another_user_is_an_error_with_advice(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shipping, "adopt_left_files", refuse)
    with pytest.raises(StorageError, match=r"log cannot be moved \(Permission denied\)\. Give this user access"):
        ship_log(Installation(settings), folder)


def test_command_ships_the_local_log_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTHPREDICT_DATA_URI", settings.data_uri)
    monkeypatch.setenv("HEALTHPREDICT_STATE_PATH", str(settings.state_path))
    write_log(settings.prediction_log_path, [prediction(1)])
    result = CliRunner().invoke(app, ["ship-log", "--json"])
    assert json.loads(result.stdout) == {"files": 1, "predictions": 1, "outcomes": 0, "broken": 0, "feedback": 0}
    assert shipped_ids(settings) == [1]


@pytest.fixture
def shipper(settings: Settings, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`healthpredict ship-log --every 1`."""
    command = ["-c", "from healthpredict.cli.main import main; main()", "ship-log", f"--folder={folder}", "--every=1"]
    environment = {
        **os.environ,
        "HEALTHPREDICT_DATA_URI": settings.data_uri,
        "HEALTHPREDICT_STATE_PATH": str(settings.state_path),
    }
    process = subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def test_shipping_goes_on_until_it_is_told_to_end_also_after_the_store_failed(
    settings: Settings, folder: Path, shipper: subprocess.Popen[str]
) -> None:
    target = Path(Layout(settings.data_uri).logged_predictions)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"")  # a file where a folder must be: nothing can be written below it
    write_log(folder, [prediction(1)])
    assert shipper.stderr is not None
    assert "Trying again in 2 s." in shipper.stderr.readline()
    target.unlink()
    assert shipper.stderr.readline() == "files 1, predictions 1, outcomes 0, broken 0, feedback 0\n"
    write_log(folder, [prediction(2)])
    assert shipper.stderr.readline() == "files 1, predictions 1, outcomes 0, broken 0, feedback 0\n"
    shipper.terminate()
    _, said = shipper.communicate(timeout=20)
    assert (shipper.returncode, said) == (0, "")
    assert shipped_ids(settings) == [1, 2]
