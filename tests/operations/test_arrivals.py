"""What is delivered: read once it is whole, in natural order; what is not read, and what changed later, is reported."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from healthpredict.config import Settings
from healthpredict.errors import NotFound, StillArriving
from healthpredict.operations.arrivals import delivered_batches, find_batch, fingerprint
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import find_pending
from healthpredict.operations.prepare import prepare
from healthpredict.storage.layout import Layout


@pytest.fixture
def batches(settings: Settings, source: str) -> Path:
    """The folder of batches after `prepare`: batch-01 and batch-02 wait."""
    prepare(Installation(settings), source)
    return Path(Layout(settings.data_uri).batches_folder)


def deliver(path: Path, content: str = "x", *, age: float = 3600, marker: float | None = None) -> None:
    """Write a file that was changed some seconds ago, and its marker."""
    path.write_text(content)
    then = time.time() - age
    os.utime(path, (then, then))
    if marker is not None:
        done = path.with_name(f"{path.name}.done")
        done.touch()
        os.utime(done, (time.time() - marker, time.time() - marker))


def done(settings: Settings, name: str, decision: str = "stable") -> None:
    """Let a batch be done as it is."""
    facts = fingerprint(find_batch(Installation(settings), name)).model_dump()
    Installation(settings).ledger.append("batch", batch=name, decision=decision, reasons=[], **facts)


def test_what_prepare_wrote_is_ready_at_once(settings: Settings, batches: Path) -> None:
    pending = find_pending(Installation(settings))
    assert (pending.ready, pending.sentences) == (["batch-01", "batch-02"], [])


@pytest.mark.parametrize(
    ("age", "marker", "ready"),
    [
        pytest.param(59, None, False, id="just changed"),
        pytest.param(61, None, True, id="not changed for a minute"),
        pytest.param(1, 0, True, id="with its marker"),
        pytest.param(1, 1, True, id="with a marker of the same second"),
        pytest.param(1, 30, False, id="with the marker of an earlier delivery"),
        pytest.param(-3600, None, False, id="from the future"),
    ],
)
def test_a_file_that_may_still_be_copied_is_pending(
    settings: Settings, batches: Path, age: float, marker: float | None, ready: bool
) -> None:
    deliver(batches / "batch-03.csv", age=age, marker=marker)
    pending = find_pending(Installation(settings))
    assert ("batch-03" in pending.ready, "batch-03" in pending.waiting) == (ready, not ready)
    assert pending.names == ["batch-01", "batch-02", "batch-03"]
    if not ready:
        assert "batch-03 is pending" in pending.sentences[0]
        with pytest.raises(StillArriving, match=r"batches/batch-03\.csv was not read yet"):
            find_batch(Installation(settings), "batch-03")


def test_the_time_to_wait_is_a_setting(settings: Settings, batches: Path) -> None:
    deliver(batches / "batch-03.csv", age=5)
    assert "batch-03" in find_pending(Installation(settings.model_copy(update={"arrival_seconds": 4}))).ready


def test_endings_in_any_letter_case_are_read_and_all_else_is_reported(settings: Settings, batches: Path) -> None:
    for name in ("a.CSV", "b.csv.gz", "c.Parquet", "d.e_F.csv", "d.txt", "readme", "live-000001.json", "other.json"):
        deliver(batches / name)
    (batches / "folder.csv").mkdir()
    deliver(batches / "a.csv.gz")
    deliver(batches / "manifest.csv")
    deliver(batches / ".hidden.csv")
    (batches / "gone.csv.done").touch()
    pending = find_pending(Installation(settings))
    assert pending.ready == ["a", "b", "batch-01", "batch-02", "c", "d.e_F"]
    said = "\n".join(pending.ignored)
    for named in (
        "d.txt",
        "readme",
        "other.json",
        "folder.csv/",
        "manifest.csv",
        "gone.csv.done",
        "a.csv.gz is not read, because",
    ):
        assert named in said
    assert len(pending.ignored) == 7


def test_numbers_in_names_are_in_natural_order(settings: Settings, batches: Path) -> None:
    names = ["batch-9", "Batch-10", "batch-10", "batch-100", "Ward 2", "ward 10"]
    for name in reversed(names):
        deliver(batches / f"{name}.csv")
    assert [name for name in find_pending(Installation(settings)).ready if name in names] == names


def test_other_content_under_a_refused_name_is_pending_again(settings: Settings, batches: Path) -> None:
    for decision in ("refused", "empty"):
        deliver(batches / "batch-03.csv", f"{decision} before")
        done(settings, "batch-03", decision)
        assert "batch-03" not in find_pending(Installation(settings)).ready
        deliver(batches / "batch-03.csv", f"{decision} before", age=1800)
        assert "batch-03" not in find_pending(Installation(settings)).ready, "touched, with the same content"
        deliver(batches / "batch-03.csv", f"{decision} after")
        assert "batch-03" in find_pending(Installation(settings)).ready


def test_content_that_was_refused_before_is_not_looked_at_again(settings: Settings, batches: Path) -> None:
    """Also if other content was refused under the same name since."""
    for content in ("one", "two"):
        deliver(batches / "batch-03.csv", content)
        done(settings, "batch-03", "refused")
    deliver(batches / "batch-03.csv", "one")
    assert "batch-03" not in find_pending(Installation(settings)).names


def test_an_odd_name_in_utf_8_is_ready(settings: Settings, batches: Path) -> None:
    names = ["März 1", "no-break\u00a0space", "a\nb"]
    for name in names:
        deliver(batches / f"{name}.csv")
    assert set(names) <= set(find_pending(Installation(settings)).ready)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param(b"x" * 201, "longer than 200 bytes", id="long"),
        pytest.param(b"M\xe4rz", r"M\\udce4rz.csv is not read", id="Latin-1"),
    ],
)
def test_a_name_that_no_file_or_event_can_have_is_reported(
    settings: Settings, batches: Path, name: bytes, shown: str
) -> None:
    """It stops no other batch."""
    (batches / os.fsdecode(name + b".csv")).write_text("x")
    pending = find_pending(Installation(settings))
    assert pending.ready == ["batch-01", "batch-02"]
    assert re.search(shown, " ".join(pending.sentences).encode().decode())


def test_a_file_that_changes_after_it_was_accepted_is_reported_and_not_done_again(
    settings: Settings, batches: Path
) -> None:
    """Even if its size and its modification time stay; also if it goes."""
    deliver(batches / "batch-03.csv", "one")
    done(settings, "batch-03")
    modified = (batches / "batch-03.csv").stat()
    assert find_pending(Installation(settings)).changed == {}
    (batches / "batch-03.csv").write_text("two")
    os.utime(batches / "batch-03.csv", ns=(modified.st_atime_ns, modified.st_mtime_ns))
    pending = find_pending(Installation(settings))
    assert "batch-03" not in pending.names
    assert "3 bytes were accepted" in pending.changed["batch-03"]
    (batches / "batch-03.csv").write_text("one")
    assert find_pending(Installation(settings)).changed == {}
    (batches / "batch-03.csv").unlink()
    assert "was removed" in find_pending(Installation(settings)).changed["batch-03"]


def test_initial_data_that_change_are_reported(settings: Settings, batches: Path) -> None:
    deliver(batches / "initial.csv")
    assert "initial" in find_pending(Installation(settings)).changed


def test_events_of_earlier_versions_count_as_done(settings: Settings, batches: Path) -> None:
    Installation(settings).ledger.append("batch", batch="batch-01", decision="stable", reasons=[])
    assert find_pending(Installation(settings)).ready == ["batch-02"]


def test_a_batch_that_is_not_there_is_named(settings: Settings, batches: Path) -> None:
    with pytest.raises(NotFound, match="no batch 'batch-77'"):
        find_batch(Installation(settings), "batch-77")


def test_an_object_store_is_looked_at_in_the_same_way(settings: Settings, s3_bucket: str) -> None:
    """Its ages are by its own clock."""
    from healthpredict.storage.uris import write_bytes

    there = settings.model_copy(update={"data_uri": f"{s3_bucket}/data"})
    for name in ("batch-9.csv", "batch-10.csv", "batch-10.csv.done", "readme.txt", "folder/x.csv"):
        write_bytes(f"{there.data_uri}/batches/{name}", b"x")
    folder = delivered_batches(Installation(there))
    assert list(folder.files) == ["batch-9", "batch-10"]
    assert folder.files["batch-9"].waits is not None
    assert folder.files["batch-10"].waits is None
    assert len(folder.ignored) == 2
    assert (
        delivered_batches(Installation(there.model_copy(update={"arrival_seconds": 0}))).files["batch-9"].waits is None
    )
