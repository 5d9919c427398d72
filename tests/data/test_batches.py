"""Data arrives in order of time, nothing is lost, and outcomes are used only once they are known."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthpredict.data.batches import batch_names, matured, natural_key, split_batches


def raw_of(ids: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"encounter_id": ids}, dtype="str")


def test_rows_are_in_numeric_order_of_encounter_id() -> None:
    """As text, 1000 would come before 9."""
    batches = split_batches(raw_of(["1000", "9", "30", "200", "8"]), initial_share=0.2, n_batches=2)
    assert {name: batch["encounter_id"].tolist() for name, batch in batches.items()} == {
        "initial": ["8"],
        "batch-01": ["9", "30"],
        "batch-02": ["200", "1000"],
    }


def test_row_without_a_readable_id_goes_last() -> None:
    """It must reach the quarantine and not be lost."""
    batches = split_batches(raw_of(["x", "3", "1", "2"]), initial_share=0.5, n_batches=1)
    assert batches["batch-01"]["encounter_id"].tolist() == ["3", "x"]


@settings(deadline=None)
@given(n_rows=st.integers(0, 60), initial_share=st.floats(0.01, 0.99), n_batches=st.integers(0, 12))
def test_every_row_arrives_once(n_rows: int, initial_share: float, n_batches: int) -> None:
    """And no batch is more than a row larger than another."""
    batches = split_batches(raw_of([str(row) for row in range(n_rows)]), initial_share, n_batches)
    assert list(batches) == batch_names(n_batches)
    assert [int(row) for batch in batches.values() for row in batch["encounter_id"]] == list(range(n_rows))
    sizes = [len(batch) for name, batch in batches.items() if name != "initial"]
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


def test_without_batches_everything_is_there_at_first() -> None:
    """For an installation whose batches come from its API."""
    batches = split_batches(raw_of(["3", "x", "1"]), initial_share=0.2, n_batches=0)
    assert {name: batch["encounter_id"].tolist() for name, batch in batches.items()} == {"initial": ["1", "3", "x"]}


@pytest.mark.parametrize(
    ("arriving", "label_delay", "known"),
    [
        ("batch-01", 1, ["initial"]),
        ("batch-03", 1, ["initial", "batch-01", "batch-02"]),
        ("batch-03", 2, ["initial", "batch-01"]),
        ("batch-01", 3, []),
        ("initial", 1, []),
    ],
)
def test_outcomes_mature_label_delay_batches_later(arriving: str, label_delay: int, known: list[str]) -> None:
    """An immature outcome enters no metric and no training."""
    assert matured(batch_names(4), arriving, label_delay) == known


def test_names_are_in_natural_order_in_any_letter_case() -> None:
    """Names that differ only in letter case are still two names, always in the same order."""
    names = ["Batch-2", "batch-6", "batch-06", "Batch-7", "batch-7", "BATCH-10", "ward"]
    assert natural_key("Batch-7") != natural_key("batch-7")
    shuffled = names[::-1]
    assert sorted(shuffled, key=natural_key) == [
        "Batch-2",
        "batch-06",
        "batch-6",
        "Batch-7",
        "batch-7",
        "BATCH-10",
        "ward",
    ]
