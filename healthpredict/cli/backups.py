"""`healthpredict backup` and `restore`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from typing import Annotated

import typer

from healthpredict.cli.show import Json, show
from healthpredict.config import Settings

app = typer.Typer()


@app.command()
def backup(
    to: Annotated[
        str | None,
        typer.Option(help="Folder or s3://bucket/prefix, by default that of the settings; - is standard output."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy databases, ledger, data, models and keys into one archive, and check it. It holds patients and keys."""
    from healthpredict.operations.backup import backup as operation

    settings = Settings()
    made = operation(settings, stream=sys.stdout.buffer) if to == "-" else operation(settings, to)
    if settings.prefect_api_url:
        from flows.events import tell_backup

        tell_backup(made)
    if as_json:
        typer.echo(made.model_dump_json(indent=2), err=to == "-")
    elif to != "-":
        show(made, as_json, hide={"uri"})
        # Alone on the last line, for scripts.
        typer.echo(made.uri)


@app.command()
def restore(
    source: Annotated[
        str | None, typer.Argument(help="An archive, local or s3; - is standard input; by default the newest backup.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a backup into an installation that holds nothing yet and does not run."""
    from healthpredict.errors import NotFound
    from healthpredict.operations.backup import backups
    from healthpredict.operations.restore import restore as operation

    settings = Settings()
    if source is None:
        found = backups(settings)
        if not found:
            raise NotFound(f"There is no backup in {settings.backup_place}. Name an archive.")
        source = found[-1]
    settings.state_path.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=settings.state_path, prefix=".restore-") as spooled:
        if source == "-":
            shutil.copyfileobj(sys.stdin.buffer, spooled)
            spooled.flush()
            source = spooled.name
        show(operation(settings, source), as_json)
