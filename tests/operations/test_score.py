"""Scoring a file: every row is predicted or rejected with a reason, and a result replaces nothing but a result."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from healthpredict.bundle.model import Bundle
from healthpredict.data.raw import format_raw
from healthpredict.data.schema import DUPLICATE
from healthpredict.data.synthetic import synthesize
from healthpredict.errors import BatchRefused, ConfigurationError, StorageError
from healthpredict.operations import score as scoring
from healthpredict.operations.score import Scored, score_with
from healthpredict.operations.score_chunk import NOT_AT_RISK

RAW = synthesize(3000, seed=4).drop(columns="readmitted")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "encounters.csv"
    path.write_bytes(format_raw(RAW))
    return path


def scored(bundle: Bundle, source: Path, result: str = "risks.parquet") -> Scored:
    return score_with(bundle, str(source), f"{source.parent}/{result}")


def test_each_row_is_in_one_of_two_files_in_the_order_of_the_input(
    bundle: Bundle, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with it, and in whichever chunk it is."""
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", 500)
    raw = RAW.copy()
    raw.loc[5, "age"] = "71"
    raw.loc[700, "encounter_id"] = "0x1F"
    raw.loc[2999, "encounter_id"] = "000" + raw.loc[3, "encounter_id"] + ".0"
    raw.loc[8, "encounter_id"] = raw.loc[7, "encounter_id"]
    dead = raw["discharge_disposition_id"].eq("11").idxmax()
    raw.loc[2500, ["encounter_id", "discharge_disposition_id"]] = [raw.loc[dead, "encounter_id"], "11"]
    source.write_bytes(format_raw(raw))
    done = scored(bundle, source)
    risks, rejected = pd.read_parquet(done.result_uri), pd.read_parquet(done.rejected_uri)
    assert (done.rows, done.predicted, done.rejected) == (3000, len(risks), len(rejected))
    assert len(risks) + len(rejected) == 3000
    plain = {number for number in raw["encounter_id"] if number.isdigit() and not number.startswith("0")}
    assert {str(number) for number in risks["encounter_id"]} <= plain
    assert risks["encounter_id"].is_unique
    reasons = dict(zip(rejected.index, rejected["reason"], strict=True))
    by_id = rejected.set_index("encounter_id")["reason"]
    assert by_id[raw.loc[5, "encounter_id"]].startswith("age is not one of")
    assert by_id["0x1F"] == "encounter_id is not a whole number"
    assert by_id[raw.loc[2999, "encounter_id"]] == DUPLICATE
    assert by_id[raw.loc[8, "encounter_id"]] == DUPLICATE
    assert sorted(by_id[raw.loc[dead, "encounter_id"]]) == sorted([NOT_AT_RISK, DUPLICATE])
    assert set(reasons.values()) >= {NOT_AT_RISK, DUPLICATE}
    positions = {number: position for position, number in reversed(list(enumerate(raw["encounter_id"])))}
    order = [
        positions[number]
        for number in rejected["encounter_id"]
        if number not in (raw.loc[7, "encounter_id"], raw.loc[dead, "encounter_id"])
    ]
    assert order == sorted(order)


def test_a_corrected_row_is_predicted_and_its_bad_one_is_not(bundle: Bundle, source: Path) -> None:
    raw = pd.concat([RAW.head(3).assign(age="71"), RAW.head(3)], ignore_index=True)
    source.write_bytes(format_raw(raw))
    done = scored(bundle, source)
    assert done.rows == done.predicted + done.rejected == 6
    assert DUPLICATE not in pd.read_parquet(done.rejected_uri)["reason"].tolist()


@pytest.mark.parametrize("result", ["risks.csv", "risks.CSV.GZ", "risks.csv.gz", "risks.parquet", "r.s k.parquet"])
def test_the_ending_says_the_format_of_both_files(bundle: Bundle, source: Path, result: str) -> None:
    done = scored(bundle, source, result)
    frames = []
    for uri in (done.result_uri, done.rejected_uri):
        is_parquet = Path(uri).read_bytes().startswith(b"PAR1")
        assert is_parquet == result.endswith(".parquet")
        assert Path(uri).read_bytes().startswith(b"\x1f\x8b") == result.lower().endswith(".gz")
        compression = "gzip" if result.lower().endswith(".gz") else None
        frames.append(pd.read_parquet(uri) if is_parquet else pd.read_csv(uri, compression=compression, dtype=str))
    assert list(frames[0]) == ["encounter_id", "readmission_risk", "high_risk"]
    assert list(frames[1]) == [*RAW, "reason"]
    assert [len(frame) for frame in frames] == [done.predicted, done.rejected]


def test_a_file_without_rows_gives_a_result_without_rows(bundle: Bundle, source: Path) -> None:
    source.write_bytes(format_raw(RAW.head(0)))
    for result in ("risks.csv", "risks.parquet"):
        done = scored(bundle, source, result)
        assert (done.rows, done.predicted, done.rejected) == (0, 0, 0)
        assert Path(done.result_uri).exists()


def test_a_result_never_replaces_the_input_a_link_a_pipe_a_folder_or_a_device(bundle: Bundle, source: Path) -> None:
    """Nor does the side file; and nothing is read before that is known."""
    folder = source.parent
    (folder / "target.csv").write_text("kept")
    (folder / "link.csv").symlink_to(folder / "target.csv")
    (folder / "broken.csv").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.csv")
    (folder / "folder.csv").mkdir()
    os.link(source, folder / "hard.csv")
    (folder / "side.rejected.csv").symlink_to(folder / "target.csv")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.exists()}
    for result in (
        "encounters.csv",
        "./encounters.csv",
        "hard.csv",
        "link.csv",
        "broken.csv",
        "pipe.csv",
        "folder.csv",
        "side.csv",
    ):
        with pytest.raises(ConfigurationError, match="Choose another name") as caught:
            scored(bundle, source, result)
        assert caught.value.exit_code == 2
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.exists()} == before


def test_an_unknown_ending_is_refused_with_those_that_there_are(bundle: Bundle, source: Path) -> None:
    for result in ("risks.txt", "risks", "risks.xlsx", "csv"):
        with pytest.raises(ConfigurationError, match=r"\.parquet, \.csv\.gz, \.csv"):
            scored(bundle, source, result)


def test_rows_that_go_missing_on_the_way_fail_the_command_and_leave_no_result(
    bundle: Bundle, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scoring.score_chunk

    def lossy(bundle: Bundle, raw: pd.DataFrame) -> object:
        return real(bundle, raw.iloc[1:])

    monkeypatch.setattr(scoring, "_chunks", lambda bundle, *_: [(RAW.iloc[1:], lossy(bundle, RAW))])
    with pytest.raises(BatchRefused, match="3000 rows, but 2999 were scored"):
        scored(bundle, source)
    assert list(source.parent.iterdir()) == [source]


def test_a_result_that_cannot_be_written_leaves_no_side_file(
    bundle: Bundle, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = scoring.write_file

    def full(uri: str, path: Path) -> None:
        if "rejected" not in uri:
            raise StorageError("No space left on device.")
        write(uri, path)

    monkeypatch.setattr(scoring, "write_file", full)
    with pytest.raises(StorageError):
        scored(bundle, source)
    assert list(source.parent.iterdir()) == [source]


def test_in_silence_the_result_has_risks_and_no_flags(bundle: Bundle, source: Path) -> None:
    done = score_with(bundle, str(source), str(source.with_name("risks.parquet")), silent=True)
    risks = pd.read_parquet(done.result_uri)
    assert risks["readmission_risk"].notna().all()
    assert risks["high_risk"].isna().all()
    done = score_with(bundle, str(source), str(source.with_name("risks.csv")), silent=True)
    assert pd.read_csv(done.result_uri)["high_risk"].isna().all()
