"""Batches from the log: every usable encounter once, and outcomes when nearly all are known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from accepting import accept
from logged import outcome, prediction, write_log
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.config import Settings
from healthpredict.data.columns import OUTCOME_COLUMN
from healthpredict.data.contract import COLUMNS
from healthpredict.data.params import ContractParams, LiveParams
from healthpredict.data.raw import read_encounters, read_outcomes
from healthpredict.data.schema import check_encounters
from healthpredict.errors import BatchRefused, NotFound, StorageError
from healthpredict.operations import collect_live as collecting
from healthpredict.operations.collect_live import Collected, collect_live, record_outcomes
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare
from healthpredict.operations.ship_log import ship_log
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, read_json, write_json
from healthpredict.storage.uris import exists, list_uris, read_bytes, write_bytes

KILLED_AT = """
import os, signal, sys
from healthpredict.operations.installation import Installation
from healthpredict.operations import collect_live as collecting

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(collecting, sys.argv[1], die)
collecting.collect_live(Installation())
"""
NOTHING = Collected(batches=[], waiting=0, matured=[])


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Three encounters make a batch, and two outcomes of three are enough."""
    return settings.model_copy(update={"live": LiveParams(min_rows=3), "known_share": 0.6})


def ship(settings: Settings, *files: list[dict[str, Any]]) -> None:
    write_log(settings.state_path / "log", *files)
    ship_log(Installation(settings), settings.state_path / "log")


def batch(settings: Settings, name: str) -> pd.DataFrame:
    """The encounters of a batch, raw."""
    return read_encounters(read_bytes(Layout(settings.data_uri).batch(name)), name).frame


def ids(settings: Settings, name: str) -> list[int]:
    return [int(number) for number in batch(settings, name)["encounter_id"]]


def outcomes(settings: Settings, name: str) -> dict[int, str]:
    frame = read_outcomes(read_bytes(Layout(settings.data_uri).outcomes(name)), name).frame
    return dict(zip(frame["encounter_id"].astype(int), frame[OUTCOME_COLUMN], strict=True))


def test_without_a_log_there_is_nothing_to_collect(settings: Settings) -> None:
    assert collect_live(Installation(settings)) == NOTHING


def test_batch_is_cut_when_there_are_enough_encounters(settings: Settings) -> None:
    ship(settings, [prediction(1), prediction(2)])
    assert collect_live(Installation(settings)) == Collected(batches=[], waiting=2, matured=[])
    ship(settings, [prediction(3), prediction(4)])
    assert collect_live(Installation(settings)) == Collected(batches=["live-000001"], waiting=0, matured=[])
    assert ids(settings, "live-000001") == [1, 2, 3, 4]
    assert collect_live(Installation(settings)) == NOTHING


def test_files_of_another_origin_are_ignored(settings: Settings) -> None:
    layout = Layout(settings.data_uri)
    write_bytes(f"{layout.batches_folder}/batch-01.json", b'{"rows": 3}')
    write_bytes(f"{layout.logged_predictions}/export.parquet", b"not of this log")
    ship(settings, [prediction(number) for number in range(1, 5)])
    assert collect_live(Installation(settings)).batches == ["live-000001"]


def test_contents_of_a_batch_that_are_damaged_are_named(settings: Settings) -> None:
    write_bytes(Layout(settings.data_uri).collected("live-000001"), b"{}")
    with pytest.raises(StorageError, match=r"live-000001\.json is damaged"):
        collect_live(Installation(settings))


def test_backlog_makes_several_batches(settings: Settings) -> None:
    """Also of encounters that were predicted again in the midst of it."""
    ship(settings, *([prediction(2 * number + 1), prediction(2 * number + 2), prediction(1)] for number in range(5)))
    assert collect_live(Installation(settings)) == Collected(
        batches=["live-000001", "live-000002"], waiting=3, matured=[]
    )
    assert ids(settings, "live-000001") + ids(settings, "live-000002") == [2, 3, 4, 1, 5, 6, 7, 8]


def test_batch_is_raw_and_is_accepted_like_any_other(settings: Settings) -> None:
    nothing = {column.field: None for column in COLUMNS if column.nullable}
    ship(
        settings,
        [
            prediction(1, 2**63 - 1, max_glu_serum="None", number_inpatient=7),
            prediction(2, 5, **nothing),
            prediction(3),
        ],
    )
    collect_live(Installation(settings))
    raw = batch(settings, "live-000001")
    first = raw.iloc[0]
    assert (first["patient_nbr"], first["max_glu_serum"], first["number_inpatient"]) == (str(2**63 - 1), "None", "7")
    assert raw.iloc[1].isna().sum() == len(nothing)
    accepted = accept(settings, "live-000001")
    assert (accepted.rows, accepted.cohort_rows, accepted.quarantined) == (3, 3, 0)


def test_last_prediction_of_an_encounter_counts(settings: Settings) -> None:
    """Last by its time: two processes write two files, and the one that was shipped first may hold the later ones."""
    ship(
        settings,
        [prediction(1, time=9, number_inpatient=9), prediction(2, time=5, number_inpatient=5)],
        [prediction(2, time=6, number_inpatient=6), prediction(1, time=1, number_inpatient=1), prediction(3, time=2)],
    )
    collect_live(Installation(settings))
    raw = batch(settings, "live-000001").set_index("encounter_id")["number_inpatient"]
    assert raw[["1", "2"]].tolist() == ["9", "6"]
    assert ids(settings, "live-000001") == [3, 2, 1], "in the order of time"


def test_encounters_are_counted_and_not_predictions(settings: Settings) -> None:
    ship(settings, [prediction(1), prediction(1), prediction(2), prediction(2)])
    assert collect_live(Installation(settings)).batches == []
    ship(settings, [prediction(3)])
    assert collect_live(Installation(settings)).batches == ["live-000001"]


def test_dry_runs_and_nameless_encounters_are_left_out(settings: Settings) -> None:
    unusable = [prediction(1, dry_run=True), prediction(None), prediction(2, None), prediction(None, None)]
    ship(settings, unusable, [*unusable, prediction(3), prediction(4)])
    assert collect_live(Installation(settings)) == Collected(batches=[], waiting=2, matured=[])
    ship(settings, [prediction(5)])
    collect_live(Installation(settings))
    assert ids(settings, "live-000001") == [3, 4, 5]
    assert len(read_json(Layout(settings.data_uri).collected("live-000001"))["objects"]) == 2, "one has nothing usable"


def test_objects_are_not_opened_before_there_can_be_enough(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers who name no patients fill the log for ever: it must not be read again at each turn."""
    ship(settings, [prediction(number + 1, dry_run=True) for number in range(50)], [prediction(1), prediction(2)])
    monkeypatch.setattr(collecting, "_read", None)
    assert collect_live(Installation(settings)).waiting == 2


def test_encounter_of_an_earlier_batch_is_left_out(settings: Settings) -> None:
    ship(settings, [prediction(1), prediction(2), prediction(3)])
    collect_live(Installation(settings))
    ship(settings, [prediction(3), prediction(4), prediction(5)])
    assert collect_live(Installation(settings)).batches == []
    ship(settings, [prediction(6)])
    collect_live(Installation(settings))
    assert ids(settings, "live-000002") == [4, 5, 6]


def test_encounter_of_the_history_is_left_out(settings: Settings, source: str) -> None:
    """A batch of encounters that are there already would be refused, and its others lost."""
    whole = settings.model_copy(update={"n_batches": 0})
    prepare(Installation(whole), source)
    known = read_frame(Layout(settings.data_uri).processed("initial"))["encounter_id"].iloc[:3].tolist()
    ship(whole, [prediction(known[0]), prediction(known[1]), prediction(1), prediction(2), prediction(3)])
    collect_live(Installation(whole))
    assert ids(whole, "live-000001") == [1, 2, 3]
    assert accept(whole, "live-000001").quarantined == 0


def test_batch_that_was_killed_between_manifest_and_rows_is_made_as_it_was_begun(settings: Settings) -> None:
    ship(settings, [prediction(1), prediction(2)], [prediction(3)])
    environment = {
        **os.environ,
        "HEALTHPREDICT_DATA_URI": settings.data_uri,
        "HEALTHPREDICT_LIVE__MIN_ROWS": "3",
        "HEALTHPREDICT_STATE_PATH": str(settings.state_path),
    }
    killed = subprocess.run([sys.executable, "-c", KILLED_AT, "_write_batch"], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    layout = Layout(settings.data_uri)
    assert exists(layout.collected("live-000001"))
    assert not exists(layout.batch("live-000001"))
    ship(settings, [prediction(3, time=10**18), prediction(4), prediction(5), prediction(6)])
    assert collect_live(Installation(settings)).batches == ["live-000002"]
    assert ids(settings, "live-000001") == [1, 2, 3]
    assert ids(settings, "live-000002") == [4, 5, 6]


def test_of_two_collectors_one_makes_the_batch(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts may share a store. From the same log both make the same batch, which is there once."""
    ship(settings, [prediction(1), prediction(2), prediction(3)])

    def after_the_other(uri: str, content: Any, *, exclusive: bool) -> None:
        monkeypatch.undo()
        assert collect_live(Installation(settings)).batches == ["live-000001"]
        write_json(uri, content, exclusive=exclusive)

    monkeypatch.setattr(collecting, "write_json", after_the_other)
    assert collect_live(Installation(settings)).batches == ["live-000001"]
    assert collect_live(Installation(settings)) == NOTHING
    assert ids(settings, "live-000001") == [1, 2, 3]


def test_of_two_collectors_with_different_logs_one_makes_the_batch(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(settings, [prediction(1), prediction(2), prediction(3)])

    def after_the_other(uri: str, content: Any, *, exclusive: bool) -> None:
        monkeypatch.undo()
        assert collect_live(Installation(settings)).batches == ["live-000001"]
        write_json(uri, {**content, "encounter_ids": [1, 2]}, exclusive=exclusive)

    monkeypatch.setattr(collecting, "write_json", after_the_other)
    with pytest.raises(StorageError, match="exists already"):
        collect_live(Installation(settings))
    assert ids(settings, "live-000001") == [1, 2, 3]


def test_damaged_object_is_named(settings: Settings) -> None:
    ship(settings, [prediction(1), prediction(2), prediction(3)])
    (uri,) = list_uris(Layout(settings.data_uri).logged_predictions)
    write_bytes(uri, b"PAR1")
    with pytest.raises(StorageError, match=r"parquet is not a readable table of the prediction log"):
        collect_live(Installation(settings))


def test_collecting_from_s3_is_the_same(settings: Settings, s3_bucket: str) -> None:
    there = settings.model_copy(update={"data_uri": f"{s3_bucket}/hospital"})
    ship(there, [prediction(1), prediction(2), prediction(3)], [outcome(1), outcome(2)])
    assert collect_live(Installation(there)) == Collected(batches=["live-000001"], waiting=0, matured=["live-000001"])
    assert ids(there, "live-000001") == [1, 2, 3]


class TestOutcomes:
    @pytest.fixture(autouse=True)
    def a_batch(self, settings: Settings) -> None:
        """Of five encounters; three outcomes are enough."""
        ship(settings, [prediction(number) for number in range(1, 6)])
        collect_live(Installation(settings))

    def test_are_those_of_a_batch_when_nearly_all_are_known(self, settings: Settings) -> None:
        ship(settings, [outcome(1, "<30"), outcome(2), outcome(99)])
        assert collect_live(Installation(settings)).matured == []
        assert not exists(Layout(settings.data_uri).outcomes("live-000001"))
        ship(settings, [outcome(3, ">30")])
        assert collect_live(Installation(settings)).matured == ["live-000001"]
        assert outcomes(settings, "live-000001") == {1: "<30", 2: "NO", 3: ">30"}

    def test_never_change_once_a_model_may_have_seen_them(self, settings: Settings) -> None:
        ship(settings, [outcome(1), outcome(2), outcome(3)])
        collect_live(Installation(settings))
        before = read_bytes(Layout(settings.data_uri).outcomes("live-000001"))
        ship(settings, [outcome(1, "<30", time=2_000_000_000_000_000), outcome(4), outcome(5)])
        assert collect_live(Installation(settings)).matured == []
        assert read_bytes(Layout(settings.data_uri).outcomes("live-000001")) == before

    def test_are_written_by_one_of_two_collectors(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        ship(settings, [outcome(1), outcome(2), outcome(3)])
        reported = collecting._read_reported

        def before_the_other(layout: Layout) -> pd.DataFrame:
            monkeypatch.undo()
            early = reported(layout)
            ship(settings, [outcome(4)])
            assert collect_live(Installation(settings)).matured == ["live-000001"]
            return early

        monkeypatch.setattr(collecting, "_read_reported", before_the_other)
        with pytest.raises(StorageError, match="exists already"):
            collect_live(Installation(settings))
        assert outcomes(settings, "live-000001").keys() == {1, 2, 3, 4}

    def test_latest_wins(self, settings: Settings) -> None:
        ship(settings, [outcome(1, "<30", time=8), outcome(2, "NO", time=1)])
        ship(settings, [outcome(1, "NO", time=7), outcome(2, "<30", time=2), outcome(2, ">30", time=1), outcome(3)])
        collect_live(Installation(settings))
        assert outcomes(settings, "live-000001") == {1: "<30", 2: "<30", 3: "NO"}

    def test_reported_before_the_batch_was_cut_count(self, settings: Settings) -> None:
        ship(settings, [outcome(6), outcome(7), outcome(8)], [prediction(6), prediction(7), prediction(8)])
        assert collect_live(Installation(settings)).matured == ["live-000002"]

    def test_of_many_objects_become_one_without_a_change(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(collecting, "_MANY_OBJECTS", 3)
        folder = Layout(settings.data_uri).logged_outcomes
        ship(settings, *([outcome(1, answer, time=when)] for when, answer in enumerate(["NO", "<30", ">30", "NO"])))
        for _ in range(2):
            collect_live(Installation(settings))
            assert len(list_uris(folder)) == 1
        assert len(read_frame(list_uris(folder)[0])) == 4
        ship(settings, [outcome(2)], [outcome(3)], [outcome(1, "<30", time=2)])
        assert collect_live(Installation(settings)).matured == ["live-000001"]
        assert outcomes(settings, "live-000001") == {1: "NO", 2: "NO", 3: "NO"}

    def test_are_not_lost_when_many_objects_are_half_merged(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(collecting, "_MANY_OBJECTS", 1)
        ship(settings, *([outcome(number)] for number in (1, 2, 3)))
        for fails_at in (0, 1, 2):
            left = count()

            def failing_delete(uri: str, left: Any = left, fails_at: int = fails_at) -> None:
                if next(left) == fails_at:
                    raise StorageError("The store is down.")
                Path(uri).unlink()

            monkeypatch.setattr(collecting, "delete", failing_delete)
            with pytest.raises(StorageError):
                collect_live(Installation(settings))
        monkeypatch.setattr(collecting, "delete", lambda uri: Path(uri).unlink())
        collect_live(Installation(settings))
        assert outcomes(settings, "live-000001") == {1: "NO", 2: "NO", 3: "NO"}
        (merged,) = list_uris(Layout(settings.data_uri).logged_outcomes)
        assert len(read_frame(merged)) == 3

    def test_from_a_file_are_noted_once(
        self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when what was reported since then says otherwise, and when objects are merged."""
        monkeypatch.setattr(collecting, "_MANY_OBJECTS", 1)
        file = tmp_path / "outcomes.csv"
        file.write_text("encounter_id,readmitted\n1,<30\n2,NO\n")
        assert record_outcomes(Installation(settings), str(file)).recorded == 2
        later = pd.Timestamp.now("UTC").value // 1000 + 1
        ship(settings, [outcome(1, "NO", time=later)], [outcome(2, "NO", time=later)])
        collect_live(Installation(settings))
        assert record_outcomes(Installation(settings), str(file)).recorded == 2
        ship(settings, [outcome(3)])
        assert collect_live(Installation(settings)).matured == ["live-000001"]
        assert outcomes(settings, "live-000001") == {1: "NO", 2: "NO", 3: "NO"}

    def test_from_a_file_are_noted_by_a_command(
        self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HEALTHPREDICT_DATA_URI", settings.data_uri)
        (tmp_path / "outcomes.csv").write_text("encounter_id,readmitted\n1,<30\n2,NO\n3,>30\n")
        result = CliRunner().invoke(app, ["outcomes", str(tmp_path / "outcomes.csv")])
        assert "recorded: 3" in result.output
        collect_live(Installation(settings))
        assert outcomes(settings, "live-000001") == {1: "<30", 2: "NO", 3: ">30"}

    def test_from_a_file_that_cannot_be_used_are_counted(self, settings: Settings, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            record_outcomes(Installation(settings), str(tmp_path / "nowhere.csv"))
        file = tmp_path / "outcomes.csv"
        file.write_text("encounter_id,result\n1,NO\n")
        with pytest.raises(BatchRefused, match="missing columns: readmitted"):
            record_outcomes(Installation(settings), str(file))
        assert list_uris(Layout(settings.data_uri).logged_outcomes) == []
        file.write_text("encounter_id,readmitted\n1,SECRET\n2,NO\n3,NO\n3,<30\n")
        recorded = record_outcomes(Installation(settings), str(file))
        assert (recorded.rows, recorded.recorded) == (4, 1)
        assert recorded.problems == (
            "1 of 4 rows are not used: readmitted is not one of NO, >30, <30.",
            "1 encounters have contradictory outcomes, which are not used.",
        )


@pytest.mark.parametrize("default", [None, "ICD-9-CM", "ICD-10-CM"])
def test_diagnoses_are_read_again_as_they_were_predicted(settings: Settings, default: str | None) -> None:
    """The API knew the system of each code. A batch must not depend on the setting for files without one."""
    codes = ["E878", "E87.8", "V45", "V45.-", "250.6", None]
    ship(settings, [prediction(number, diag_1=code) for number, code in enumerate(codes, start=1)])
    assert collect_live(Installation(settings)).batches == ["live-000001"]
    checked = check_encounters(batch(settings, "live-000001"), "live", ContractParams(diagnosis_coding=default))
    assert checked.reasons == {}
    assert (
        checked.encounters["diag_1"].astype(object).where(checked.encounters["diag_1"].notna(), None).tolist() == codes
    )
