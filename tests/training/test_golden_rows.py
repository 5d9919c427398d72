"""Golden rows match the contract, include edge cases, and belong to no patient."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from bundles import as_records
from encoded_hospital import Hospital
from labelled import label_and_fold

from healthpredict.data.contract import FEATURE_COLUMNS, Kind
from healthpredict.features.frame import encode_frame, fit_encoder
from healthpredict.training.golden import golden_encounters

CODES = [column.field for column in FEATURE_COLUMNS if column.kind is Kind.CODE]
COUNTS = [column for column in FEATURE_COLUMNS if column.kind is Kind.COUNT]


@pytest.fixture(scope="module")
def golden(hospital: Hospital) -> pd.DataFrame:
    return golden_encounters(hospital.training, 64, seed=7)


def test_every_value_fits_the_contract(golden: pd.DataFrame) -> None:
    """They are sent to the API as requests. A row that it rejects could not be checked."""
    rows = as_records(golden)
    problems = {(c.field, p) for row in rows for c in FEATURE_COLUMNS if (p := c.problem(row[c.field]))}
    assert problems == set()
    assert list(golden.columns) == [column.field for column in FEATURE_COLUMNS]
    assert len(golden) == 64


def test_dtypes_are_those_of_the_training_data(hospital: Hospital, golden: pd.DataFrame) -> None:
    assert golden.dtypes.to_dict() == hospital.training[golden.columns].dtypes.to_dict()


def test_the_edges_are_there(hospital: Hospital, golden: pd.DataFrame) -> None:
    """Row 0: all missing that may be. Row 1: every code unseen. Rows 2 and 3: every count at its ends."""
    nullable = [column.field for column in FEATURE_COLUMNS if column.nullable]
    assert golden.loc[0, nullable].isna().all()
    for field in CODES:
        assert golden.loc[1, field] not in set(hospital.training[field].dropna())
    for column in COUNTS:
        assert golden.loc[2, column.field] == column.minimum
        assert golden.loc[3, column.field] == column.maximum
    # Beside known values too.
    assert golden.loc[8:, nullable].isna().any().all()


def test_unseen_codes_are_unseen_in_every_table(hospital: Hospital) -> None:
    """Their categories too, also where the data has 999 (complications of care), as the real data has."""
    training = hospital.training.copy()
    for field in ("diag_1", "diag_2", "diag_3"):
        training.loc[:19, field] = "999.99"
    label, fold = label_and_fold(training)
    encoder, _ = fit_encoder(training, label, fold)
    row = as_records(golden_encounters(training, 8, seed=7))[1]
    for source in encoder.sources:
        if source.column in CODES and not source.name.endswith(".group"):
            assert encoder.position(source, row[source.column]) == encoder.size(source.name) - 1, source.name


def test_no_value_is_rare(hospital: Hospital) -> None:
    """A code of nine encounters could identify a person."""
    training = hospital.training.copy()
    training["payer_code"] = "MC"
    training.loc[:8, "payer_code"] = "QQ"
    training.loc[9:18, "payer_code"] = "RR"
    found = set(golden_encounters(training, 500, seed=0)["payer_code"].dropna())
    assert found == {"MC", "RR", "ZZ"}


def test_no_row_is_a_patients(hospital: Hospital, golden: pd.DataFrame) -> None:
    """Each column is drawn independently."""
    rows = pd.concat([hospital.training[golden.columns].astype(object), golden.astype(object)], ignore_index=True)
    assert not rows.duplicated(keep=False).iloc[-len(golden) :].any()


def test_the_same_seed_gives_the_same_rows(hospital: Hospital, golden: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(golden_encounters(hospital.training, 64, seed=7), golden)
    assert not golden_encounters(hospital.training, 64, seed=8).equals(golden)


def test_a_column_without_any_value_is_no_obstacle(hospital: Hospital) -> None:
    """Weight is missing in nearly all real encounters."""
    training = hospital.training.assign(payer_code=pd.Series(np.nan, hospital.training.index, dtype="str"))
    training["weight"] = pd.Categorical([None] * len(training), dtype=training["weight"].dtype)
    found = golden_encounters(training, 16, seed=0)
    assert found["payer_code"].dropna().tolist() == ["ZZ"]
    assert np.isfinite(encode_frame(hospital.encoder, found)).all()
