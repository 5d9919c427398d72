"""`healthpredict card`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from healthpredict.cli.main import app
from healthpredict.errors import ConfigurationError


def test_a_template_never_replaces_what_a_hospital_has_stated(tmp_path: Path) -> None:
    file = tmp_path / "governance.yaml"
    command = ["card", "--template", "--to", str(file)]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    filled_in = file.read_text().replace("users:", "users: discharge teams", 1)
    file.write_text(filled_in)
    with pytest.raises(ConfigurationError, match="exists already, perhaps filled in"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert file.read_text() == filled_in
