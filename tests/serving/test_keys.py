"""API keys and the file of their hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from healthpredict.api_keys import sha256_of
from healthpredict.errors import ConfigurationError, StorageError
from healthpredict.serving.keys import KeyRing
from healthpredict.storage.key_file import add_key, admit_key, list_keys, revoke_key


def test_the_file_holds_a_hash_and_not_the_key(keys_path: Path, key: str) -> None:
    text = keys_path.read_text()
    assert key not in text
    assert key.removeprefix("hp_") not in text
    assert list_keys(keys_path)[0].sha256 == hashlib.sha256(key.encode()).hexdigest()
    assert stat.S_IMODE(keys_path.stat().st_mode) == 0o600


def test_a_key_is_long_and_never_the_same(keys_path: Path, key: str) -> None:
    other = add_key(keys_path, "other")
    assert other != key
    assert len(key) == len("hp_") + 43  # 256 bits in base64


def test_several_keys_are_in_force_until_revoked(keys_path: Path, key: str) -> None:
    other = add_key(keys_path, "other")
    ring = KeyRing(keys_path)
    assert ring.accepts(f"Bearer {key}") and ring.accepts(f"Bearer {other}")
    revoke_key(keys_path, "ward")
    ring = KeyRing(keys_path)
    assert not ring.accepts(f"Bearer {key}") and ring.accepts(f"Bearer {other}")


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "../up"])
def test_a_name_that_cannot_be_used_is_refused(keys_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot name a key"):
        add_key(keys_path, name)
    assert not keys_path.exists()


def test_a_name_is_used_once_and_an_unknown_one_is_an_error(keys_path: Path, key: str) -> None:
    with pytest.raises(ConfigurationError, match="There is a key 'ward'"):
        add_key(keys_path, "ward")
    with pytest.raises(ConfigurationError, match="There are: ward"):
        revoke_key(keys_path, "yard")


def test_a_service_does_not_start_without_a_key(keys_path: Path, key: str) -> None:
    with pytest.raises(ConfigurationError, match="keys add NAME"):
        KeyRing(keys_path.with_name("absent.json"))
    revoke_key(keys_path, "ward")
    with pytest.raises(ConfigurationError, match="holds no API key"):
        KeyRing(keys_path)


def test_a_file_of_something_else_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "passwords.json"
    path.write_text('{"keys": [{"name": "x", "sha256": "hunter2", "created_at": "2026-01-01T00:00:00Z"}]}')
    with pytest.raises(ConfigurationError) as error:
        list_keys(path)
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None


def test_the_last_key_revoked_closes_the_service(keys_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthpredict.serving.keys._CHECK_SECONDS", 0.0)
    ring = KeyRing(keys_path)
    assert ring.accepts(f"Bearer {key}")
    revoke_key(keys_path, "ward")
    assert not ring.accepts(f"Bearer {key}")
    assert not ring.accepts(None)


def test_a_key_made_elsewhere_is_admitted_once_and_replaced_by_its_name(tmp_path: Path) -> None:
    path, given = tmp_path / "keys.json", tmp_path / "given"
    given.write_text("a" * 32 + "\n")
    admit_key(path, "rollout", given)
    before = path.read_bytes()
    admit_key(path, "rollout", given)
    assert path.read_bytes() == before
    add_key(path, "ward")
    given.write_text("b" * 32)
    admit_key(path, "rollout", given)
    assert [key.name for key in list_keys(path)] == ["ward", "rollout"]
    ring = KeyRing(path)
    assert ring.accepts("Bearer " + "b" * 32)
    assert not ring.accepts("Bearer " + "a" * 32)


def test_a_key_that_could_be_guessed_is_not_admitted(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text("secret")
    with pytest.raises(ConfigurationError, match="fewer than 32"):
        admit_key(tmp_path / "keys.json", "rollout", given)
    assert not (tmp_path / "keys.json").exists()


def test_keys_that_cannot_be_written_leave_the_file_as_it_was(
    keys_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = keys_path.read_bytes()
    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"keys\.json cannot be written \(No space left on device\)"):
            add_key(keys_path, "other")
    assert keys_path.read_bytes() == before
    assert not [path for path in keys_path.parent.iterdir() if path.name.startswith(f".{keys_path.name}.")]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a" * 32)
    with pytest.raises(StorageError, match=r"file/keys\.json"):
        add_key(tmp_path / "file" / "keys.json", "ward")
    with pytest.raises(StorageError, match=r"file/keys\.json"):
        admit_key(tmp_path / "file" / "keys.json", "ward", tmp_path / "file")


def test_a_file_of_the_same_size_and_time_is_read_again(
    keys_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cp --preserve` leaves such a file."""
    monkeypatch.setattr("healthpredict.serving.keys._CHECK_SECONDS", 0.0)
    ring = KeyRing(keys_path)
    before = keys_path.stat()
    other = "b" * 32
    keys_path.write_text(keys_path.read_text().replace(list_keys(keys_path)[0].sha256, sha256_of(other).hex()))
    os.utime(keys_path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = keys_path.stat()
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (before.st_mtime_ns, before.st_size, before.st_ino)
    assert ring.accepts(f"Bearer {other}")
    assert not ring.accepts(f"Bearer {key}")
