"""Read a drift plan from a YAML file.

YAML 1.1 reads `No` as false, `250.60` as 250.6, `010` as 8 and `12:30` as 750. A plan never means that, so an unquoted value that
YAML would change is rejected, with the advice to quote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from healthpredict.data.contract import COLUMNS, Column, Kind
from healthpredict.data.plant import ShiftPlan, read_plan
from healthpredict.errors import ConfigurationError

_BY_NAME: Final = {column.name: column for column in COLUMNS}
_WHOLE: Final = re.compile(r"0|[1-9][0-9]*")
_NUMBER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_LIKE_A_NUMBER: Final = re.compile(r"[-+.]*[0-9].*")
_CHANGED_TAGS: Final = {f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "timestamp")}
_NULL_TAG: Final = "tag:yaml.org,2002:null"


class _Unquoted(str):
    """A scalar that was written without quotes."""

    __slots__ = ()


class _Loader(yaml.BaseLoader):  # type: ignore[misc] # PyYAML has no types
    """Keeps scalars as text. An unquoted null is None."""

    def construct_scalar(self, node: Any) -> Any:
        text = super().construct_scalar(node)
        if node.style is not None:
            return text
        return None if _tag(text) == _NULL_TAG else _Unquoted(text)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name} is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def parse_plan(text: str, name: str) -> ShiftPlan:
    """Read a plan.

    Args:
        text: YAML of a `ShiftPlan`.
        name: of the file, for messages.

    Raises:
        ConfigurationError: the text is not YAML or not a plan, or a value needs quotes.
    """
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 -- it makes text, lists and mappings only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} cannot be read as YAML: {error}.") from error
    shifts = data.get("shifts") if isinstance(data, Mapping) else None
    for shift in shifts if isinstance(shifts, list) else ():
        problem = _problem(shift) if isinstance(shift, Mapping) else None
        if problem:
            raise ConfigurationError(f"{name}: {problem}")
    return read_plan(data, name)


def _problem(shift: Mapping[str, Any]) -> str | None:
    value, names = shift.get("value"), shift.get("columns")
    if not isinstance(value, _Unquoted) or not isinstance(names, list):
        return None
    if shift.get("kind") in ("add", "scale"):
        return None if _NUMBER.fullmatch(value) else f"{', '.join(names)}: {value} is not a plain decimal number."
    columns = [_BY_NAME[column] for column in names if column in _BY_NAME]
    return next((problem for column in columns if (problem := _problem_of_column(column, value))), None)


def _problem_of_column(column: Column, value: str) -> str | None:
    if _WHOLE.fullmatch(value):
        return None
    if column.kind is Kind.COUNT:
        return f"{column.name}: {value} is not a plain whole number. Allowed: {column.values}."
    if _LIKE_A_NUMBER.fullmatch(value) or _tag(value) in _CHANGED_TAGS:
        return f'{column.name}: YAML does not read {value} as text. Write the value in quotes: "{value}".'
    return None


def _tag(text: str) -> str:
    tag: str = yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))
    return tag
