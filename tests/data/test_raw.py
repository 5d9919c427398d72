"""Reading what arrives: every unusable file is refused with a reason, and nothing of a patient is in it."""

import io
import zipfile

import pandas as pd
import pytest

from healthpredict.data.raw import ENCOUNTER_COLUMNS, format_raw, parse_outcomes, parse_raw, unzip
from healthpredict.data.synthetic import synthesize
from healthpredict.errors import BatchRefused, MissingColumns

RAW = synthesize(20, seed=1)
CSV = format_raw(RAW)
LINES = CSV.splitlines(keepends=True)


def zipped(member: str, content: bytes = CSV) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


def test_what_is_formatted_is_parsed_again() -> None:
    pd.testing.assert_frame_equal(parse_raw(CSV, "batch-01", with_outcome=True), RAW)


def test_values_with_commas_and_quotes_survive() -> None:
    """A bad value must reach the quarantine as it came."""
    raw = RAW.assign(medical_specialty='Surgery, "General"')
    pd.testing.assert_frame_equal(parse_raw(format_raw(raw), "batch-01", with_outcome=True), raw)


@pytest.mark.parametrize("missing", ["?", ""])
def test_missing_is_nan_and_none_is_a_value(missing: str) -> None:
    values = ["7"] * len(ENCOUNTER_COLUMNS)
    values[ENCOUNTER_COLUMNS.index("race")] = missing
    values[ENCOUNTER_COLUMNS.index("A1Cresult")] = "None"
    raw = parse_raw(f"{','.join(ENCOUNTER_COLUMNS)}\n{','.join(values)}\n".encode(), "batch-01", with_outcome=False)
    assert raw["race"].isna().all()
    assert raw["A1Cresult"].tolist() == ["None"]


@pytest.mark.parametrize("member", ["diabetic_data.csv", "dataset_diabetes/diabetic_data.csv"])
def test_published_zip_is_read(member: str) -> None:
    pd.testing.assert_frame_equal(parse_raw(zipped(member), "batch-01", with_outcome=True), RAW)


@pytest.mark.parametrize("data", [zipped("other.csv"), zipped("diabetic_data.csv")[:200]])
def test_unusable_zip_is_refused(data: bytes) -> None:
    with pytest.raises(BatchRefused, match="the zip"):
        unzip(data, "batch-01")


def test_columns_may_come_in_another_order_and_with_a_byte_order_mark() -> None:
    """As a spreadsheet writes them."""
    data = b"\xef\xbb\xbf" + format_raw(RAW[RAW.columns[::-1]])
    pd.testing.assert_frame_equal(parse_raw(data, "batch-01", with_outcome=True), RAW)


def test_outcome_is_taken_only_where_it_is_wanted() -> None:
    without = format_raw(RAW.drop(columns="readmitted"))
    assert "readmitted" in parse_raw(CSV, "batch-01", with_outcome=None)
    assert "readmitted" not in parse_raw(without, "batch-01", with_outcome=None)
    with pytest.raises(MissingColumns, match="missing columns: readmitted"):
        parse_raw(without, "batch-01", with_outcome=True)
    with pytest.raises(MissingColumns, match="unexpected columns: readmitted"):
        parse_raw(CSV, "batch-01", with_outcome=False)


def test_renamed_column_is_named_under_both_names() -> None:
    with pytest.raises(MissingColumns, match=r"missing columns: age; unexpected columns: age_band") as caught:
        parse_raw(CSV.replace(b",age,", b",age_band,"), "batch-01", with_outcome=True)
    assert caught.value.missing == ("age",)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(b"", "it is empty", id="empty"),
        pytest.param(b"\n\r\n ", "it is empty", id="blank"),
        pytest.param(LINES[0], "a header and no rows", id="header only"),
        pytest.param(LINES[0].rstrip(), "a header and no rows", id="header without newline"),
        pytest.param(CSV[:-30], "as in a truncated file", id="truncated"),
        pytest.param(LINES[0] + LINES[1] + b"1,2,3\n" + LINES[2], "rows without 50 fields: 1", id="short row"),
        pytest.param(LINES[0] + LINES[1].rstrip() + b",x\n", "one has 51", id="long row"),
        pytest.param(CSV.replace(b",", b";"), "no column of the contract", id="semicolons"),
        pytest.param(b"\x89PNG\r\n\x1a\n\x00\x00", "not readable as UTF-8", id="picture"),
        pytest.param(CSV.replace(b"Female", b"Fem\xe9le"), "not readable as UTF-8", id="Latin-1"),
        pytest.param(
            CSV.replace(b",Female,", b',"Female,'), "a quote that is not closed|without 50 fields", id="open quote"
        ),
        pytest.param(CSV.replace(b"\n", b",x\n").replace(b",x\n", b",age\n", 1), "there twice", id="column twice"),
    ],
)
def test_unreadable_file_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(BatchRefused, match=problem) as caught:
        parse_raw(data, "batch-01", with_outcome=True)
    assert "'batch-01' refused" in str(caught.value)


def test_refusal_quotes_no_row() -> None:
    """Neither in its message nor in an error it was raised from."""
    encounter = RAW["encounter_id"].iloc[-1]
    for data in (CSV[:-30], CSV.replace(b"Female", b"Fem\xe9le")):
        with pytest.raises(BatchRefused) as caught:
            parse_raw(data, "batch-01", with_outcome=True)
        assert encounter not in str(caught.value)
        assert caught.value.__cause__ is None


def test_outcomes_are_two_columns() -> None:
    assert parse_outcomes(b"encounter_id,readmitted\n1,<30\n", "batch-01").to_dict("list") == {
        "encounter_id": ["1"],
        "readmitted": ["<30"],
    }
    with pytest.raises(MissingColumns, match="readmitted"):
        parse_outcomes(b"encounter_id,outcome\n1,<30\n", "batch-01")
