"""The lines of README and docs that run `healthpredict` in a service. tests/e2e/test_services.py runs each of them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
IN_A_SERVICE = "docker compose -f docker-compose/compose.yaml exec deploy-worker healthpredict "


def commands_in_the_service(text: str) -> list[list[str]]:
    """The arguments of `healthpredict` in each such line, without comments."""
    lines = re.findall(rf"^ *{re.escape(IN_A_SERVICE)}(.+)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]
