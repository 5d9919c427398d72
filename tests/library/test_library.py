"""The package as a library: it predicts as the API does."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bundles import as_records, draw_encounters

import healthpredict
from healthpredict.bundle.model import Bundle
from healthpredict.data.contract import BY_FIELD
from healthpredict.errors import BundleError, EncounterRefused, MissingColumns
from healthpredict.library import Explanation, Prediction, Reason
from healthpredict.operations.score_chunk import NOT_AT_RISK
from healthpredict.serving.encounter import as_sent
from healthpredict.serving.predictions import classified
from healthpredict.serving.reasons import explain

RECORDS = as_records(draw_encounters(20, seed=11))
SENT = [as_sent(record) for record in RECORDS]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """As `pandas.read_csv` returns a file: numbers where all values are numbers, NaN where missing."""
    rows = pd.DataFrame(SENT, index=[f"row {number}" for number in range(len(SENT))])
    ids = ("admission_type_id", "discharge_disposition_id", "admission_source_id")
    numbers = {name: pd.to_numeric(rows[name]) for name in ids}
    return rows.assign(encounter_id=range(1, len(rows) + 1), patient_nbr=7, ward="north", **numbers)


def test_it_predicts_and_explains_as_the_api(bundle: Bundle) -> None:
    loaded = healthpredict.load_bundle(bundle.path)
    for record, sent in zip(RECORDS, SENT, strict=True):
        predicted, explained = healthpredict.predict(loaded, sent), healthpredict.explain(loaded, sent)
        assert classified(bundle, bundle.risk(record)).items() <= vars(predicted).items() <= vars(explained).items()
        expected = explain(bundle, record)
        assert [vars(reason) for reason in explained.reasons] == expected.pop("reasons")
        assert expected.items() <= vars(explained).items()
    assert (predicted.bundle_digest, predicted.model_version) == (bundle.digest, 1)
    assert predicted.threshold == bundle.manifest.threshold


def test_a_frame_gets_the_same_risks(bundle: Bundle, frame: pd.DataFrame) -> None:
    predicted = healthpredict.predict(bundle, frame)
    one_by_one = [healthpredict.predict(bundle, sent) for sent in SENT]
    assert list(predicted.index) == list(frame.index)
    np.testing.assert_allclose(predicted["readmission_risk"], [one.readmission_risk for one in one_by_one], atol=1e-6)
    assert predicted["high_risk"].tolist() == [one.high_risk for one in one_by_one]
    assert set(predicted["reason"]) == {""}


def test_a_row_that_cannot_be_predicted_says_why_and_keeps_its_place(bundle: Bundle, frame: pd.DataFrame) -> None:
    bad = frame.astype({"discharge_disposition_id": object, "time_in_hospital": object})
    bad.loc["row 3", "discharge_disposition_id"] = 11
    bad.loc["row 5", "time_in_hospital"] = 99
    predicted = healthpredict.predict(bundle, bad)
    assert predicted["reason"]["row 3"] == NOT_AT_RISK
    assert "time_in_hospital" in predicted["reason"]["row 5"]
    without = predicted.loc[["row 3", "row 5"]]
    assert without["readmission_risk"].isna().all() and without["high_risk"].isna().all()
    good = predicted.drop(index=["row 3", "row 5"])
    pd.testing.assert_frame_equal(good, healthpredict.predict(bundle, frame).loc[good.index])


def test_an_empty_frame_gives_an_empty_frame(bundle: Bundle, frame: pd.DataFrame) -> None:
    predicted = healthpredict.predict(bundle, frame.iloc[:0])
    assert len(predicted) == 0
    assert dict(predicted.dtypes) == dict(healthpredict.predict(bundle, frame).dtypes)


def test_a_frame_without_a_column_is_refused(bundle: Bundle, frame: pd.DataFrame) -> None:
    with pytest.raises(MissingColumns, match="A1Cresult"):
        healthpredict.predict(bundle, frame.drop(columns="A1Cresult"))


@pytest.mark.parametrize("missing", [None, float("nan"), np.float64("nan"), pd.NA, "NA"])
def test_every_missing_value_is_missing(bundle: Bundle, missing: object) -> None:
    expected = healthpredict.predict(bundle, SENT[0] | {"weight": None})
    assert healthpredict.predict(bundle, SENT[0] | {"weight": missing}) == expected


@pytest.mark.parametrize("five", [5, 5.0, np.int64(5), np.float32(5)])
def test_a_whole_number_may_have_any_type(bundle: Bundle, five: object) -> None:
    expected = healthpredict.predict(bundle, SENT[0] | {"num_medications": 5})
    assert healthpredict.predict(bundle, SENT[0] | {"num_medications": five}) == expected


@pytest.mark.parametrize("infinite", [float("inf"), np.float32("-inf")])
def test_infinity_is_a_problem_and_not_missing(bundle: Bundle, infinite: object) -> None:
    with pytest.raises(EncounterRefused) as refused:
        healthpredict.predict(bundle, SENT[0] | {"weight": infinite})
    assert set(refused.value.problems) == {"weight"}


@pytest.mark.parametrize("ask", [healthpredict.predict, healthpredict.explain])
def test_all_problems_of_an_encounter_are_listed_without_values(bundle: Bundle, ask: Callable[..., object]) -> None:
    with pytest.raises(EncounterRefused) as refused:
        ask(bundle, SENT[0] | {"time_in_hospital": 98765, "race": "Klingon", "planet": "Q"})
    assert set(refused.value.problems) == {"time_in_hospital", "race", "planet"}
    assert all(name in str(refused.value) for name in refused.value.problems)
    assert "98765" not in str(refused.value) and "Klingon" not in str(refused.value)


def test_an_altered_bundle_is_not_loaded(bundle: Bundle, tmp_path: Path) -> None:
    altered = shutil.copytree(bundle.path, tmp_path / "altered")
    golden = json.loads((altered / "golden.json").read_bytes())
    (altered / "golden.json").write_text(json.dumps(golden[:-1]))
    with pytest.raises(BundleError, match="golden"):
        healthpredict.load_bundle(altered)


def test_arguments_and_fields_are_those_promised() -> None:
    """Who changes one of these breaks the programs of others: that needs a new major version."""
    arguments = {name: [*inspect.signature(getattr(healthpredict, name)).parameters] for name in healthpredict.__all__}
    assert arguments == {
        "explain": ["bundle", "encounter"],
        "load_bundle": ["source", "tracking_uri", "cache"],
        "predict": ["bundle", "encounters"],
    }
    of_the_model = ["threshold", "model_version", "bundle_digest"]
    of_a_prediction = ["readmission_risk", "high_risk", *of_the_model]
    assert [field.name for field in dataclasses.fields(Prediction)] == of_a_prediction
    of_reasons = ["log_odds", "expected_log_odds", "expected_risk", "reasons"]
    assert [field.name for field in dataclasses.fields(Explanation)] == of_a_prediction + of_reasons
    assert [*Reason.model_fields] == ["name", "fields", "contribution"]


def test_the_library_is_imported_only_where_it_is_used() -> None:
    code = "import sys, healthpredict; print('pandas' in sys.modules, healthpredict.predict, 'pandas' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch("False <function predict .+> True\n", ran.stdout)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        healthpredict.train  # noqa: B018


def test_the_package_is_typed() -> None:
    assert Path(healthpredict.__file__).with_name("py.typed").exists()


def test_reasons_name_fields_of_the_contract(bundle: Bundle) -> None:
    fields = {field for reason in healthpredict.explain(bundle, SENT[0]).reasons for field in reason.fields}
    assert fields <= set(BY_FIELD)
