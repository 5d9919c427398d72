"""Reading delivered files: every way to write a table gives the same rows, or the file is refused with the number of the line."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import zipfile
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from healthpredict.data.raw import RawTable, format_raw, raw_chunks, read_encounters, read_outcomes
from healthpredict.data.synthetic import synthesize
from healthpredict.data.table import open_table
from healthpredict.data.unpack import MAX_UNPACKED_BYTES, unpack
from healthpredict.errors import BatchRefused

RAW = synthesize(20, seed=1).drop(columns="readmitted")
CSV = format_raw(RAW)
LINES = CSV.decode().splitlines()
COLUMNS = tuple(RAW.columns)


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


COMPRESSIONS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "zstd": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    "zip": lambda data: zipped(batch__csv=data),
}


def read(data: bytes) -> RawTable:
    return read_encounters(data, "batch-01.csv")


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"]),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    compression=st.sampled_from(list(COMPRESSIONS)),
    extra=st.sampled_from(["", "index", "row names", "trailing", "trailing with header", "sep", "capitals", "dots"]),
    last_line_ends=st.booleans(),
)
def test_every_way_to_write_a_csv_gives_the_same_rows(  # noqa: PLR0917 -- the ways
    delimiter: str, encoding: str, ending: str, quoting: int, compression: str, extra: str, last_line_ends: bool
) -> None:
    rows = [line.split(",") for line in LINES]
    rows = [[*rows[0], "ward"], *([*row, "Chirurgie générale"] for row in rows[1:])]
    match extra:
        case "index":
            rows = [["", *rows[0]], *([str(number), *row] for number, row in enumerate(rows[1:]))]
        case "row names":
            rows = [rows[0], *([str(number), *row] for number, row in enumerate(rows[1:], start=7))]
        case "trailing":
            rows = [rows[0], *([*row, ""] for row in rows[1:])]
        case "trailing with header":
            rows = [[*row, ""] for row in rows]
        case "capitals":
            rows[0] = [name.upper() for name in rows[0]]
        case "dots":  # as R's `write.csv`
            rows[0] = [name.replace("-", ".") for name in rows[0]]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=ending, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    written = (f"sep={delimiter}{ending}" if extra == "sep" else "") + text.getvalue()
    data = COMPRESSIONS[compression]((written if last_line_ends else written.rstrip(ending)).encode(encoding))
    table = read(data)
    pd.testing.assert_frame_equal(table.frame, RAW)
    said = " ".join((table.read_as, *table.notices)).lower()
    for word, unusual in {
        "semicolon": delimiter == ";",
        "utf-16": encoding.startswith("utf-16"),
        "latin-1": encoding == "latin-1",
        "index": extra in ("index", "row names"),
        "trailing": extra.startswith("trailing"),
        "letter case": extra == "capitals",
        "dots": extra == "dots",
        compression: compression != "plain",
    }.items():
        assert (word in said) == unusual, f"{word}: {said}"


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        pytest.param(
            11, LINES[10].replace(",Female,", ',"Female,').replace(",Male,", ',"Male,'), "line 11: a quote", id="quote"
        ),
        pytest.param(21, LINES[20][:-30], r"line 21 has \d+ values", id="truncated"),
        pytest.param(21, LINES[20][:-1], "line 21 is cut off", id="truncated in the last value"),
        pytest.param(5, "(20 rows)", "line 5 has 1 value", id="footer"),
        pytest.param(5, LINES[4] + ",x", "line 5 has 50 values", id="one more"),
        pytest.param(5, LINES[4] + ',"x', "line 5: a quote", id="quote at the end"),
    ],
)
def test_a_line_that_cannot_be_read_refuses_the_file_and_is_named(line: int, replacement: str, message: str) -> None:
    lines = [*LINES[: line - 1], replacement, *LINES[line:]]
    with pytest.raises(BatchRefused, match=message) as caught:
        read("\n".join(lines).encode())
    assert not any(number in str(caught.value) for number in RAW["encounter_id"])


@pytest.mark.parametrize("second", ['"Asian,', '"Asian",', 'Asian",', '"'])
def test_a_quote_that_only_a_later_row_closes_is_named_where_it_was_opened(second: str) -> None:
    """However that row closes the quote: no row in between may be lost."""
    rows = [line.split(",") for line in LINES]
    rows[3][2] = f'"{rows[3][2]}'
    rows[12][2] = second.rstrip(",")
    with pytest.raises(BatchRefused, match="line 4: a quote is opened"):
        read("\n".join(map(",".join, rows)).encode())


def test_a_line_break_in_free_text_is_read_and_rows_that_a_quote_swallowed_there_are_not_lost() -> None:
    notes = [LINES[0] + ",note", *(f'{line},"two\nlines, and a ""quote"""' for line in LINES[1:])]
    pd.testing.assert_frame_equal(read("\n".join(notes).encode()).frame, RAW)
    swallowed = [LINES[0] + ",note", *(f"{line},plain" for line in LINES[1:])]
    swallowed[3] = LINES[3] + ',"plain'
    swallowed[6] = LINES[6] + ',plain"'
    with pytest.raises(BatchRefused, match="line 4: a quote is opened"):
        read("\n".join(swallowed).encode())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "empty", id="no bytes"),
        pytest.param(b"\n\r\n  \n", "empty", id="blank"),
        pytest.param(b"a,b\n1,2\n", "line 1 names no column of the contract", id="other columns"),
        pytest.param("\n".join(LINES[1:]).encode(), "names no column", id="no header"),
        pytest.param(b"<html><table><tr><td>age</td></tr></table>", "HTML", id="HTML"),
        pytest.param(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "binary", id="picture"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "Excel workbook", id="xls"),
        pytest.param(zipped(**{"xl/workbook.xml": b"", "[Content_Types].xml": b""}), "Excel workbook", id="xlsx"),
        pytest.param(zipped(mimetype=b"", content__xml=b""), "OpenDocument", id="ods"),
        pytest.param(b"%PDF-1.7", "PDF", id="PDF"),
        pytest.param(zipped(), "holds 0 files", id="empty zip"),
        pytest.param(zipped(a__csv=CSV, b__csv=CSV), "holds 2 files", id="zip of two"),
        pytest.param(gzip.compress(CSV)[:-9], "gzip is damaged or incomplete", id="half a gzip"),
        pytest.param(zipped(a__csv=CSV)[:200], "zip is damaged or incomplete", id="half a zip"),
        pytest.param(parquet(RAW)[:-9], "damaged or incomplete Parquet", id="half a Parquet"),
        pytest.param(parquet(RAW.assign(age=[["x"]] * 20)), "age holds lists", id="lists"),
        pytest.param(CSV.replace(b"payer_code", b"age"), "age occurs twice", id="column twice"),
        pytest.param(
            "\n".join([LINES[0] + ",age", *(f"{line},x" for line in LINES[1:])]).encode(),
            "age occurs twice", id="last column twice",
        ),
        pytest.param(CSV.replace(b"payer_code", b"AGE"), r"age occurs twice \(age and AGE\)", id="in another letter case"),
        pytest.param(CSV.replace(b"payer_code", b"patient_id"), "patient_nbr and patient_id", id="two names"),
        pytest.param(parquet(RAW.rename(columns={"payer_code": "glipizide_metformin"})), "glipizide", id="two names in Parquet"),
        pytest.param(
            CSV.replace(b"payer_code", b"glipizide.metformin"), r"\(glipizide\.metformin and glipizide-metformin\)", id="with a dot"
        ),
    ],
)  # fmt: skip
def test_what_is_no_table_of_encounters_is_refused_and_named(data: bytes, message: str) -> None:
    with pytest.raises(BatchRefused, match=message):
        read(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_whose_content_is_damaged_is_refused_whatever_its_method(method: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("batch.csv", CSV)
    data = bytearray(buffer.getvalue())
    data[60:300] = bytes(240)
    with pytest.raises(BatchRefused, match="zip is damaged or incomplete"):
        read(bytes(data))


def test_a_zip_with_an_unsupported_method_is_refused_with_a_message_of_its_own() -> None:
    """Windows compresses files above 2 GB with Deflate64 (method 9). The zip is not damaged."""
    data = bytearray(zipped(batch__csv=CSV))
    for header, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(header) + offset] = 9
    with pytest.raises(BatchRefused, match="compressed by a method that is not supported"):
        read(bytes(data))


def test_a_header_without_rows_is_a_table_without_rows() -> None:
    for data in (LINES[0].encode(), f"{LINES[0]}\n\n".encode(), parquet(RAW.head(0))):
        assert read(data).frame.shape == (0, len(COLUMNS))


def test_blank_lines_and_columns_without_use_do_not_count() -> None:
    """The types of columns that are not needed do not matter either, in any row."""
    mixed = [
        f"{LINES[0]},ward,ward,",
        *(f"{line},{'7' if number < 9 else 'ICU'},," for number, line in enumerate(LINES[1:])),
    ]
    table = read("\n\n".join(["", *mixed, " ", ""]).encode())
    pd.testing.assert_frame_equal(table.frame, RAW)
    assert any("ward" in notice for notice in table.notices)


def test_a_row_without_values_in_a_file_of_tabs_counts_as_a_row() -> None:
    data = "\n".join([*LINES, "\t" * (len(COLUMNS) - 1), ""]).replace(",", "\t").encode()
    frame = read(data).frame
    assert len(frame) == len(RAW) + 1
    assert frame.iloc[-1].isna().all()


def test_a_space_after_a_trailing_delimiter_does_not_make_it_a_value() -> None:
    table = read("\n".join([LINES[0], *(f"{line}, " for line in LINES[1:])]).encode())
    pd.testing.assert_frame_equal(table.frame, RAW)
    assert any("trailing" in notice for notice in table.notices)


def test_a_file_with_row_names_that_is_cut_off_in_its_last_value_is_refused() -> None:
    rows = "\n".join([LINES[0], *(f"{number},{line}" for number, line in enumerate(LINES[1:]))])
    with pytest.raises(BatchRefused, match="is cut off"):
        read(rows[:-1].encode())


def test_parquet_of_any_type_gives_the_same_texts() -> None:
    """Whole numbers as decimals or floats stay whole; a column with no value has the type null."""
    numbers = RAW["encounter_id"].astype(int)
    frame = RAW.assign(
        encounter_id=[Decimal(number) for number in numbers],
        patient_nbr=RAW["patient_nbr"].astype(float),
        time_in_hospital=RAW["time_in_hospital"].astype("int8"),
        race=RAW["race"].astype("category"),
        weight=None,
    )
    read_back = read(parquet(frame)).frame
    assert read_back["encounter_id"].tolist() == [str(number) for number in numbers]
    assert read_back["patient_nbr"].tolist() == [f"{number}.0" for number in RAW["patient_nbr"]]
    assert read_back["weight"].isna().all()
    unchanged = [name for name in COLUMNS if name not in ("encounter_id", "patient_nbr", "weight")]
    pd.testing.assert_frame_equal(read_back[unchanged], RAW[unchanged])


def test_ids_that_went_through_32_bit_floats_refuse_the_file() -> None:
    """Several encounters then have one id; in 64 bits each keeps its own."""
    ids = RAW["encounter_id"].astype("int64")
    assert read(parquet(RAW.assign(encounter_id=ids.astype("float64")))).frame["encounter_id"].tolist() == [
        f"{number}.0" for number in ids
    ]
    with pytest.raises(BatchRefused, match="encounter_id holds floating-point numbers of 32 bits"):
        read(parquet(RAW.assign(encounter_id=ids.astype("float32"))))


def test_chunks_hold_every_row_once() -> None:
    many = synthesize(3000, seed=2).drop(columns="readmitted")
    for data in (format_raw(many), parquet(many)):
        with open_table(data, "batch-01", COLUMNS) as table:
            parts = list(raw_chunks(table, 500))
        assert table.rows == 3000
        assert len(parts) > 3
        assert pd.concat(parts)["encounter_id"].tolist() == many["encounter_id"].tolist()


def test_the_published_zip_is_read_whatever_is_beside_its_table() -> None:
    for member in ("diabetic_data__csv", "dataset_diabetes/diabetic_data__csv"):
        assert unpack(zipped(IDS_mapping__csv=b"", **{member: CSV}), "source") == (CSV, "zip")


def test_a_file_that_unpacks_to_more_than_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_UNPACKED_BYTES == 10**9
    monkeypatch.setattr("healthpredict.data.unpack.MAX_UNPACKED_BYTES", 10_000)
    for compression in ("gzip", "bz2", "zstd", "zip"):
        with pytest.raises(BatchRefused, match="larger than 10,000 bytes when unpacked"):
            read(COMPRESSIONS[compression](b"0" * 2_000_000))


def test_outcomes_may_be_separated_by_tabs() -> None:
    table = read_outcomes(b"encounter_id\treadmitted\r\n1\t<30\r\n", "outcomes.txt")
    assert table.frame.to_dict("list") == {"encounter_id": ["1"], "readmitted": ["<30"]}
