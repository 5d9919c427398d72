"""`governance.yaml` is read strictly: what is misspelt or of the wrong type is named, and an empty text is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from cards import stated

from healthpredict.cli import demo
from healthpredict.errors import ConfigurationError
from healthpredict.reporting.model_card.governance import Governance, parse_governance, template


def test_the_template_names_every_text_and_states_none() -> None:
    empty = parse_governance(template(), "governance.yaml")
    assert empty == Governance()
    assert template().count("(required)") == len(empty.missing)
    for name in empty.missing:
        assert f"  {name.partition('.')[2]}: " in template()


def test_nothing_is_missing_if_everything_is_stated() -> None:
    assert stated().missing == ()


def test_a_text_of_blanks_is_missing() -> None:
    assert "use.users" in parse_governance('use: {users: "  "}', "governance.yaml").missing
    assert "use.users" not in parse_governance("use: {users: nurses}", "governance.yaml").missing


def test_values_that_yaml_would_change_stay_text() -> None:
    found = parse_governance("use:\n  users: No\ndata:\n  dates: 2026-01-01\n", "governance.yaml")
    assert (found.use.users, found.data.dates) == ("No", "2026-01-01")


@pytest.mark.parametrize("null", ["~", "null"])
def test_null_states_nothing(null: str) -> None:
    assert "use.users" in parse_governance(f"use:\n  users: {null}\n", "governance.yaml").missing
    assert parse_governance(f"use:\n  users: '{null}'\n", "governance.yaml").use.users == null


@pytest.mark.parametrize("text", ["", "# only a comment\n", "use:\n"])
def test_a_file_without_statements_states_nothing(text: str) -> None:
    assert parse_governance(text, "governance.yaml") == Governance()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("use: [", "cannot be read as YAML"),
        ("use: {users: a, users: b}", "users is given twice"),
        ("use: {user: nurses}", "there is no use.user; the nearest name is use.users"),
        ("uses: {users: nurses}", "there is no uses; the nearest name is use"),
        ("use: {users: [a, b]}", "use.users must be text; for several lines"),
        ("use: {users: {a: b}}", "use.users must be text"),
        ("use: nurses", "use must be a part with names below it"),
        ("- use", "must have parts such as `use:`"),
        (f"use: {{users: {'x' * 5001}}}", "use.users has more than 5000 characters"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_governance(text, "governance.yaml")
    assert message in str(refused.value)
    assert "governance.yaml" in str(refused.value)


def test_the_demonstration_states_everything_that_is_required() -> None:
    path = Path(demo.__file__).with_name("demo_governance.yaml")
    found = parse_governance(path.read_text(encoding="utf-8"), path.name)
    assert found.missing == ()
    assert "Not for patients" in found.use.intended_use
