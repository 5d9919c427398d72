"""Raw frames: what is written is read again, and a batch, a history and outcomes have their columns."""

import pandas as pd
import pytest

from healthpredict.data.columns import ENCOUNTER_COLUMNS, OUTCOME_COLUMN
from healthpredict.data.raw import format_raw, read_encounters, read_history, read_outcomes
from healthpredict.data.synthetic import synthesize
from healthpredict.errors import BatchRefused, MissingColumns

RAW = synthesize(20, seed=1)
CSV = format_raw(RAW)


def test_what_is_formatted_is_read_again() -> None:
    pd.testing.assert_frame_equal(read_history(CSV, "batch-01").frame, RAW)


def test_values_with_commas_and_quotes_survive() -> None:
    """A bad value must reach the quarantine as it came."""
    raw = RAW.assign(medical_specialty='Surgery, "General"')
    pd.testing.assert_frame_equal(read_history(format_raw(raw), "batch-01").frame, raw)


@pytest.mark.parametrize("missing", ["?", ""])
def test_missing_is_nan_and_none_is_a_value(missing: str) -> None:
    values = ["7"] * len(ENCOUNTER_COLUMNS)
    values[ENCOUNTER_COLUMNS.index("race")] = missing
    values[ENCOUNTER_COLUMNS.index("A1Cresult")] = "None"
    raw = read_encounters(f"{','.join(ENCOUNTER_COLUMNS)}\n{','.join(values)}\n".encode(), "batch-01").frame
    assert raw["race"].isna().all()
    assert raw["A1Cresult"].tolist() == ["None"]


def test_history_has_outcomes_and_a_batch_has_none() -> None:
    without = format_raw(RAW.drop(columns=OUTCOME_COLUMN))
    assert OUTCOME_COLUMN in read_history(CSV, "source").frame
    assert OUTCOME_COLUMN not in read_encounters(without, "batch-01").frame
    with pytest.raises(MissingColumns, match="missing columns: readmitted"):
        read_history(without, "source")
    with pytest.raises(
        BatchRefused, match="column readmitted; deliver a batch without outcomes, and these in outcomes/"
    ):
        read_encounters(CSV, "batch-01")


def test_renamed_column_is_named_under_both_names() -> None:
    with pytest.raises(MissingColumns, match=r"missing columns: age; unexpected columns: age_band") as caught:
        read_history(CSV.replace(b",age,", b",age_band,"), "batch-01")
    assert caught.value.missing == ("age",)


def test_outcomes_are_two_columns_and_others_are_left_out_with_a_notice() -> None:
    table = read_outcomes(b"encounter_id,ward,readmitted\n1,ICU,<30\n", "outcomes/batch-01.csv")
    assert table.frame.to_dict("list") == {"encounter_id": ["1"], "readmitted": ["<30"]}
    assert table.notices == ("Columns that are not needed were left out: ward.",)
    with pytest.raises(MissingColumns, match="readmitted"):
        read_outcomes(b"encounter_id,outcome\n1,<30\n", "outcomes/batch-01.csv")
