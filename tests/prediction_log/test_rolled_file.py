"""No line of a file is lost or written twice, however the process ends."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthpredict.prediction_log import rolled_file
from healthpredict.prediction_log.rolled_file import (
    LogLimits,
    RolledFile,
    adopt_left_files,
    closed_files,
    files_beyond,
    rows_of,
)

WRITER = """
import os, sys, time
from pathlib import Path
from healthpredict.prediction_log.rolled_file import LogLimits, RolledFile
file = RolledFile(Path(sys.argv[1]), "predictions", LogLimits())
file.append(b"1\\n2\\n", 2)
os.write(file._file, sys.argv[2].encode())
print("written", flush=True)
time.sleep(60)
"""


def log_file(folder: Path, **limits: float) -> RolledFile:
    return RolledFile(folder, "predictions", LogLimits(**limits))


def closed_lines(folder: Path, kind: str = "predictions") -> list[bytes]:
    return [line for path in closed_files(folder, kind) for line in path.read_bytes().splitlines(keepends=True)]


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=30).map(lambda line: line.hex().encode() + b"\n"), min_size=1, max_size=5)))
def test_every_line_is_in_one_file_in_its_order_and_names_say_how_many(chunks: list[list[bytes]]) -> None:
    with TemporaryDirectory() as name:
        file = log_file(Path(name), roll_bytes=60)
        for lines in chunks:
            file.append(b"".join(lines), len(lines))
            file.close_if_due()
        file.close()
        assert sorted(Path(name).iterdir()) == closed_files(Path(name), "predictions")
        assert closed_lines(Path(name)) == [line for lines in chunks for line in lines]
        for path in closed_files(Path(name), "predictions"):
            assert rows_of(path) == path.read_bytes().count(b"\n")


def test_files_are_for_this_user_only(tmp_path: Path) -> None:
    file = log_file(tmp_path / "log")
    file.append(b"1\n", 1)
    (path,) = (tmp_path / "log").iterdir()
    assert (stat.S_IMODE(path.parent.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) == (0o700, 0o600)


def test_file_of_its_age_is_closed_whatever_the_clock_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is set back a year between two files. The age of a file follows from the monotonic clock."""
    seconds, now = 1000.0, datetime(2026, 11, 1, tzinfo=UTC)

    class Clock:
        @staticmethod
        def now(_: object) -> datetime:
            return now

    monkeypatch.setattr(rolled_file.time, "monotonic", lambda: seconds)
    monkeypatch.setattr(rolled_file, "datetime", Clock)
    file = log_file(tmp_path, roll_seconds=60)
    file.append(b"1\n", 1)
    now -= timedelta(days=365)
    assert not file.close_if_due()
    seconds += 60
    assert file.close_if_due()
    seconds += 60
    assert not file.close_if_due(), "there is none"
    file.append(b"2\n", 1)
    file.close()
    assert sorted(closed_lines(tmp_path)) == [b"1\n", b"2\n"]


def test_lines_that_do_not_fit_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = log_file(tmp_path)
    file.append(b"1\n", 1)
    write, left = os.write, 5

    def write_until_full(number: int, data: memoryview) -> int:
        nonlocal left
        if left == 0:
            full()
        fits, left = data[:left], max(0, left - len(data))
        return write(number, fits)

    with monkeypatch.context() as context:
        context.setattr(os, "write", write_until_full)
        with pytest.raises(OSError, match="No space"):
            file.append(b"22222\n33333\n", 2)
    file.append(b"4\n", 1)
    file.close()
    assert closed_lines(tmp_path) == [b"1\n", b"4\n"]


def test_half_a_line_that_cannot_be_removed_harms_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = log_file(tmp_path)
    file.append(b"1\n", 1)
    write = os.write
    with monkeypatch.context() as context:
        context.setattr(os, "write", lambda number, data: write(number, data[:3]) if len(data) > 3 else full())
        context.setattr(os, "ftruncate", full)
        with pytest.raises(OSError, match="No space"):
            file.append(b"22222\n", 1)
    file.append(b"3\n", 1)
    file.close()
    adopt_left_files(tmp_path)
    assert closed_lines(tmp_path) == [b"1\n", b"3\n"]


def test_file_without_lines_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = log_file(tmp_path)
    with monkeypatch.context() as context:
        context.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            file.append(b"1\n", 1)
    file.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_closed_although_its_lines_may_not_survive_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = log_file(tmp_path)
    file.append(b"1\n", 1)
    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            file.close()
    assert closed_lines(tmp_path) == [b"1\n"]


@pytest.mark.parametrize("half", ["", '{"half'])
def test_file_of_a_killed_process_is_adopted_without_half_a_line(tmp_path: Path, half: str) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), half], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        assert adopt_left_files(tmp_path) == [], "its process lives"
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    (path,) = adopt_left_files(tmp_path)
    assert (closed_lines(tmp_path), rows_of(path)) == ([b"1\n", b"2\n"], 2)
    assert adopt_left_files(tmp_path) == []


def test_lines_of_pseudonyms_are_not_counted_as_rows(tmp_path: Path) -> None:
    content = b'{"format":1,"patients":[5,6]}\n[1]\n[2]\n{"format":1,"patients":[7,8]}\n[3]\n[4'
    (tmp_path / "predictions-20261101T000000.000000-0011aabb.open").write_bytes(content)
    (path,) = adopt_left_files(tmp_path)
    assert (rows_of(path), path.read_bytes()) == (3, content.removesuffix(b"[4"))


@pytest.mark.parametrize(
    "content", [b"", b'{"half', b'{"format":1,"patients":[5]}\n', b'{"format":1,"patients":[5]}\n[1']
)
def test_file_that_was_left_without_a_whole_row_is_removed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "predictions-20261101T000000.000000-0011aabb.open").write_bytes(content)
    assert adopt_left_files(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["before the lock", "while locked"])
def test_a_new_file_is_not_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Otherwise its lines would be written to a deleted file."""
    flock: Callable[[int, int], None] = fcntl.flock
    looked = False

    def adopting(number: int, operation: int) -> None:
        nonlocal looked
        if operation == fcntl.LOCK_EX and not looked:
            looked = True
            if moment == "while locked":
                flock(number, operation)
            assert adopt_left_files(tmp_path) == []
        flock(number, operation)

    monkeypatch.setattr(fcntl, "flock", adopting)
    file = log_file(tmp_path)
    file.append(b"1\n", 1)
    file.close()
    assert looked
    assert closed_lines(tmp_path) == [b"1\n"]


def test_the_oldest_files_exceed_the_limit_of_the_folder(tmp_path: Path) -> None:
    file = log_file(tmp_path)
    for lines in (b"1\n" * 5, b"2\n" * 20, b"3\n" * 20, b"4\n" * 5):
        file.append(lines, len(lines) // 2)
        file.close()
    files = closed_files(tmp_path, "predictions")
    for at_most, kept in ((100, 4), (99, 3), (90, 3), (89, 2), (0, 0)):
        assert sorted(files_beyond(tmp_path, "predictions", at_most)) == files[: 4 - kept]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    outcomes = RolledFile(tmp_path, "outcomes", LogLimits())
    outcomes.append(b"1\n", 1)
    outcomes.close()
    for name in ("notes.jsonl", "predictions.jsonl", "predictions-old.jsonl", "predictions-1-00112233-3.broken"):
        (tmp_path / name).write_bytes(b"1\n")
    assert closed_files(tmp_path, "predictions") == []
    assert closed_lines(tmp_path, "outcomes") == [b"1\n"]
