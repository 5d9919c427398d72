"""`healthpredict`: predictions, their log, and outcomes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from healthpredict.cli.show import Json, show
from healthpredict.operations.installation import Installation

app = typer.Typer()


@app.command()
def serve(
    bundle: Annotated[
        str | None, typer.Option(help="Folder, s3://bucket/prefix or models:/NAME@ALIAS; by default the champion's.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address; by default the one in the settings.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; by default the one in the settings.")] = None,
    *,
    keys: Annotated[
        Path | None, typer.Option(help="File of API keys; without it, only a loopback address is allowed.")
    ] = None,
    admin_keys: Annotated[Path | None, typer.Option(help="File of keys for POST /admin/reload.")] = None,
    cds_hooks: Annotated[Path | None, typer.Option(help="File of parameters for CDS Hooks, in TOML.")] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate for HTTPS, in PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate, in PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Certificates in PEM; clients must present one that these have signed.")
    ] = None,
) -> None:
    """Serve a bundle in the foreground, with a prediction log in the state folder. On SIGHUP it reloads the bundle."""
    from healthpredict.operations.patient_key import ensure_patient_key

    installation = Installation()
    settings = installation.settings
    ensure_patient_key(installation)
    options = {
        "host": host or settings.api_host,
        "port": settings.api_port if port is None else port,
        "keys": keys,
        "admin-keys": admin_keys,
        "cds-hooks": cds_hooks,
        "tls-certificate": tls_certificate,
        "tls-key": tls_key,
        "tls-client-ca": tls_client_ca,
        "log": settings.prediction_log_path,
        "patient-key": settings.patient_key_path,
        "cache": settings.state_path / "bundles",
    }
    arguments = [f"--{name}={value}" for name, value in options.items() if value is not None]
    arguments += settings.api_options
    source = bundle or _champion(installation)
    if settings.tracking_uri is not None:
        arguments.append(_hidden(f"--tracking-uri={settings.tracking_uri}"))
    # Replace this process, because the API alone needs a tenth of the memory of a process that has loaded MLflow.
    os.execv(sys.executable, [sys.executable, "-m", "healthpredict.serving", source, *arguments])  # noqa: S606


def _hidden(argument: str) -> str:
    """Write an argument to a pipe, and return an `@FILE` argument for it. Otherwise, `ps` would show a password to all users."""
    to_read, to_write = os.pipe()
    os.write(to_write, argument.encode())
    os.close(to_write)
    os.set_inheritable(to_read, True)
    return f"@/dev/fd/{to_read}"


def _champion(installation: Installation) -> str:
    """Return the bundle argument for the champion: its alias if MLflow is a server, else the folder of its bundle."""
    settings = installation.settings
    if settings.mlflow_uri.startswith("http"):
        return f"models:/{settings.model_name}@champion"
    registry = installation.registry
    return str(registry.fetch_bundle(registry.champion()).path)


@app.command()
def score(
    source: Annotated[str, typer.Argument(help="Path or s3:// URI of a csv or Parquet file of encounters.")],
    result: Annotated[
        str,
        typer.Argument(help="File to write: .parquet, .csv or .csv.gz. Rows without a risk go to a file beside it."),
    ],
    as_json: Json = False,
) -> None:
    """Predict every encounter of a file with the champion."""
    from healthpredict.operations.score import score as operation

    installation = Installation()
    if as_json or not sys.stderr.isatty():
        show(operation(installation, source, result), as_json)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(SpinnerColumn(), TextColumn("{task.completed:,} rows"), TimeElapsedColumn()) as bar:
        task = bar.add_task("score", total=None)
        scored = operation(installation, source, result, lambda rows: bar.update(task, completed=rows))
    show(scored, as_json)


@app.command("ship-log")
def ship_log(
    folder: Annotated[Path | None, typer.Option(help="Folder of the log; by default that of the local API.")] = None,
    every: Annotated[
        float | None, typer.Option(min=1, help="Repeat after this many seconds; by default it runs once.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Move closed files of the prediction log to the data URI, as Parquet."""
    from healthpredict.cli.repeat import repeat
    from healthpredict.operations.ship_log import ship_log as operation

    installation = Installation()
    place = folder or installation.settings.prediction_log_path
    if every is None:
        show(operation(installation, place), as_json)
    else:
        repeat(lambda: operation(installation, place), every)


@app.command()
def outcomes(
    source: Annotated[
        str, typer.Argument(help="Path or s3:// URI of a csv or Parquet file with encounter_id and readmitted.")
    ],
    as_json: Json = False,
) -> None:
    """Record the outcomes of encounters that the API predicted. `POST /outcomes` does the same for programs."""
    from healthpredict.operations.collect_live import record_outcomes

    show(record_outcomes(Installation(), source), as_json)


@app.command()
def interventions(
    source: Annotated[
        str,
        typer.Argument(
            help="Path or s3:// URI of a csv or Parquet file with encounter_id, kind, response, reason and acted_at."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Record what was done for encounters that the API predicted. Feedback on cards is recorded by itself."""
    from healthpredict.operations.collect_interventions import record_interventions

    show(record_interventions(Installation(), source), as_json)
