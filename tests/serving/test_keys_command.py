"""`healthpredict keys`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.serving.keys import KeyRing


def test_a_key_is_made_shown_and_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTHPREDICT_STATE_PATH", str(tmp_path))

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["keys", *arguments], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout.strip()

    key = run("add", "ward-7")
    assert KeyRing(tmp_path / "api-keys.json").accepts(f"Bearer {key}")
    run("add", "ward-8")
    listed = run("list")
    assert key not in listed
    assert [line.split()[-1] for line in listed.splitlines()] == ["ward-7", "ward-8"]
    assert run("revoke", "ward-7") == "Revoked: ward-7"
    assert not KeyRing(tmp_path / "api-keys.json").accepts(f"Bearer {key}")
