"""Preparing a data set: real or synthetic, once, completely or not at all."""

import errno
import hashlib
import logging
import os
import stat
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from healthpredict.config import Settings
from healthpredict.data.raw import format_raw, read_encounters, read_outcomes
from healthpredict.data.synthetic import synthesize
from healthpredict.errors import BatchRefused, ConfigurationError, NotFound, SourceError, StorageError
from healthpredict.operations import fetch as fetching
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare, read_prepared
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.storage.layout import Layout
from healthpredict.storage.ledger import Ledger
from healthpredict.storage.uris import read_bytes

NOWHERE = "http://127.0.0.1:1/diabetes.zip"
REAL = os.environ.get("HEALTHPREDICT_TEST_DATA", "")


def files_of(settings: Settings) -> dict[str, tuple[bytes, int]]:
    """Relative path to content and time of the last change."""
    root = Path(settings.data_uri)
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def test_source_becomes_initial_data_and_batches_in_the_order_of_time(settings: Settings, source: str) -> None:
    prepared = prepare(Installation(settings), source)
    assert prepared.batches == ["initial", "batch-01", "batch-02"]
    assert (prepared.encounters, prepared.quarantined, prepared.synthetic) == (400, 0, False)
    assert prepared.cohort < prepared.encounters
    assert 0 < prepared.readmitted_share < 0.3
    layout = Layout(settings.data_uri)
    batches = [read_encounters(read_bytes(layout.batch(name)), name).frame for name in prepared.batches]
    assert [len(batch) for batch in batches] == [200, 100, 100]
    ids = [int(number) for batch in batches for number in batch["encounter_id"]]
    assert ids == sorted(ids)
    outcomes = read_outcomes(read_bytes(layout.outcomes("batch-01")), "batch-01").frame
    assert outcomes["encounter_id"].tolist() == batches[1]["encounter_id"].tolist()


def test_what_was_prepared_can_be_read_again(settings: Settings, source: str) -> None:
    with pytest.raises(ConfigurationError, match="Run `healthpredict prepare` first"):
        read_prepared(Installation(settings))
    assert prepare(Installation(settings), source) == read_prepared(Installation(settings))


def test_preparing_again_changes_nothing(settings: Settings, source: str) -> None:
    first = prepare(Installation(settings), source)
    before = files_of(settings)
    assert prepare(Installation(settings), source) == first
    assert prepare(Installation(settings)) == first, "without a source, what was prepared stays"
    assert files_of(settings) == before


def test_local_zip_is_taken_like_its_csv(settings: Settings, source: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "diabetes.zip", "w") as file:
        file.write(source, "diabetic_data.csv")
    first = prepare(Installation(settings), str(tmp_path / "diabetes.zip"))
    assert first.read_as == "csv, comma-separated, UTF-8, LF line endings, zip"
    assert prepare(Installation(settings), source) == first


def test_other_cut_replaces_the_first_one(settings: Settings, source: str) -> None:
    prepare(Installation(settings), source)
    prepared = prepare(Installation(settings.model_copy(update={"n_batches": 1})), source)
    assert prepared.batches == ["initial", "batch-01"]
    assert "batches/batch-02.csv" not in files_of(settings)


def test_other_data_never_mix_with_a_ledger(settings: Settings, source: str, tmp_path: Path) -> None:
    prepare(Installation(settings), source)
    Ledger(Layout(settings.data_uri).ledger).append("batch", name="batch-01")
    before = files_of(settings)
    other = tmp_path / "other.csv"
    other.write_bytes(format_raw(synthesize(400, seed=12)))
    with pytest.raises(ConfigurationError, match="Choose another data_uri"):
        prepare(Installation(settings), str(other))
    with pytest.raises(ConfigurationError, match="Choose another data_uri"):
        prepare(Installation(settings.model_copy(update={"n_batches": 3})), source)
    assert files_of(settings) == before


def test_unpublished_local_data_are_taken_with_a_warning(
    settings: Settings, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = prepare(Installation(settings), source)
    assert "is not the published data set" in caplog.text
    assert prepared.sha256 in caplog.text


def test_bad_rows_reach_the_quarantine(settings: Settings, tmp_path: Path) -> None:
    raw = synthesize(400, seed=11)
    raw.loc[0, "time_in_hospital"] = "-5"
    raw.loc[399, "age"] = "[5-7)"
    path = tmp_path / "source.csv"
    path.write_bytes(format_raw(raw))
    prepared = prepare(Installation(settings), str(path))
    assert (prepared.encounters, prepared.quarantined) == (400, 2)


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", BatchRefused), (b"a,b\n1,2\n", BatchRefused), (format_raw(synthesize(9, 1))[:-30], BatchRefused)],
)
def test_unusable_source_changes_nothing(
    settings: Settings, source: str, tmp_path: Path, data: bytes, error: Any
) -> None:
    prepare(Installation(settings), source)
    before = files_of(settings)
    bad = tmp_path / "bad.csv"
    bad.write_bytes(data)
    with pytest.raises(error, match=r"bad\.csv"):
        prepare(Installation(settings), str(bad))
    with pytest.raises(NotFound, match=r"nowhere\.csv"):
        prepare(Installation(settings), str(tmp_path / "nowhere.csv"))
    assert files_of(settings) == before


def test_unreachable_url_is_an_error(settings: Settings) -> None:
    """An explicit source is never replaced by made-up data."""
    with pytest.raises(SourceError, match="Check the connection, or give a local file"):
        prepare(Installation(settings), NOWHERE, allow_synthetic=True)


def test_without_source_and_network_encounters_are_made_up_and_said_to_be(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fetching, "ARCHIVE_URL", NOWHERE)
    monkeypatch.setattr(fetching, "PUBLISHED_ENCOUNTERS", 300)
    with pytest.raises(SourceError):
        prepare(Installation(settings))
    prepared = prepare(Installation(settings), allow_synthetic=True)
    assert prepared.synthetic
    assert prepared.source == "synthetic encounters (seed 0, drift planted in the second half)"
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "all encounters are synthetic" in warnings[0]


@pytest.fixture
def archive(tmp_path: Path, source: str) -> Iterator[str]:
    """A web server that has the data set as a zip."""
    folder = tmp_path / "www"
    folder.mkdir()
    with zipfile.ZipFile(folder / "diabetes.zip", "w") as file:
        file.write(source, "diabetic_data.csv")

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/diabetes.zip"
    server.shutdown()
    server.server_close()


def publish(source: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let a csv be the published data set; its digest."""
    data = Path(source).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(fetching, "PUBLISHED_SHA256", sha256)
    monkeypatch.setattr(fetching, "PUBLISHED_BYTES", len(data))
    monkeypatch.setattr(fetching, "PUBLISHED_CRC32", zlib.crc32(data))
    return sha256


def test_published_data_set_is_downloaded_once(
    settings: Settings, archive: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = publish(source, monkeypatch)
    assert prepare(Installation(settings), archive).sha256 == sha256
    again = prepare(Installation(settings.model_copy(update={"n_batches": 1})), NOWHERE)
    assert again.batches == ["initial", "batch-01"]


def test_an_archive_with_other_content_is_not_replaced_by_made_up_data(
    settings: Settings, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "ARCHIVE_URL", archive)
    with pytest.raises(SourceError, match="is not the published data set"):
        prepare(Installation(settings), allow_synthetic=True)


def test_something_else_at_the_url_is_not_taken(settings: Settings, archive: str) -> None:
    with pytest.raises(SourceError, match="is not the published data set"):
        prepare(Installation(settings), archive)
    assert files_of(settings) == {}


@pytest.mark.parametrize("wrong", ["PUBLISHED_BYTES", "PUBLISHED_CRC32"])
def test_a_zip_is_not_unpacked_before_its_directory_names_the_published_csv(
    settings: Settings, archive: str, source: str, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    publish(source, monkeypatch)
    monkeypatch.setattr(fetching, wrong, 1)
    monkeypatch.setattr(fetching, "unpack", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(SourceError, match=r"its diabetic_data\.csv is [\d,]+ bytes with CRC-32 [0-9a-f]{8} instead of"):
        prepare(Installation(settings), archive)
    assert files_of(settings) == {}


def test_a_zip_whose_content_is_not_what_its_directory_says_is_not_taken(
    settings: Settings, archive: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(source, monkeypatch)
    monkeypatch.setattr(fetching, "PUBLISHED_SHA256", "0" * 64)
    with pytest.raises(SourceError, match="its sha256 is"):
        prepare(Installation(settings), archive)


def test_a_csv_at_a_url_is_taken_by_its_digest(
    settings: Settings, archive: str, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "www" / "data.csv").write_bytes(Path(source).read_bytes())
    url = archive.replace("diabetes.zip", "data.csv")
    with pytest.raises(SourceError, match="its sha256 is"):
        prepare(Installation(settings), url)
    sha256 = publish(source, monkeypatch)
    assert prepare(Installation(settings), url).sha256 == sha256


@pytest.fixture
def fill_disk_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the n-th write find the disk full, and every write after it."""
    flush = os.fsync

    def fill(n: int) -> None:
        left = [n]

        def fsync(file: int) -> None:
            if stat.S_ISDIR(os.fstat(file).st_mode):
                return
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flush(file)

        monkeypatch.setattr("os.fsync", fsync)

    return fill


def test_disk_full_at_any_write_is_made_good_by_preparing_again(
    settings: Settings, source: str, fill_disk_at: Callable[[int], None]
) -> None:
    """Until the last write nothing counts as prepared, and no temporary file stays."""
    fill_disk_at(1_000)
    wanted = prepare(Installation(settings.model_copy(update={"data_uri": f"{settings.data_uri}-wanted"})), source)
    writes = 20
    for number in range(writes):
        fill_disk_at(number)
        with pytest.raises(StorageError, match="No space left on device"):
            prepare(Installation(settings), source)
        with pytest.raises(ConfigurationError):
            read_prepared(Installation(settings))
        assert not [name for name in files_of(settings) if Path(name).name.startswith(".")]
    fill_disk_at(writes)
    assert prepare(Installation(settings), source) == wanted


def test_labelled_encounters_are_those_with_a_known_outcome(settings: Settings, source: str) -> None:
    prepared = prepare(Installation(settings), source)
    labelled = read_labelled(Installation(settings), ["initial"]).frame
    assert labelled["readmitted_within_30_days"].dtype == bool
    assert labelled["encounter_id"].is_monotonic_increasing
    with pytest.raises(NotFound):
        read_labelled(Installation(settings), prepared.batches)


@pytest.mark.skipif(not REAL, reason="HEALTHPREDICT_TEST_DATA does not name a local diabetic_data.csv")
def test_published_data_set_has_its_published_figures(settings: Settings) -> None:
    """101,766 encounters of 71,518 patients keep the contract; 11.39 % of the cohort come back within 30 days."""
    prepared = prepare(Installation(settings), REAL)
    assert prepared.sha256 == fetching.PUBLISHED_SHA256
    data = Path(REAL).read_bytes()
    assert (len(data), zlib.crc32(data)) == (fetching.PUBLISHED_BYTES, fetching.PUBLISHED_CRC32)
    assert (prepared.encounters, prepared.patients, prepared.cohort) == (101_766, 71_518, 99_343)
    assert prepared.quarantined == 0
    assert round(prepared.readmitted_share, 4) == 0.1139
