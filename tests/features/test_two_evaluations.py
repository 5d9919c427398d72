"""The encoder gives the same results for frames and for single records."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bundles import as_records
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import as_frame

from healthpredict.data.contract import BY_FIELD, FEATURE_COLUMNS, Column, Kind
from healthpredict.data.icd10 import Icd10Map
from healthpredict.features.encoder import Encoder
from healthpredict.features.frame import encode_frame
from healthpredict.features.record import RecordEncoder

KNOWN_CODES = {
    "payer_code": ["MC", "HM", "ZZ"],
    "medical_specialty": ["InternalMedicine", "Cardiology", "Unheard-Of"],
    "diag_1": ["428", "250.83", "V58", "8", "999.99", "E888", "0"],
    "diag_2": ["276", "250.01", "V45", "E999"],
    "diag_3": ["401", "250", "V99"],
}


def values_of(column: Column) -> st.SearchStrategy[Any]:
    """Any value that the contract allows in a column, or None, because any value can be missing."""
    match column.kind:
        case Kind.COUNT:
            ends = st.sampled_from([column.minimum, column.maximum])
            present: st.SearchStrategy[Any] = st.integers(column.minimum, column.maximum) | ends
        case Kind.CATEGORY:
            present = st.sampled_from(column.allowed)
        case _:
            present = st.sampled_from(KNOWN_CODES[column.field]) | st.from_regex(column.pattern or "", fullmatch=True)
    return st.none() | present


records = st.fixed_dictionaries({column.field: values_of(column) for column in FEATURE_COLUMNS})


def assert_same(encoder: Encoder, frame: pd.DataFrame, rows: list[dict[str, Any]]) -> None:
    matrix = encode_frame(encoder, frame)
    one = RecordEncoder.of(encoder)
    one_by_one = np.stack([one.encode(row) for row in rows])
    assert matrix.dtype == one_by_one.dtype == np.float32
    assert matrix.shape == (len(rows), len(encoder.feature_names))
    different = [name for i, name in enumerate(encoder.feature_names) if (matrix != one_by_one)[:, i].any()]
    assert different == []
    assert matrix.tobytes() == one_by_one.tobytes()


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(records, min_size=1, max_size=4), missing_count=st.sampled_from(["float64", "Int64"]))
def test_frame_and_record_give_the_same_bits(encoder: Encoder, rows: list[dict[str, Any]], missing_count: str) -> None:
    """Missing in any column, codes never seen, counts at their ends: row for row, bit for bit."""
    assert_same(encoder, as_frame(rows, missing_count), rows)


@pytest.mark.parametrize("field", [column.field for column in FEATURE_COLUMNS])
def test_one_missing_value_is_the_same_in_both(encoder: Encoder, training: pd.DataFrame, field: str) -> None:
    """Each column in turn, so that none depends on the luck of the draw."""
    rows = [row | {field: None} for row in as_records(training[[c.field for c in FEATURE_COLUMNS]].head(3))]
    assert_same(encoder, as_frame(rows), rows)


@pytest.mark.parametrize("field", ["diag_1", "diag_2", "diag_3"])
@pytest.mark.parametrize("code", ["٤٢٨", "0", "V00", "E000", "999.99", "E11.65", "E119", "V45.-", "Q00-"])
def test_odd_diagnosis_is_the_same_in_both(encoder: Encoder, training: pd.DataFrame, field: str, code: str) -> None:
    """Digits of another script match the contract's pattern too."""
    row = as_records(training[[c.field for c in FEATURE_COLUMNS]].head(1))[0]
    assert_same(encoder, as_frame([row | {field: code}]), [row | {field: code}])


def test_an_absent_field_is_a_missing_value(encoder: Encoder) -> None:
    nothing = dict.fromkeys(BY_FIELD)
    one = RecordEncoder.of(encoder)
    assert one.encode({}).tobytes() == one.encode(nothing).tobytes()
    assert one.encode({}).tobytes() == encode_frame(encoder, as_frame([nothing])).tobytes()


def test_training_rows_are_the_same_in_both(encoder: Encoder, training: pd.DataFrame) -> None:
    """As they are read in production, with ids and outcome in the frame."""
    assert_same(encoder, training.head(300), as_records(training.head(300)))


def test_json_round_trip_is_exact(encoder: Encoder, training: pd.DataFrame) -> None:
    """An encoder that is stored and read again is the same: order of features, all numbers, all bits of the matrix."""
    stored, icd10 = json.loads(json.dumps([encoder.to_json(), encoder.icd10.to_json()]))
    again = Encoder.from_json(stored, Icd10Map.from_json(icd10))
    assert again == encoder
    assert again.feature_names == encoder.feature_names
    assert list(again.levels) == list(encoder.levels)
    assert encode_frame(again, training).tobytes() == encode_frame(encoder, training).tobytes()


def test_incomplete_json_names_what_is_absent(encoder: Encoder) -> None:
    data = encoder.to_json()
    del data["statistics"]
    with pytest.raises(KeyError, match="statistics"):
        Encoder.from_json(data, encoder.icd10)


def test_every_feature_is_finite_and_exact_in_32_bits(encoder: Encoder, training: pd.DataFrame) -> None:
    """Multiples of 1/1024 survive float32, so that every runtime takes the same branch of a tree."""
    matrix = encode_frame(encoder, training).astype(np.float64)
    assert np.isfinite(matrix).all()
    assert np.array_equal(matrix * 1024, np.round(matrix * 1024))
