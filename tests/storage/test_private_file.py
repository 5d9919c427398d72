"""Files with secrets are readable by their owner only."""

from __future__ import annotations

import stat
from pathlib import Path

from healthpredict.storage.private_file import write_private


def test_the_file_is_replaced_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_partial_file_of_a_killed_writer_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".kubeconfig.partial").write_bytes(b"half")
    write_private(tmp_path / "kubeconfig", b"whole")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"kubeconfig": b"whole"}
