"""A local file is replaced whole, and one with secrets is readable by its owner only."""

from __future__ import annotations

import stat
from io import BytesIO
from pathlib import Path

import pytest

from healthpredict.storage.atomic import write_atomically


class Failing(BytesIO):
    def read(self, *_: object) -> bytes:
        raise OSError("no more")


def test_a_private_file_replaces_one_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_atomically(path, BytesIO(b"new"), mode=0o600)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="no more"):
        write_atomically(path, Failing())
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"kubeconfig": b"old"}


def test_missing_folders_are_closed_to_others(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", BytesIO(b"x"))
    assert [stat.S_IMODE((tmp_path / folder).stat().st_mode) for folder in ("a", "a/b")] == [0o700, 0o700]
