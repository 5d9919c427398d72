"""Every command in README and docs is run by a test or by CI, accepted by the real parser, or marked as not run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from healthpredict import errors
from healthpredict.cli.main import app
from healthpredict.cloud.errors import CloudError
from healthpredict.config import OTHER_VARIABLES, Settings, variables
from tests.documented import IN_A_SERVICE, PAGES, ROOT

MARK = re.compile(r"<!-- not run: (?P<reason>.+) -->")
FENCE = re.compile(r"^ *```(?P<language>\w*)$")
REQUESTS = ("docs/api.md", "docs/connect-your-ehr.md")
"""Their requests are run by tests/serving/test_documented_requests.py."""
LITERAL = {"VERSION": "3", "STATE": "warn"}
"""What the parser accepts in place of a word that stands for a value."""


@dataclass(frozen=True)
class Block:
    """A fenced block. `reason`: why its commands are not run, from the mark on the line before it."""

    page: str
    language: str
    text: str
    reason: str | None

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, without comments and the parentheses of a subshell."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True)) not in ([], ["("], [")"])]


def blocks_of(page: Path) -> Iterator[Block]:
    lines = iter(page.read_text().splitlines())
    before = ""
    for line in lines:
        if fence := FENCE.match(line):
            text: list[str] = []
            for inner in lines:
                if inner.strip() == "```":
                    break
                text.append(inner)
            mark = MARK.fullmatch(before.strip())
            name = str(page.relative_to(ROOT))
            yield Block(name, fence["language"], "\n".join(text), mark["reason"] if mark else None)
        before = line


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMANDS = [
    pytest.param(block, words, id=f"{block.page}: {' '.join(words)}")
    for block in BLOCKS
    if block.language == "bash"
    for words in block.commands
]


def without_assignments(words: list[str]) -> list[str]:
    """`KEY=$(command words)` is the command; `NAME=value` is none."""
    text = " ".join(words)
    if inner := re.fullmatch(r"\w+=\$\((.*)\)", text):
        return inner[1].split()
    rest = words[1:] if words[0] == "export" else words
    return [] if all(re.match(r"\w+=", word) for word in rest) else words


def targets_run_by_ci_and_tests() -> set[str]:
    found = set(re.findall(r"\bmake ([a-z0-9-]+)", (ROOT / ".ci/run").read_text()))
    for test in (ROOT / "tests").rglob("*.py"):
        found |= set(re.findall(r"""\.make\(\s*"([a-z0-9-]+)\"""", test.read_text()))
    return found


def targets_of_makefile() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def parse(words: list[str]) -> None:
    """Parse a command line of `healthpredict`, without running it. Raises: TyperException."""
    found: TyperGroup | TyperCommand = typer.main.get_command(app)
    context = typer.Context(found, info_name="healthpredict")
    arguments = [LITERAL.get(given, given) for given in words]
    while isinstance(found, TyperGroup):
        assert arguments, "a command is missing"
        name, found, arguments = found.resolve_command(context, arguments)
    found.make_context(name, arguments, parent=context)


@pytest.mark.parametrize(("block", "words"), COMMANDS)
def test_a_command_is_run_or_parsed_or_marked(block: Block, words: list[str]) -> None:
    command = without_assignments(words)
    if not command:
        return
    program = command[0].removeprefix(".venv/bin/")
    if program == "make":
        assert command[1] in targets_of_makefile()
        assert block.reason or command[1] in targets_run_by_ci_and_tests(), f"nothing runs make {command[1]}: mark it"
    elif program == "healthpredict":
        parse(command[1:])
    elif command[: len(IN_A_SERVICE.split())] == IN_A_SERVICE.split():
        parse(command[len(IN_A_SERVICE.split()) :])  # tests/e2e/test_services.py runs it
    elif program == "curl" and block.page in REQUESTS:
        assert block.reason is None, "a test runs it"
    else:
        assert block.reason, "no test runs it: put <!-- not run: reason --> above the block"


def test_the_parser_rejects_what_does_not_exist() -> None:
    for words in (["promot", "3"], ["promote"], ["promote", "three"], ["status", "--all"], ["keys", "make", "ward-7"]):
        with pytest.raises(typer.TyperException):
            parse(words)


def test_blocks_that_are_no_commands_hold_none() -> None:
    """A command in a block of another language would escape the checks."""
    programs = re.compile(r"^\s*(\$ )?(\.venv/bin/|make |healthpredict |curl |docker |prefect |pulumi )", re.MULTILINE)
    for block in BLOCKS:
        assert block.language, f"{block.page}: a block without a language: {block.text[:40]}"
        if block.language != "bash":
            assert not programs.search(block.text), block.text


def commands_in_text(page: Path) -> Iterator[str]:
    """Commands within sentences and tables: `healthpredict ...` and `make ...`."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`]+)`", text):
        words = " ".join(span.split())
        if re.match(r"(healthpredict|make) ", words):
            yield words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_within_the_text_exist(page: Path) -> None:
    for text in commands_in_text(page):
        program, *words = shlex.split(text.replace("[", "").replace("]", ""))
        if program == "make":
            assert words[0] in targets_of_makefile(), text
        else:
            parse(words)


def command_names(command: TyperGroup | TyperCommand, prefix: str = "healthpredict") -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from command_names(inner, f"{prefix} {name}")
    else:
        yield prefix


def test_every_command_is_documented() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    # Of `cloud`, one page lists them all: infra/README.md.
    names = [name for name in command_names(typer.main.get_command(app)) if not name.startswith("healthpredict cloud ")]
    missing = [name for name in names if f"`{name}" not in text]
    assert missing == []


def test_exit_codes_are_those_of_the_errors() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert CloudError.exit_code not in {kind.exit_code for kind in kinds}
    codes = {kind.exit_code for kind in (*kinds, CloudError)}
    table = re.findall(r"^\| (\d+) \|", (ROOT / "docs/operate.md").read_text(), re.MULTILINE)
    assert [int(code) for code in table] == sorted({0, *codes})


def test_every_variable_exists() -> None:
    known = {*variables(Settings), *OTHER_VARIABLES}
    for page in (*PAGES, ROOT / "infra/README.md"):
        named = set(re.findall(r"HEALTHPREDICT_[A-Z0-9_]*[A-Z0-9]", page.read_text()))
        assert named - known == set(), page.name
