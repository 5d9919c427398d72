"""API keys and the file that keeps their hashes."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from healthpredict.errors import ConfigurationError
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


def test_a_name_is_used_once_and_an_unknown_one_is_told(keys_path: Path, key: str) -> None:
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
    monkeypatch.setattr("healthpredict.serving.keys._LOOK_EVERY_SECONDS", 0.0)
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
