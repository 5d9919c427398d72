"""Local folders and S3 behave in the same way."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from healthpredict.errors import AlreadyExists, ConfigurationError, NotFound, StorageError
from healthpredict.storage.uris import (
    delete,
    exists,
    is_plain,
    join,
    list_uris,
    read_bytes,
    replace_bytes,
    write_bytes,
    write_file,
)


def test_join_puts_one_slash_between_parts() -> None:
    assert join("s3://bucket/prefix/", "/raw/", "a.csv") == "s3://bucket/prefix/raw/a.csv"
    assert join("var/data", "raw") == "var/data/raw"


def test_an_object_is_read_as_written(root: str) -> None:
    uri = join(root, "batches", "initial.csv")
    write_bytes(uri, b"one")
    write_bytes(uri, b"two")
    assert read_bytes(uri) == b"two"
    assert exists(uri)


def test_created_folders_are_closed_to_other_users(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        write_bytes(str(tmp_path / "data" / "batches" / "initial.csv"), b"")
    finally:
        os.umask(umask)
    folders = [tmp_path / "data", tmp_path / "data" / "batches"]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700, 0o700]


def test_a_missing_object_is_reported(root: str) -> None:
    uri = join(root, "nothing")
    assert not exists(uri)
    with pytest.raises(NotFound, match="nothing"):
        read_bytes(uri)


def test_a_folder_is_not_an_object(root: str) -> None:
    write_bytes(join(root, "raw", "a.csv"), b"")
    assert not exists(join(root, "raw"))


def test_a_list_is_sorted_and_one_level_deep(root: str) -> None:
    for name in ("b.csv", "a.csv", "c.json", "deeper/d.csv"):
        write_bytes(join(root, name), b"")
    assert list_uris(root, suffix=".csv") == [join(root, "a.csv"), join(root, "b.csv")]
    assert list_uris(join(root, "nowhere")) == []


def test_delete_removes_the_object_and_can_be_repeated(root: str) -> None:
    uri = join(root, "a.csv")
    write_bytes(uri, b"")
    delete(uri)
    delete(uri)
    assert not exists(uri)


def test_an_exclusive_write_never_overwrites(root: str) -> None:
    uri = join(root, "000001.json")
    write_bytes(uri, b"first", exclusive=True)
    with pytest.raises(AlreadyExists, match=r"000001\.json"):
        write_bytes(uri, b"second", exclusive=True)
    assert read_bytes(uri) == b"first"


def test_of_many_exclusive_writers_one_succeeds(root: str) -> None:
    uri = join(root, "000001.json")

    def attempt(number: int) -> bool:
        try:
            write_bytes(uri, str(number).encode(), exclusive=True)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, range(8)))
    assert sum(won) == 1
    assert read_bytes(uri) == str(won.index(True)).encode()


def test_a_local_file_is_copied_to_a_uri(root: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    write_file(join(root, "raw", "copy"), source)
    assert read_bytes(join(root, "raw", "copy")) == b"content"


def test_a_missing_local_file_is_named(root: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no-source"):
        write_file(join(root, "copy"), tmp_path / "no-source")


def test_the_message_for_a_missing_bucket_says_what_to_do(s3_bucket: str) -> None:
    with pytest.raises(StorageError, match=r"NoSuchBucket\. Create the bucket"):
        write_bytes("s3://elsewhere/a.csv", b"")


@pytest.mark.parametrize("uri", ["https://example.org/a.csv", "s3:///a.csv"])
def test_an_unsupported_uri_is_a_configuration_error(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="s3://bucket"):
        write_bytes(uri, b"")


def test_the_message_for_an_unreachable_store_says_what_to_check(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from healthpredict.storage import s3

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with monkeypatch.context() as context:
        s3.client.cache_clear()
        context.setattr(s3, "client", s3.client.__wrapped__)
        with pytest.raises(StorageError, match="AWS_ENDPOINT_URL"):
            read_bytes(join(s3_bucket, "a.csv"))


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_leaves_only_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """No partial and no temporary file stays, whether writing or flushing fails."""
    uri = str(tmp_path / "a.csv")
    write_bytes(uri, b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*{"write": ("shutil.copyfileobj", full), "fsync": ("os.fsync", full)}[call])
    with pytest.raises(StorageError, match=r"a\.csv: No space left on device\. Free some space"):
        write_bytes(uri, b"new")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert read_bytes(uri) == b"old"


def test_a_file_in_place_of_a_folder_is_a_storage_error(tmp_path: Path) -> None:
    """It is not `AlreadyExists`, after which a writer of the ledger would try the next number forever."""
    (tmp_path / "ledger").write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        write_bytes(str(tmp_path / "ledger" / "000001.json"), b"", exclusive=True)
    assert not isinstance(caught.value, AlreadyExists)


def test_a_killed_write_is_not_listed(tmp_path: Path) -> None:
    """It leaves a hidden temporary file."""
    (tmp_path / ".a.csv.1234").write_bytes(b"half")
    assert list_uris(str(tmp_path)) == []


def test_an_exclusive_write_of_the_stored_content_succeeds(root: str) -> None:
    """The response to an earlier write may have been lost."""
    uri = join(root, "ledger", "000001.json")
    write_bytes(uri, b"first", exclusive=True)
    write_bytes(uri, b"first", exclusive=True)
    assert read_bytes(uri) == b"first"


def test_an_object_is_replaced_only_if_it_has_the_expected_content(root: str) -> None:
    uri = join(root, "lease.json")
    with pytest.raises(AlreadyExists, match=r"lease\.json"):  # it is gone
        replace_bytes(uri, b"new", b"old")
    write_bytes(uri, b"old")
    replace_bytes(uri, b"new", b"old")
    with pytest.raises(AlreadyExists, match=r"lease\.json"):
        replace_bytes(uri, b"newer", b"old")
    assert read_bytes(uri) == b"new"
    replace_bytes(uri, b"new", b"old")  # its own write, whose response was lost
    assert list_uris(root, suffix=".json") == [uri]


def test_of_many_replacements_of_the_same_content_one_succeeds(root: str) -> None:
    uri = join(root, "lease.json")
    write_bytes(uri, b"old")

    def replace(number: int) -> int | None:
        try:
            replace_bytes(uri, str(number).encode(), b"old")
        except AlreadyExists:
            return None
        return number

    with ThreadPoolExecutor(6) as pool:
        succeeded = [number for number in pool.map(replace, range(12)) if number is not None]
    assert [read_bytes(uri)] == [str(number).encode() for number in succeeded]


def test_a_name_that_is_too_long_is_a_storage_error(tmp_path: Path) -> None:
    uri = str(tmp_path / ("a" * 300))
    for look in (exists, is_plain, read_bytes):
        with pytest.raises(StorageError, match="too long"):
            look(uri)
