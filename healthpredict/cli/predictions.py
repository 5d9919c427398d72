"""`healthpredict`: predictions, their log, and what became of those who were predicted."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from healthpredict import errors
from healthpredict.cli.show import Json, show
from healthpredict.config import Settings

app = typer.Typer()


@app.command()
def serve(
    bundle: Annotated[
        str | None, typer.Option(help="Folder, s3://bucket/prefix or models:/NAME@ALIAS; by default the champion's.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address; by default that of the settings.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; by default that of the settings.")] = None,
    keys: Annotated[Path | None, typer.Option(help="File of API keys; without it, loopback addresses only.")] = None,
    admin_keys: Annotated[Path | None, typer.Option(help="File of keys for POST /admin/reload.")] = None,
) -> None:
    """Serve a bundle in the foreground, with a prediction log in the state folder. SIGHUP looks at its source again."""
    from healthpredict.operations.patient_key import ensure_patient_key

    settings = Settings()
    ensure_patient_key(settings)
    options = {
        "host": host or settings.api_host,
        "port": port or settings.api_port,
        "keys": keys,
        "admin-keys": admin_keys,
        "log": settings.prediction_log_path,
        "patient-key": settings.patient_key_path,
        "cache": settings.state_path / "bundles",
    }
    words = [f"--{name}={value}" for name, value in options.items() if value is not None]
    source = bundle or _champion(settings)
    if settings.tracking_uri is not None:
        words.append(_in_a_pipe(f"--tracking-uri={settings.tracking_uri}"))
    # In place of this process, which may have MLflow loaded: the API needs a tenth of the memory.
    os.execv(sys.executable, [sys.executable, "-m", "healthpredict.serving", source, *words])  # noqa: S606


def _in_a_pipe(argument: str) -> str:
    """A name for an argument that may hold a password: arguments themselves are shown to everyone by `ps`."""
    to_read, to_write = os.pipe()
    os.write(to_write, argument.encode())
    os.close(to_write)
    os.set_inheritable(to_read, True)
    return f"@/dev/fd/{to_read}"


def _champion(settings: Settings) -> str:
    """Where the API finds the champion: the alias, or, where MLflow is no server that it could ask, the folder."""
    if settings.mlflow_uri.startswith("http"):
        return f"models:/{settings.model_name}@champion"
    from healthpredict.operations.context import open_registry

    registry = open_registry(settings)
    champion = registry.by_alias("champion")
    if champion is None:
        raise errors.RegistryError("There is no champion to serve. Train one first: `healthpredict drift-loop`.")
    return str(registry.fetch_bundle(champion).path)


@app.command()
def score(
    source: Annotated[str, typer.Argument(help="csv or Parquet of encounters; local path or s3 URI.")],
    result: Annotated[
        str, typer.Argument(help="To write: .parquet, .csv or .csv.gz; rows without a risk go beside it, with reasons.")
    ],
    as_json: Json = False,
) -> None:
    """Predict every encounter of a file with the champion."""
    from healthpredict.operations.score import score as operation

    settings = Settings()
    if as_json or not sys.stderr.isatty():
        show(operation(settings, source, result), as_json)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(SpinnerColumn(), TextColumn("{task.completed:,} rows"), TimeElapsedColumn()) as bar:
        task = bar.add_task("score", total=None)
        scored = operation(settings, source, result, lambda rows: bar.update(task, completed=rows))
    show(scored, as_json)


@app.command("ship-log")
def ship_log(
    folder: Annotated[Path | None, typer.Option(help="Of the log; by default the local API's.")] = None,
    every: Annotated[float | None, typer.Option(min=1, help="Seconds; by default once, and leave.")] = None,
    as_json: Json = False,
) -> None:
    """Move closed files of the prediction log to the store, as Parquet."""
    from healthpredict.cli.repeat import repeat
    from healthpredict.operations.ship_log import ship_log as operation

    settings = Settings()
    place = folder or settings.prediction_log_path
    if every is None:
        show(operation(settings, place), as_json)
    else:
        repeat(lambda: operation(settings, place), every)


@app.command()
def outcomes(
    source: Annotated[str, typer.Argument(help="csv or Parquet of encounter_id and readmitted; local path or s3 URI.")],
    as_json: Json = False,
) -> None:
    """Record what became of encounters that the API predicted, from a file; `POST /outcomes` does it for a program."""
    from healthpredict.operations.collect_live import record_outcomes

    show(record_outcomes(Settings(), source), as_json)
