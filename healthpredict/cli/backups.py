"""`healthpredict backup` and `restore`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from typing import Annotated

import typer

from healthpredict.cli.show import Json, show
from healthpredict.operations.installation import Installation

app = typer.Typer()


@app.command()
def backup(
    to: Annotated[
        str | None,
        typer.Option(
            help="Folder or s3://bucket/prefix; by default the place in the settings. - writes to standard output."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy databases, ledger, data, models and keys into one archive, and check it. It contains patient data and keys."""
    from healthpredict.operations.backup import backup as operation

    installation = Installation()
    made = operation(installation, stream=sys.stdout.buffer) if to == "-" else operation(installation, to)
    if installation.settings.prefect_api_url:
        from flows.events import emit_backup

        emit_backup(made)
    if as_json:
        typer.echo(made.model_dump_json(indent=2), err=to == "-")
    elif to != "-":
        show(made, as_json, hide={"uri"})
        # Scripts read the last line.
        typer.echo(made.uri)


@app.command()
def restore(
    source: Annotated[
        str | None,
        typer.Argument(help="Path or s3:// URI of an archive; by default the newest. - reads from standard input."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Restore a backup to an installation that is empty and does not run."""
    from healthpredict.errors import NotFound
    from healthpredict.operations.backup import backups
    from healthpredict.operations.restore import restore as operation

    installation = Installation()
    if source is None:
        found = backups(installation)
        if not found:
            raise NotFound(f"There is no backup in {installation.settings.backup_place}. Name an archive.")
        source = found[-1]
    state = installation.settings.state_path
    state.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=state, prefix=".restore-") as spooled:
        if source == "-":
            shutil.copyfileobj(sys.stdin.buffer, spooled)
            spooled.flush()
            source = spooled.name
        show(operation(installation, source), as_json)
