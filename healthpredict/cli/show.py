"""Print the result of a command."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from pydantic import BaseModel

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def show(result: BaseModel, as_json: bool, *, hide: set[str] | None = None, title: str | None = None) -> None:
    """Print a result as a table or as JSON. Args: hide, fields that are not in the table; title, title of the table."""
    if as_json:
        typer.echo(result.model_dump_json(indent=2))
        return
    if not sys.stdout.isatty():
        # Programs read whole lines, and a table would wrap them.
        typer.echo("\n".join(f"{name}: {_text(value)}" for name, value in result.model_dump(exclude=hide).items()))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in result.model_dump(exclude=hide).items():
        table.add_row(name, _text(value))
    Console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "\n".join(_text(item) for item in value) or "none"
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_text(item)}" for key, item in value.items())
    return "-" if value is None else str(value)
