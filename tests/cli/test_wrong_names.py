"""Wrong names and empty values on the command line: one sentence, the right exit code, and no traceback."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from healthpredict.cli import main as command
from healthpredict.config import Settings
from healthpredict.errors import ConfigurationError
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare
from healthpredict.storage.uris import read_bytes

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in an empty folder; returns its exit code and what it wrote to stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["healthpredict", *arguments])
        with pytest.raises(SystemExit) as ended:
            command.main()
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return int(ended.value.code or 0), error

    return run


@pytest.mark.parametrize("value", ["", " ", "\t"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "--source"],
        ["prepare", "--plant"],
        ["serve", "--bundle"],
        ["serve", "--keys"],
        ["ship-log", "--folder"],
    ],
    ids=" ".join,
)
def test_an_empty_option_is_an_error_that_names_it(run: Run, arguments: list[str], value: str) -> None:
    for words in ([*arguments, value], [*arguments[:-1], f"{arguments[-1]}={value}"]):
        code, error = run(*words)
        assert code == 2
        assert f"{arguments[-1]} is empty" in error


@pytest.mark.parametrize(
    "arguments", [["score", "", "out.csv"], ["score", "in.csv", " "], ["outcomes", ""], ["copy", "-", ""]]
)
def test_an_empty_argument_is_an_error(run: Run, arguments: list[str]) -> None:
    code, error = run(*arguments)
    assert code == 2
    assert "is empty" in error


def test_the_flow_too_refuses_an_empty_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="source is empty"):
        prepare(Installation(Settings(data_uri=str(tmp_path))), "")
    with pytest.raises(ConfigurationError, match="is empty"):
        read_bytes(" ")


@pytest.mark.parametrize(
    ("arguments", "code", "names"),
    [
        (["train", "--arriving", "batch-99"], 2, "batch-99"),
        (["train", "--arriving", "../batch"], 2, "../batch"),
        (["trace", "seven"], 2, "integer"),
        (["trace", "0"], 2, "equal to 1"),
        (["promote", "--force", "0"], 2, "equal to 1"),
        (["rollback", "--", "-1"], 2, "equal to 1"),
        (["keys", "add", "me", "--file", "/dev/null/keys"], 7, "/dev/null"),
        (["keys", "patient", "--file", "."], 2, ". is a folder. Name the file of the patient key."),
        (["keys", "patient", "--file", ".", "--new", "--because", "x"], 2, ". is a folder. Name the file"),
        (["decide", "maybe", "--because", "x"], 2, "maybe"),
        (["drift-loop", "--source", "nowhere"], 2, "nowhere"),
        (["prepare", "--source", "ftp://host/file"], 2, "ftp://host/file"),
        (["prepare", "--source", "."], 7, "Cannot read ."),
        (["prepare", "--source", "not-there.csv"], 7, "not-there.csv"),
        (["prepare", "--plant", "not-there.yaml"], 2, "not-there.yaml"),
        (["prepare", "--plant", "."], 2, ". cannot be read"),
        (["no-such-command"], 2, "no-such-command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_name_is_one_sentence(run: Run, arguments: list[str], code: int, names: str) -> None:
    got, error = run(*arguments)
    assert names in error
    assert got == code


def test_an_unexpected_error_shows_neither_its_text_nor_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("SECRET")

    monkeypatch.setattr("healthpredict.operations.status.status", fail)
    code, error = run("status")
    assert code == 1
    assert "an unexpected KeyError in records.py, line" in error
    assert "HEALTHPREDICT_TRACEBACK=1" in error
    assert "SECRET" not in error


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("path", ["my file.csv", "it's.csv", 'a "b".csv', "$HOME.csv", "a;b &c.csv", "$x"])
@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("demo", "DATA"),
        ("bench-quality", "DATA"),
        ("bench-loop", "DATA"),
        ("bench-drift", "DATA"),
        ("backup", "TO"),
        ("restore", "FILE"),
        ("logs", "SERVICE"),
    ],
)
def test_a_path_is_one_word_in_what_make_runs(target: str, name: str, path: str) -> None:
    words = shlex.split(make(target, f"{name}={path}").splitlines()[-1])
    assert path in words


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_an_environment_and_an_interpreter_may_have_spaces_in_their_names() -> None:
    lines = make("install", "VENV=my env", "PYTHON=/my python/python3").splitlines()
    words = [word for line in lines for word in shlex.split(line)]
    assert {"my env", "/my python/python3", "my env/bin/pip", "my env/.installed"} <= set(words)


def make(*arguments: str) -> str:
    # `make test` hands its own flags down.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    }
    command = ["make", "-n", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
