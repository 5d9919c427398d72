"""The key for pseudonyms is made once, as a whole, and is never shown."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.errors import ConfigurationError
from healthpredict.prediction_log.patient_key import make_patient_key, read_patient_key


def test_key_is_made_once_for_this_user_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "patient-key"
    make_patient_key(path)
    key = read_patient_key(path)
    make_patient_key(path)
    assert read_patient_key(path) == key
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["patient-key"]


def test_command_makes_a_key_and_leaves_the_one_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTHPREDICT_DATA_URI", str(tmp_path / "data"))
    monkeypatch.setenv("HEALTHPREDICT_STATE_PATH", str(tmp_path / "state"))
    path = tmp_path / "patient-key"
    said = [CliRunner().invoke(app, ["keys", "patient", "--file", str(path)]).output for _ in range(2)]
    assert said == [f"The key is in {path}\n"] * 2
    assert read_patient_key(path).hex() not in said[0]


def test_keys_differ(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_patient_key(tmp_path / name)
    assert read_patient_key(tmp_path / "one") != read_patient_key(tmp_path / "two")


def test_concurrent_makers_all_find_the_same_whole_key(tmp_path: Path) -> None:
    def make_and_read(number: int) -> bytes:
        path = tmp_path / str(number // 4)
        make_patient_key(path)
        return read_patient_key(path)

    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(make_and_read, range(80)))
    assert len(set(keys)) == 20


def test_full_disk_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(ConfigurationError, match=r"cannot be made \(No space left on device\)"):
            make_patient_key(tmp_path / "patient-key")
    assert list(tmp_path.iterdir()) == []


def test_existing_key_needs_no_permission_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform may mount the key read-only."""
    path = tmp_path / "patient-key"
    make_patient_key(path)
    monkeypatch.setattr("tempfile.NamedTemporaryFile", None)
    make_patient_key(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"cannot be read \(No such file or directory\)\. `healthpredict keys patient` makes one"),
        (b"", "does not have 32 bytes. Restore it"),
        (b"ab" * 31, "does not have 32 bytes. Restore it"),
        (b"secret!", "holds no patient key. Restore it"),
        (b"\xff\xfe", "holds no patient key. Restore it"),
    ],
)
def test_a_file_without_a_key_is_named_and_not_shown(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "patient-key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_patient_key(path)
    assert str(path) in str(caught.value)
    assert "secret" not in str(caught.value)
