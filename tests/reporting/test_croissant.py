"""The data set's Croissant metadata follows from the contract and the prepared data."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest
from summaries import DATA

from healthpredict.data.contract import COLUMNS, Kind
from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize
from healthpredict.reporting.croissant import as_croissant


def test_each_column_of_the_contract_is_a_field() -> None:
    described = as_croissant(DATA, "raw/data.csv")
    fields = described["recordSet"][0]["field"]
    assert [field["name"] for field in fields] == [column.name for column in COLUMNS]
    whole = {column.name for column in COLUMNS if column.kind in (Kind.ID, Kind.COUNT)}
    assert {field["name"] for field in fields if field["dataType"] == "sc:Integer"} == whole
    assert described["distribution"][0]["sha256"] == DATA.sha256
    assert described["distribution"][0]["contentUrl"] == "raw/data.csv"


def test_mlcroissant_reads_the_encounters_through_it(tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    raw = format_raw(synthesize(20, seed=1))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/data.csv").write_bytes(raw)
    prepared = DATA.model_copy(update={"sha256": hashlib.sha256(raw).hexdigest()})
    path = tmp_path / "croissant.json"
    path.write_text(json.dumps(as_croissant(prepared, "raw/data.csv")))
    records = list(mlcroissant.Dataset(path).records("encounters"))
    rows = list(csv.DictReader(raw.decode().splitlines()))
    assert [record["encounters/encounter_id"] for record in records] == [int(row["encounter_id"]) for row in rows]
    assert [record["encounters/diag_1"].decode() for record in records] == [row["diag_1"] for row in rows]
