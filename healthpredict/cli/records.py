"""`healthpredict`: the state of the installation, its history and its files."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from healthpredict import errors
from healthpredict.cli.show import Json, show
from healthpredict.operations.installation import Installation

app = typer.Typer()


@app.command()
def status(as_json: Json = False) -> None:
    """Show the champion, what serves, the last batch, and what is pending."""
    from healthpredict.operations.status import status as operation

    show(operation(Installation()), as_json)


@app.command()
def trace(
    version: Annotated[int, typer.Argument(min=1, help="Version of the registry.")], as_json: Json = False
) -> None:
    """Show a version's data, run, commit, gate decisions and bundle."""
    from healthpredict.operations.trace import trace as operation

    show(operation(Installation(), version), as_json)


@app.command()
def card(
    version: Annotated[str, typer.Argument(help="Version of the registry, or champion.")] = "champion",
    form: Annotated[str, typer.Option("--format", help="html, json, xml (CHAI) or fhir (R4).")] = "html",
    to: Annotated[str | None, typer.Option(help="Path or s3:// URI; by default standard output.")] = None,
    template: Annotated[bool, typer.Option(help="Write an empty governance.yaml instead.")] = False,
    croissant: Annotated[bool, typer.Option(help="Write the data set's Croissant metadata instead.")] = False,
) -> None:
    """Write the model card of a version."""
    from healthpredict.operations.card import FORMATS, model_card, render
    from healthpredict.operations.card import croissant as describe
    from healthpredict.reporting.model_card.governance import template as empty

    if template and croissant:
        raise errors.ConfigurationError("--template and --croissant are two commands. Give one of them.")
    if form not in FORMATS:
        raise errors.ConfigurationError(f"There is no format {form!r}. Choose one of {', '.join(FORMATS)}.")
    if template:
        content = empty().encode()
    elif croissant:
        content = describe(Installation())
    else:
        content = render(model_card(Installation(), version), form)
    if to is None:
        typer.echo(content.decode())
        return
    from healthpredict.storage.uris import write_bytes

    try:
        write_bytes(to, content, exclusive=template)
    except errors.AlreadyExists:
        raise errors.ConfigurationError(f"{to} exists already, perhaps filled in. Name another file.") from None
    typer.echo(f"Written: {to}")


@app.command()
def report(
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write a report on all batches and models: index.html, summary.json and plots."""
    from healthpredict.operations.report import write_report

    installation = Installation()
    summary = write_report(installation)
    reports = installation.settings.reports_uri
    page = f"{reports}/index.html"
    typer.echo(summary.model_dump_json(indent=2) if as_json else f"Written: {page}")
    if open_page:
        if "://" in reports:
            raise errors.ConfigurationError(f"{page} is not on this machine. Copy it here to open it.")
        typer.launch(Path(page).resolve().as_uri())


@app.command()
def ledger(
    restore: Annotated[
        bool, typer.Option(help="Read such events from standard input, one JSON object per line, into an empty ledger.")
    ] = False,
    verify: Annotated[
        bool, typer.Option(help="Check that no event was changed, removed or reordered; report the first one that was.")
    ] = False,
) -> None:
    """Print all events of the ledger, one JSON object per line."""
    from healthpredict.operations.check_ledger import check_ledger

    if verify and restore:
        raise errors.ConfigurationError("--verify and --restore are two commands. Give one of them.")
    installation = Installation()
    events = installation.ledger
    if verify:
        check = check_ledger(installation)
        if check.altered is not None:
            raise errors.LedgerAltered(
                f"The ledger {events.uri} was altered. {check.altered.problem} Compare it with a backup."
            )
        typer.echo(
            f"The ledger {events.uri} is unaltered: {check.events} events, each with the digest of the one before it."
        )
        return
    if restore:
        events.restore([_event(number, line) for number, line in enumerate(sys.stdin, 1)])
        return
    for event in events.events():
        typer.echo(json.dumps(event))


def _event(number: int, line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or "sequence" not in event:
        raise errors.ConfigurationError(
            f"Line {number} of the standard input is not an event. Give the lines that `healthpredict ledger` printed."
        )
    return event


@app.command()
def copy(
    source: Annotated[str, typer.Argument(help="Path or s3:// URI. - reads from standard input.")],
    target: Annotated[str, typer.Argument(help="Path or s3:// URI. - writes to standard output.")],
) -> None:
    """Copy a file from or to S3."""
    from healthpredict.storage.uris import local_copy, write_file

    with tempfile.NamedTemporaryFile() as spooled:
        if source == "-":
            shutil.copyfileobj(sys.stdin.buffer, spooled)
            spooled.flush()
        with local_copy(spooled.name if source == "-" else source) as path:
            if target == "-":
                with path.open("rb") as file:
                    shutil.copyfileobj(file, sys.stdout.buffer)
            else:
                write_file(target, path)


@app.command()
def columns() -> None:
    """Print the data contract as a Markdown table."""
    from healthpredict.data.contract import COLUMNS, DIAGNOSIS_CODING

    typer.echo("| column | kind | values | may be missing | description |\n|---|---|---|---|---|")
    for column in (*COLUMNS, DIAGNOSIS_CODING):
        values = column.values.replace("|", r"\|")
        missing = "yes" if column.nullable else "no"
        typer.echo(f"| `{column.name}` | {column.kind} | {values} | {missing} | {column.description} |")
