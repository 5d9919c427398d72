"""Lines of the log can be read, also those of earlier versions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logged import encounter_of, outcome, prediction, rows

from healthpredict.data.contract import RECORD_COLUMNS, Column, Kind
from healthpredict.prediction_log.lines import (
    LogEntry,
    OutcomeLine,
    lines_text,
    patients_text,
    prediction_text,
    read_outcomes,
    read_predictions,
)
from healthpredict.prediction_log.pseudonym import pseudonyms

KEY = bytes(32)
WRITTEN = (
    b'{"format":652111291,"patients":[null]}\n'
    b'[1800000000000000,"/predict",true,["a1",3,"d9",0.25,false],7,["Caucasian","Female","[70-80)",null,"1","1","7",3,'
    b'null,"InternalMedicine",41,0,12,0,0,1,"250.83","428",null,9,"None",">8","No","No","No","No","No","No","No","No","No",'
    b'"No","No","No","No","No","No","No","No","Up","No","No","No","No","No","Ch","Yes"]]\n'
)
PATIENTS = WRITTEN.splitlines(keepends=True)[0]


def values(column: Column) -> st.SearchStrategy[Any]:
    match column.kind:
        case Kind.ID:
            return st.none() | st.integers(1, 2**63 - 1)
        case Kind.COUNT:
            return st.integers(column.minimum, column.maximum)
        case Kind.CODE:
            assert column.pattern is not None
            return st.none() | st.from_regex(column.pattern, fullmatch=True)
        case _:
            return st.sampled_from(column.allowed)


RECORDS = st.fixed_dictionaries({column.field: values(column) for column in RECORD_COLUMNS})


def entry_of(record: dict[str, Any], risk: float = 0.5) -> LogEntry:
    answer = {
        "request_id": "id",
        "model_version": 2,
        "bundle_digest": "digest",
        "readmission_risk": risk,
        "high_risk": True,
    }
    return LogEntry(1_999, "/explain", False, answer, encounter_of(record), hold_out_probability=0.1)


def text_of(*predictions: LogEntry) -> bytes:
    patients, lines = zip(*map(prediction_text, predictions), strict=True)
    return patients_text(patients, KEY) + b"".join(lines)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(RECORDS, st.floats(0, 1)), min_size=1, max_size=5))
def test_predictions_are_read_with_the_pseudonym(predicted: list[tuple[dict[str, Any], float]]) -> None:
    answered = {"time": 1, "request_id": "id", "endpoint": "/explain", "dry_run": False, "model_version": 2}
    answered |= {"bundle_digest": "digest", "high_risk": True, "hold_out_probability": 0.1}
    expected = []
    for record, risk in predicted:
        patient_id = record["patient_id"]
        replaced = {"patient_id": patient_id and pseudonyms(KEY, [patient_id])[0]}
        expected.append(answered | {"readmission_risk": risk} | record | replaced)
    assert rows(text_of(*(entry_of(record, risk) for record, risk in predicted))) == expected


def test_line_of_an_earlier_version_is_read() -> None:
    """If this fails, logs that wait to be shipped are lost: a new version must read the old format too."""
    (read,) = rows(WRITTEN)
    assert (read["time"], read["request_id"], read["dry_run"], read["readmission_risk"]) == (
        18 * 10**14,
        "a1",
        True,
        0.25,
    )
    assert (read["encounter_id"], read["patient_id"], read["weight"], read["diag_1"]) == (7, None, None, "250.83")
    assert read["hold_out_probability"] is None
    assert (read["number_inpatient"], read["insulin"], read["change"], read["diabetesMed"]) == (1, "Up", "Ch", "Yes")
    assert rows(b'{"time":5,"encounter_id":7,"readmitted":"<30"}\n', "outcomes") == [outcome(7, "<30", time=5)]


def test_outcomes_are_read_as_they_were_written() -> None:
    reported = [outcome(1), outcome(2**63 - 1, ">30", time=5)]
    assert rows(lines_text([OutcomeLine(**each) for each in reported]), "outcomes") == reported


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=4), st.data())
def test_every_line_has_its_own_patient_wherever_the_file_ends(groups: list[list[int]], data: st.DataObject) -> None:
    """A process that is killed leaves pseudonyms without predictions at the end of a file."""
    entries = [[entry_of(prediction(patient, patient)) for patient in group] for group in groups]
    lines = b"".join(text_of(*group) for group in entries).splitlines(keepends=True)
    left = lines[: data.draw(st.integers(2, len(lines)))]
    read = rows(b"".join(left))
    assert len(read) == sum(line.startswith(b"[") for line in left)
    assert [line["patient_id"] for line in read] == pseudonyms(KEY, [line["encounter_id"] for line in read])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0\0",
        b"\xff\n",
        b"[]\n",
        b'{"SECRET": 1}\n',
        WRITTEN[:-20],
        PATIENTS,
        WRITTEN.removeprefix(PATIENTS),
        WRITTEN.replace(b"[null]", b"[]"),
        WRITTEN.replace(b"[null]", b'["SECRET"]'),
        WRITTEN.replace(b"0.25", b'"SECRET"'),
        WRITTEN.replace(b"Caucasian", b"\xff"),
        WRITTEN.replace(b'"Up",', b""),
        WRITTEN.replace(b'"Up"', b"5"),
        WRITTEN.replace(b'"Yes"]', b'"Yes"],.1,5'),
        WRITTEN.replace(b'"Yes"]', b'"Yes"],"SECRET"'),
        WRITTEN + WRITTEN.replace(b":652", b":653"),
    ],
)
def test_other_lines_are_errors_that_contain_no_values(text: bytes) -> None:
    for read in (read_predictions, read_outcomes):
        with pytest.raises(ValueError, match=r"log|empty|version") as caught:
            read(text)
        assert "SECRET" not in str(caught.value)


def test_a_line_is_short() -> None:
    """Each request writes one. With names of fields, it would be three times as long."""
    assert len(text_of(entry_of(prediction(10**9, 10**9)))) < 600
