"""Every message of the page "Troubleshooting" is one that the code prints, and every problem that the doctor finds exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
VALUE = "…"
AWS = {"NoSuchBucket", "AccessDenied"}
"""Codes of AWS, for which the code has advice."""


def texts(path: Path) -> list[str]:
    """The literals of a module. In an f-string, each value is replaced by one sign."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else VALUE for part in node.values]
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


TEXTS = [text for path in sorted((ROOT / "healthpredict").rglob("*.py")) for text in texts(path)]
MESSAGES = [
    message
    for row in re.findall(r"^\| (`.+?) \| .+ \|$", PAGE, re.MULTILINE)
    for message in re.findall(r"`([^`]+)`", row)
]


def is_printed(message: str) -> bool:
    """Whether one literal contains the message, where a value may stand for any text."""
    pattern = ".*".join(re.escape(part) for part in message.split(VALUE))
    return any(re.search(pattern, text, re.DOTALL) for text in TEXTS)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_page_exists_in_the_code(message: str) -> None:
    assert is_printed(message)


def test_the_tables_are_read_and_a_message_that_does_not_exist_is_found() -> None:
    assert len(MESSAGES) >= 30
    assert set(MESSAGES) >= AWS
    assert not is_printed("The log folder … does not exist; Docker creates it as root.")


def test_the_page_begins_with_the_doctor() -> None:
    first = re.search(r"```bash\n(.+)\n```", PAGE)
    assert first is not None
    assert first[1] == ".venv/bin/healthpredict doctor"
