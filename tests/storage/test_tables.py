"""Frames and JSON by URI."""

import pandas as pd
import pytest

from healthpredict.errors import StorageError
from healthpredict.storage.tables import read_frame, read_json, write_frame, write_json
from healthpredict.storage.uris import join, list_uris, write_bytes

DOSES = pd.CategoricalDtype(("No", "Steady", "Up", "Down"))


def test_a_frame_is_read_as_written_with_unused_and_missing_categories(root: str) -> None:
    frame = pd.DataFrame(
        {
            "encounter_id": [1, 2],
            "insulin": pd.Series(["Up", None], dtype=DOSES),
            "metformin": pd.Series([None, None], dtype=DOSES),
            "payer_code": pd.Series(["MC", None], dtype="str"),
            "diag_1": pd.Series([None, None], dtype="str"),
        }
    )
    for name, rows in (("two", frame), ("none", frame.iloc[:0])):
        uri = join(root, f"{name}.parquet")
        write_frame(uri, rows)
        pd.testing.assert_frame_equal(read_frame(uri), rows)
        assert list(read_frame(uri, columns=["insulin"])) == ["insulin"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"encounter_id\n1\n"])
def test_the_uri_of_a_damaged_frame_is_reported(root: str, content: bytes) -> None:
    uri = join(root, "initial.parquet")
    write_bytes(uri, content)
    with pytest.raises(StorageError, match=r"initial\.parquet is not a readable table"):
        read_frame(uri)


def test_missing_columns_of_a_frame_are_reported(root: str) -> None:
    uri = join(root, "initial.parquet")
    write_frame(uri, pd.DataFrame({"a": [1]}))
    with pytest.raises(StorageError, match="risk"):
        read_frame(uri, columns=["risk"])


def test_json_is_read_as_written(root: str) -> None:
    uri = join(root, "manifest.json")
    write_json(uri, {"name": "Å", "share": 0.25, "none": None, "list": [1]})
    assert read_json(uri) == {"name": "Å", "share": 0.25, "none": None, "list": [1]}


@pytest.mark.parametrize("content", [{"when": object()}, {"share": float("nan")}])
def test_a_value_that_is_not_json_is_not_written(root: str, content: object) -> None:
    with pytest.raises(StorageError, match=r"manifest\.json: its content is not JSON"):
        write_json(join(root, "manifest.json"), content)
    assert list_uris(root) == []


def test_the_uri_of_damaged_json_is_reported(root: str) -> None:
    write_bytes(join(root, "manifest.json"), b'{"half":')
    with pytest.raises(StorageError, match=r"manifest\.json is not JSON"):
        read_json(join(root, "manifest.json"))
