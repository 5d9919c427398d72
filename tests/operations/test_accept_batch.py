"""Accepting a batch: nothing is lost, nothing happens twice, a refused batch changes nothing."""

import errno
import os
from pathlib import Path

import pandas as pd
import pytest

from healthpredict.config import Settings
from healthpredict.data.contract import DEATH_OR_HOSPICE
from healthpredict.data.raw import format_raw, parse_raw
from healthpredict.data.schema import DUPLICATE
from healthpredict.errors import BatchRefused, MissingColumns, NotFound, StorageError
from healthpredict.operations.accept_batch import accept_batch
from healthpredict.operations.dataset import matured_batches
from healthpredict.operations.drift_loop import pending_batches
from healthpredict.operations.prepare import prepare
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame
from healthpredict.storage.uris import read_bytes

NAME = "batch-01"


@pytest.fixture
def layout(settings: Settings, source: str) -> Layout:
    """Prepared data: `initial` accepted, two batches waiting."""
    prepare(settings, source)
    return Layout(settings.data_uri)


def arrived(layout: Layout) -> pd.DataFrame:
    return parse_raw(read_bytes(layout.batch(NAME)), NAME, with_outcome=False)


def deliver(layout: Layout, raw: pd.DataFrame) -> None:
    Path(layout.batch(NAME)).write_bytes(format_raw(raw))


def files_of(layout: Layout) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(layout.root).rglob("*") if path.is_file()}


def test_good_batch_is_processed(settings: Settings, layout: Layout) -> None:
    accepted = accept_batch(settings, NAME)
    at_risk = ~arrived(layout)["discharge_disposition_id"].isin(DEATH_OR_HOSPICE)
    assert accepted.model_dump(exclude={"seconds"}) == {
        "name": NAME,
        "rows": 100,
        "cohort_rows": at_risk.sum(),
        "quarantined": 0,
        "reasons": {},
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
    accepted = accept_batch(settings, NAME)
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
    first = accept_batch(settings, NAME)
    before = files_of(layout)
    assert accept_batch(settings, NAME) == first
    assert files_of(layout) == before


def test_batch_of_earlier_encounters_is_refused(settings: Settings, layout: Layout) -> None:
    """The same delivery twice must not train a model twice."""
    accept_batch(settings, NAME)
    Path(layout.batch("batch-02")).write_bytes(read_bytes(layout.batch(NAME)))
    with pytest.raises(BatchRefused, match="encounter_id is there already"):
        accept_batch(settings, "batch-02")


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
    Path(layout.batch(NAME)).write_bytes(data)
    before = files_of(layout)
    with pytest.raises(MissingColumns if fault == "renamed" else BatchRefused, match=NAME):
        accept_batch(settings, NAME)
    assert files_of(layout) == before


def test_batch_that_is_not_there_is_named(settings: Settings, layout: Layout) -> None:
    with pytest.raises(NotFound, match=r"batch-77\.csv"):
        accept_batch(settings, "batch-77")


def test_batch_of_the_dead_has_an_empty_cohort_with_all_types(settings: Settings, layout: Layout) -> None:
    """So that it can be put together with other batches."""
    deliver(layout, arrived(layout).assign(discharge_disposition_id="11"))
    assert accept_batch(settings, NAME).cohort_rows == 0
    both = pd.concat([read_frame(layout.processed("initial")), read_frame(layout.processed(NAME))])
    assert both.dtypes.equals(read_frame(layout.processed("initial")).dtypes)


def test_disk_full_leaves_the_batch_to_be_accepted_later(
    settings: Settings, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = files_of(layout)
    with monkeypatch.context() as context:
        context.setattr("os.fsync", full)
        with pytest.raises(StorageError, match=r"No space left on device\. Free some space"):
            accept_batch(settings, NAME)
    assert files_of(layout) == before
    assert accept_batch(settings, NAME).rows == 100


def test_batches_may_arrive_out_of_order(settings: Settings, layout: Layout) -> None:
    """A batch that comes late is taken in all the same, is done next, and its outcomes count where its name belongs."""
    late = Path(layout.batch(NAME)).rename(Path(layout.root) / "late.csv")
    assert NAME not in pending_batches(settings)
    accept_batch(settings, "batch-02")
    late.rename(layout.batch(NAME))
    assert pending_batches(settings)[0] == NAME
    assert accept_batch(settings, NAME).quarantined == 0
    assert matured_batches(settings, "batch-02")[-1] == NAME


def test_of_outcomes_that_contradict_each_other_the_first_counts(settings: Settings, layout: Layout) -> None:
    """The one said later is left out in words; a model that has seen the first must not be judged by another."""
    accept_batch(settings, NAME)
    before = read_labelled(settings, [NAME])
    said = Path(layout.outcomes(NAME)).read_text().splitlines()
    number, outcome = said[1].split(",")
    other = "NO" if outcome != "NO" else "<30"
    Path(layout.outcomes(NAME)).write_text("\n".join([*said, f"{number},{other}", ""]))
    pd.testing.assert_frame_equal(read_labelled(settings, [NAME]), before)
