"""The commands `export-fhir` and `import-fhir`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from healthpredict.cli.main import app


def test_export_and_import_by_command(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTHPREDICT_DATA_URI", str(tmp_path / "data"))
    monkeypatch.setenv("HEALTHPREDICT_STATE_PATH", str(tmp_path / "state"))
    folder = str(tmp_path / "export")
    exported = CliRunner().invoke(app, ["export-fhir", source, folder, "--json"], catch_exceptions=False)
    assert json.loads(exported.stdout)["encounters"] == 400
    shown = CliRunner().invoke(app, ["import-fhir", folder], catch_exceptions=False).stdout
    assert "index admissions in 11 batches" in shown
    assert "Not known: race" in shown
    report = json.loads(CliRunner().invoke(app, ["import-fhir", folder, "--json"], catch_exceptions=False).stdout)
    assert report["batches"] == []
    assert report["stays_left_out"]["ended against medical advice"] > 0
