"""The runner of the cases fails a case that does not hold."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cases.expectations import Observed, differences, unknown_keys
from tests.cases.files import identifiers, identifiers_in
from tests.cases.run_case import run_case
from tests.cases.steps import run_steps
from tests.cases.system import Ran, System

ROWS = "encounter_id,patient_nbr\n0900000001,800000002.0\n"
IDS = {"900000001", "800000002"}


def parquet() -> bytes:
    table = pa.table({"encounter_id": pa.array(["0900000001"]), "patient_nbr": pa.array([800000002.0])})
    pq.write_table(table, buffer := io.BytesIO())
    return buffer.getvalue()


def zipped() -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr("rows.csv", ROWS)
    return buffer.getvalue()


def zstd() -> bytes:
    with pa.output_stream(sink := pa.BufferOutputStream(), compression="zstd") as stream:
        stream.write(ROWS.encode())
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "data",
    [
        ROWS.encode(),
        ROWS.encode("utf-16"),
        ROWS.encode("utf-16-le"),
        gzip.compress(ROWS.encode("utf-16")),
        bz2.compress(ROWS.encode()),
        zipped(),
        zstd(),
        parquet(),
        json.dumps({"encounter_id": 900000001, "patient_id": 800000002}).encode(),
    ],
    ids=["csv", "utf-16", "utf-16 without mark", "gzip", "bz2", "zip", "zstd", "Parquet", "JSON"],
)
def test_identifiers_are_found_in_every_kind_of_input(data: bytes, tmp_path: Path) -> None:
    """Whatever the encoding, compression and notation."""
    (tmp_path / "input").write_bytes(data)
    assert identifiers(tmp_path / "input") == IDS


def test_a_damaged_file_has_no_identifiers(tmp_path: Path) -> None:
    """It does not stop the runner."""
    (tmp_path / "input").write_bytes(parquet()[:60])
    assert identifiers(tmp_path / "input") == frozenset()


def test_an_identifier_is_a_whole_number() -> None:
    """Digits of a nanosecond version, of a digest or after a decimal point are none."""
    version, digest = "1764900000001000000", "ab900000001cd"
    assert not {"900000001"} & identifiers_in(f"{version} {digest} 0.900000001")
    assert identifiers_in("encounter 0900000001, or 900000001.0") == {"900000001"}


def seen(**facts: object) -> Observed:
    return Observed(0, "", "", **facts)  # type: ignore[arg-type]


def test_accepted_fails_if_more_rows_were_rejected_than_expected() -> None:
    """Rows that are not at risk are not among the unusable ones."""
    assert differences({"outcome": "accepted"}, seen(unusable=0)) == []
    assert differences({"outcome": "accepted"}, seen(unusable=3)) == ["3 rows were rejected"]
    assert differences({"outcome": "accepted", "rejected": 3}, seen(unusable=3, rejected=3)) == []
    assert differences({"outcome": "accepted", "rejected": 0}, seen(unusable=8, rejected=0)) == ["8 rows were rejected"]


def test_rejected_rows_fails_if_no_row_was_rejected() -> None:
    """Also in a list of outcomes."""
    assert differences({"outcome": "rejected_rows"}, seen(unusable=0)) == ["no row was rejected"]
    assert differences({"outcome": ["rejected_rows", "refused"]}, seen(unusable=0)) != []
    assert differences({"outcome": "rejected_rows"}, seen(unusable=1)) == []
    nobody_at_risk = seen(unusable=0, rejected=60)
    assert differences({"outcome": "rejected_rows", "rejected": 60}, nobody_at_risk) == []
    assert differences({"outcome": "rejected_rows", "rejected": 60}, seen(unusable=0, rejected=0)) == ["rejected is 0"]


def test_words_are_searched_in_reasons_wherever_rows_may_be_rejected() -> None:
    """A list of outcomes may contain `rejected_rows`."""
    expect = {"outcome": ["rejected_rows", "refused"], "message_names": ["age"]}
    assert differences(expect, seen(unusable=1, reasons=["age is missing"])) == []


def test_a_leak_in_a_reason_is_found() -> None:
    """The reasons in the side file are messages."""
    leaking = seen(unusable=1, reasons=["900000001 is not a patient"], ids=frozenset({"900000001"}))
    assert differences({"outcome": "rejected_rows"}, leaking) == ["a message contains an identifier of the input"]


def test_misspelt_keys_are_named() -> None:
    """In `expect`, in steps, and in what a step contains."""
    assert unknown_keys({"expect": {"outcome": "accepted", "rowz": 3}}) == ["expect has the unknown key 'rowz'"]
    deliver = {"deliver": "a.csv", "as": "batches/a.csv", "setled": False}
    run = {"run": "drift-loop", "ordre": [], "batches": {"a": {"stat": "done"}}, "meanwhile": deliver}
    assert unknown_keys({"steps": [deliver, run]}) == [
        "step 1 has the unknown key 'setled'",
        "step 2 has the unknown key 'ordre'",
        "step 2, meanwhile has the unknown key 'setled'",
        "step 2, a has the unknown key 'stat'",
    ]


def test_a_case_with_a_misspelt_key_or_outcome_fails(tmp_path: Path) -> None:
    """It is not run, and the key or the outcome is named."""
    system = FakeSystem(tmp_path)
    case = {"given_to": "command", "args": ["status"], "expect": {"exitt": 0}}
    assert run_case(case, tmp_path, "base.csv", system) == ["expect has the unknown key 'exitt'"]
    case = {"given_to": "command", "args": ["status"], "expect": {"outcome": "acepted"}}
    assert "acepted" in "".join(run_case(case, tmp_path, "base.csv", system))


class FakeSystem(System):
    """Its commands print one text and do nothing."""

    output = ""

    def run(self, arguments: list[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> Ran:
        """Print the text."""
        return Ran(0, self.output, self.output)


def test_a_version_in_nanoseconds_is_no_leak(tmp_path: Path) -> None:
    """Although an identifier is among its digits; the identifier itself is one, also from a compressed file."""
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(ROWS.encode()))
    system = FakeSystem(tmp_path)
    steps = [{"deliver": "a.csv.gz", "as": "batches/a.csv.gz"}, {"run": "status"}]
    system.output = "version 1764900000001000000"
    assert run_steps(steps, tmp_path, system) == []
    system.output = "encounter 900000001 is bad"
    assert run_steps(steps, tmp_path, system) == ["step 2: a message contains an identifier of the input"]


def test_the_identifiers_of_a_file_for_a_command_are_known(tmp_path: Path) -> None:
    """As those of files that are scored."""
    (tmp_path / "outcomes.csv").write_text(ROWS)
    system = FakeSystem(tmp_path)
    system.output = "900000001 is unknown"
    case = {"given_to": "command", "args": ["outcomes", "outcomes.csv"], "expect": {"outcome": "accepted"}}
    assert run_case(case, tmp_path, "base.csv", system) == ["a message contains an identifier of the input"]
