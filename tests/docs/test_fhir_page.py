"""The page about FHIR exports shows every rule and every setting of the import."""

from __future__ import annotations

from pathlib import Path

from healthpredict.data.contract import BY_FIELD, MEDICATIONS, RECORD_COLUMNS
from healthpredict.data.import_params import ImportParams
from healthpredict.fhir.rules import RULES, Rule

PAGE = (Path(__file__).parents[2] / "docs/fhir.md").read_text()


def row(rule: Rule) -> str:
    """The rule as a row of the page's table."""
    fields = ", ".join(f"`{name}`" for name in rule.field.split(", ")) if rule.field in named() else rule.field
    return f"| {fields} | {rule.reads} | {rule.rule} | {rule.unknown} | {rule.source} |"


def named() -> set[str]:
    return {rule.field for rule in RULES if all(name in BY_FIELD for name in rule.field.split(", "))}


def test_the_page_shows_every_rule() -> None:
    missing = [row(rule) for rule in RULES if row(rule) not in PAGE]
    assert missing == [], "\n".join(missing)


def test_there_is_a_rule_for_every_column() -> None:
    ruled = {name for field in named() for name in field.split(", ")} | {name.replace("-", "_") for name in MEDICATIONS}
    assert {column.field for column in RECORD_COLUMNS} == ruled


def test_the_page_names_every_setting_with_its_default() -> None:
    for name, field in ImportParams.model_fields.items():
        default = "none" if field.default is None else str(field.default).lower()
        assert f"| `HEALTHPREDICT_FHIR__{name.upper()}` | {default} |" in PAGE
