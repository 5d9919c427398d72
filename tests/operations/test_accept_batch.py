"""Accepting a batch: nothing is lost, nothing happens twice, a refused batch changes nothing."""

import errno
import hashlib
import os
from pathlib import Path

import pandas as pd
import pytest
from accepting import accept

from healthpredict.config import Settings
from healthpredict.data.contract import DEATH_OR_HOSPICE
from healthpredict.data.raw import format_raw, read_encounters
from healthpredict.data.schema import DUPLICATE
from healthpredict.errors import BatchRefused, MissingColumns, NotFound, NothingToPredict, StorageError
from healthpredict.operations.accept_outcomes import accept_outcomes
from healthpredict.operations.dataset import matured_batches
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import find_pending
from healthpredict.operations.prepare import prepare
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame
from healthpredict.storage.uris import read_bytes

NAME = "batch-01"


@pytest.fixture
def layout(settings: Settings, source: str) -> Layout:
    """Prepared data: `initial` accepted, two batches waiting."""
    prepare(Installation(settings), source)
    return Layout(settings.data_uri)


def arrived(layout: Layout) -> pd.DataFrame:
    return read_encounters(read_bytes(layout.batch(NAME)), NAME).frame


def deliver(layout: Layout, raw: pd.DataFrame) -> None:
    deliver_as(layout.batch(NAME), format_raw(raw))


def deliver_as(uri: str, data: bytes) -> None:
    """Write a file and its marker."""
    Path(uri).write_bytes(data)
    Path(f"{uri}.done").touch()


def files_of(layout: Layout) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(layout.root).rglob("*") if path.is_file()}


def test_good_batch_is_processed(settings: Settings, layout: Layout) -> None:
    accepted = accept(settings, NAME)
    at_risk = ~arrived(layout)["discharge_disposition_id"].isin(DEATH_OR_HOSPICE)
    assert accepted.delivered is not None
    assert accepted.delivered.sha256 == hashlib.sha256(read_bytes(layout.batch(NAME))).hexdigest()
    assert accepted.delivered.size == len(read_bytes(layout.batch(NAME)))
    assert accepted.model_dump(exclude={"seconds", "delivered"}) == {
        "name": NAME,
        "rows": 100,
        "cohort_rows": at_risk.sum(),
        "quarantined": 0,
        "reasons": {},
        "read_as": "csv, comma-separated, UTF-8, LF line endings",
        "notices": (),
    }
    assert len(read_frame(layout.processed(NAME))) == at_risk.sum()
    assert list(read_frame(layout.quarantine(NAME))) == [*arrived(layout), "reason"]


def test_every_bad_row_is_in_quarantine_with_its_reasons(settings: Settings, layout: Layout) -> None:
    raw = arrived(layout)
    raw.loc[0, "time_in_hospital"] = "-5"
    raw.loc[1, ["time_in_hospital", "gender"]] = ["99", None]
    raw.loc[2, "change"] = "Maybe"
    raw.loc[3, "encounter_id"] = raw.loc[4, "encounter_id"]
    raw.loc[5, "encounter_id"] = str(read_frame(layout.processed("initial"))["encounter_id"].iloc[0])
    deliver(layout, raw)
    accepted = accept(settings, NAME)
    quarantine = read_frame(layout.quarantine(NAME))
    assert accepted.quarantined == len(quarantine) == 5
    assert accepted.reasons == {
        "time_in_hospital is outside 1 to 14": 2,
        DUPLICATE: 2,
        "gender is missing": 1,
        "change is not one of No, Ch": 1,
    }
    assert quarantine["time_in_hospital"].iloc[:2].tolist() == ["-5", "99"]


def test_accepting_again_changes_nothing(settings: Settings, layout: Layout) -> None:
    first = accept(settings, NAME)
    before = files_of(layout)
    assert accept(settings, NAME) == first
    assert files_of(layout) == before


def test_batch_of_earlier_encounters_is_refused(settings: Settings, layout: Layout) -> None:
    """The same delivery twice must not train a model twice."""
    accept(settings, NAME)
    deliver_as(layout.batch("batch-02"), read_bytes(layout.batch(NAME)))
    with pytest.raises(BatchRefused, match="encounter_id is there already"):
        accept(settings, "batch-02")


@pytest.mark.parametrize("fault", ["empty", "truncated", "renamed", "types", "all missing"])
def test_refused_batch_changes_nothing(settings: Settings, layout: Layout, fault: str) -> None:
    raw = arrived(layout)
    data = {
        "empty": b"",
        "truncated": format_raw(raw)[:-40],
        "renamed": format_raw(raw.rename(columns={"age": "age_band"})),
        "types": format_raw(raw.assign(num_medications="many")),
        "all missing": format_raw(raw.where(pd.Series(False, index=raw.index))),
    }[fault]
    deliver_as(layout.batch(NAME), data)
    before = files_of(layout)
    with pytest.raises(MissingColumns if fault == "renamed" else BatchRefused, match=NAME):
        accept(settings, NAME)
    assert files_of(layout) == before


def test_batch_that_is_not_there_is_named(settings: Settings, layout: Layout) -> None:
    with pytest.raises(NotFound, match="no batch 'batch-77'"):
        accept(settings, "batch-77")


def test_batch_with_nobody_at_risk_or_no_rows_says_so_and_keeps_its_bad_rows(
    settings: Settings, layout: Layout
) -> None:
    raw = arrived(layout).assign(discharge_disposition_id="11")
    raw.loc[0, "age"] = "71"
    deliver(layout, raw)
    with pytest.raises(
        NothingToPredict, match="nobody in it is at risk of readmission: of its 100 encounters, 99 ended"
    ):
        accept(settings, NAME)
    assert len(read_frame(layout.quarantine(NAME))) == 1
    deliver(layout, raw.head(0))
    with pytest.raises(NothingToPredict, match=r"batch-01\.csv.*a header and no rows"):
        accept(settings, NAME)
    assert not Path(layout.accepted(NAME)).exists()


def test_disk_full_leaves_the_batch_to_be_accepted_later(
    settings: Settings, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = files_of(layout)
    with monkeypatch.context() as context:
        context.setattr("os.fsync", full)
        with pytest.raises(StorageError, match=r"No space left on device\. Free some space"):
            accept(settings, NAME)
    assert files_of(layout) == before
    assert accept(settings, NAME).rows == 100


def test_batches_may_arrive_out_of_order(settings: Settings, layout: Layout) -> None:
    """A batch that comes late is taken in all the same, is done next, and its outcomes count where its name belongs."""
    late = Path(layout.batch(NAME)).rename(Path(layout.root) / "late.csv")
    assert NAME not in find_pending(Installation(settings)).names
    accept(settings, "batch-02")
    late.rename(layout.batch(NAME))
    assert find_pending(Installation(settings)).names[0] == NAME
    assert accept(settings, NAME).quarantined == 0
    accept_outcomes(Installation(settings))
    assert matured_batches(Installation(settings), "batch-02")[-1] == NAME
