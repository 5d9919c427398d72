"""`healthpredict`: FHIR exports in and out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from healthpredict.cli.show import Json, show
from healthpredict.operations.installation import Installation

app = typer.Typer()


@app.command("import-fhir")
def import_fhir(
    folder: Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix of a FHIR R4 Bulk Data export (NDJSON).")],
    as_json: Json = False,
) -> None:
    """Turn a hospital's FHIR export into batches and outcomes, and say what was left out and what cannot be known."""
    from healthpredict.operations.import_fhir import import_fhir as operation

    installation = Installation()
    with _progress_bar("import") as progress:
        report = operation(installation, folder, progress)
    typer.echo(report.model_dump_json(indent=2) if as_json else "\n".join(report.sentences))


@app.command("export-fhir")
def export_fhir(
    source: Annotated[
        str, typer.Argument(help="Path or s3:// URI of a csv or Parquet file of encounters with readmitted.")
    ],
    folder: Annotated[str, typer.Argument(help="Empty folder or s3://bucket/prefix for the export.")],
    compress: Annotated[bool, typer.Option(help="Write .ndjson.gz files.")] = True,
    as_json: Json = False,
) -> None:
    """Write a data set as a FHIR R4 Bulk Data export, with made-up dates."""
    from healthpredict.operations.export_fhir import export_fhir as operation

    installation = Installation()
    with _progress_bar("export") as progress:
        exported = operation(installation, source, folder, compress=compress, progress=progress)
    show(exported, as_json)


@contextmanager
def _progress_bar(what: str) -> Iterator[Callable[[float], None]]:
    """Yield a function that receives the share (0-1) that is done. The bar is only shown on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share: bar.update(task, completed=share)
