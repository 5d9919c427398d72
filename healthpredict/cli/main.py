"""The `healthpredict` command: parses, calls one operation, renders."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, ValidationError

from healthpredict import errors
from healthpredict.cli.cloud import app as cloud_app
from healthpredict.cli.cluster import app as cluster_app
from healthpredict.config import Settings, quiet_vendors

if TYPE_CHECKING:
    from healthpredict.data.plant import Plan

app = typer.Typer(
    help="Predict 30-day readmission of patients with diabetes, and keep the prediction good.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Source(StrEnum):
    """Where the drift loop's batches come from."""

    BATCHES = "batches"
    LIVE = "live"


class State(StrEnum):
    """What a batch can lead to."""

    STABLE = "stable"
    WARN = "warn"
    RETRAIN = "retrain"


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command()
def prepare(
    source: Annotated[
        str | None, typer.Option(help="Path or URL of the csv or zip; by default the UCI archive.")
    ] = None,
    synthetic: Annotated[bool, typer.Option(help="Make encounters up where the archive cannot be reached.")] = False,
    plant: Annotated[
        Path | None, typer.Option(help="YAML file of drift to plant, for tests and demonstrations.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch a data set, check it, and lay it out as initial data and batches."""
    from healthpredict.operations.prepare import prepare as operation

    planted = _plan(plant) if plant else None
    _show(operation(Settings(), source, allow_synthetic=synthetic, planted=planted), as_json, hide={"settings"})


def _plan(path: Path) -> Plan:
    import yaml

    from healthpredict.data.plant import read_plan

    try:
        return read_plan(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise errors.ConfigurationError(f"{path} cannot be read as YAML: {error}.") from error


@app.command()
def train(
    trigger: Annotated[str, typer.Option(help="Name of the training; once for the same data.")] = "manual",
    arriving: Annotated[str | None, typer.Option(help="Batch on whose arrival; by default the newest.")] = None,
    as_json: Json = False,
) -> None:
    """Train a challenger on everything that has matured, and gate it."""
    from healthpredict.operations.dataset import arrived_batches
    from healthpredict.operations.drift_loop import train as operation

    settings = Settings()
    outcome = operation(settings, trigger, arriving or arrived_batches(settings)[-1])
    _show(outcome.gate if not as_json else outcome, as_json, title=f"Version {outcome.challenger.version}")


@app.command()
def promote(
    version: Annotated[int, typer.Argument(help="Version of the registry.")],
    force: Annotated[bool, typer.Option(help="Also where the gate has not let it pass.")] = False,
    git_ref: Annotated[
        str | None, typer.Option(help="Code around it, for an image; by default what runs here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Roll a version out, verified, and make it the champion."""
    from healthpredict.operations.context import open_ledger
    from healthpredict.operations.roll_out import roll_out

    settings = Settings()
    decision = open_ledger(settings).last("gate", version=version)
    if not force and not (decision and decision["promote"]):
        raise errors.ConfigurationError(
            f"Version {version} has not passed the gate (`healthpredict trace {version}`). Use --force to promote it anyway."
        )
    _show(roll_out(settings, version, git_ref=git_ref), as_json)


@app.command()
def rollback(
    version: Annotated[int | None, typer.Argument(help="That was in service; by default the one before.")] = None,
    as_json: Json = False,
) -> None:
    """Put an earlier version into service again, with the image that it had, verified, and make it the champion."""
    from healthpredict.operations.roll_back import roll_back

    _show(roll_back(Settings(), version), as_json)


@app.command()
def resume(as_json: Json = False) -> None:
    """Start again what was in service, after the machine or its container was."""
    from healthpredict.operations.resume import resume as operation

    rollout = operation(Settings())
    if rollout is None:
        typer.echo("Nothing was promoted yet.")
    else:
        _show(rollout, as_json)


@app.command("drift-loop")
def drift_loop(
    source: Annotated[
        Source, typer.Option(help="live first cuts a batch from what the API predicted and was told.")
    ] = Source.BATCHES,
    as_json: Json = False,
) -> None:
    """Look at every batch that is not done; retrain and roll out where that is decided."""
    from healthpredict.operations.drift_loop import drift_loop as operation

    done = operation(Settings(), source=source.value)
    typer.echo(json.dumps(done) if as_json else f"Batches done: {', '.join(done) or 'none, nothing is pending'}")


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
    from healthpredict.storage.patient_key import make_patient_key

    settings = Settings()
    make_patient_key(settings.patient_key_path)
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


app.add_typer(cloud_app, name="cloud")
app.add_typer(cluster_app, name="cluster")
keys_app = typer.Typer(help="API keys: make, show and revoke.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
KeyFile = Annotated[Path | None, typer.Option("--file", help="File of keys; by default in the state folder.")]


@keys_app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    file: KeyFile = None,
    given: Annotated[
        Path | None,
        typer.Option("--given", help="File with a key made elsewhere: admit it, in place of one of this name."),
    ] = None,
) -> None:
    """Make a key and print it, this once. To rotate: add, let the caller change over, revoke."""
    from healthpredict.serving.keys import add_key as operation
    from healthpredict.serving.keys import admit_key

    if given is not None:
        admit_key(file or _key_file(), name, given)
    else:
        typer.echo(operation(file or _key_file(), name))


@keys_app.command("patient")
def add_patient_key(
    file: Annotated[Path | None, typer.Option("--file", help="By default in the state folder.")] = None,
) -> None:
    """Make the key for the pseudonyms of patients in the prediction log, where there is none. Keep it: it cannot change."""
    from healthpredict.storage.patient_key import make_patient_key

    path = file or Settings().patient_key_path
    make_patient_key(path)
    typer.echo(f"The key is in {path}")


@keys_app.command("list")
def list_keys(file: KeyFile = None) -> None:
    """Show whose keys are in force, and since when."""
    from healthpredict.serving.keys import list_keys as operation

    for key in operation(file or _key_file()):
        typer.echo(f"{key.created_at:%Y-%m-%d %H:%M} {key.name}")


@keys_app.command("revoke")
def revoke_key(name: Annotated[str, typer.Argument(help="As it was added.")], file: KeyFile = None) -> None:
    """Remove a key. Running services refuse it within about a second."""
    from healthpredict.serving.keys import revoke_key as operation

    operation(file or _key_file(), name)
    typer.echo(f"Revoked: {name}")


def _key_file() -> Path:
    return Settings().api_keys_path


@app.command()
def score(
    source: Annotated[str, typer.Argument(help="csv or Parquet of encounters; local path or s3 URI.")],
    result: Annotated[str, typer.Argument(help="Parquet to write; bad rows go beside it.")],
    as_json: Json = False,
) -> None:
    """Predict every encounter of a file with the champion."""
    from healthpredict.operations.score import score as operation

    settings = Settings()
    if as_json or not sys.stderr.isatty():
        _show(operation(settings, source, result), as_json)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(SpinnerColumn(), TextColumn("{task.completed:,} rows"), TimeElapsedColumn()) as bar:
        task = bar.add_task("score", total=None)
        scored = operation(settings, source, result, lambda rows: bar.update(task, completed=rows))
    _show(scored, as_json)


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
        _show(operation(settings, place), as_json)
    else:
        repeat(lambda: operation(settings, place), every)


@app.command()
def outcomes(
    source: Annotated[str, typer.Argument(help="csv of encounter_id and readmitted; local path or s3 URI.")],
) -> None:
    """Note what became of encounters that the API predicted, from a file; `POST /outcomes` does it for a program."""
    from healthpredict.operations.collect_live import record_outcomes

    typer.echo(f"Outcomes noted: {record_outcomes(Settings(), source)}")


@app.command()
def status(as_json: Json = False) -> None:
    """Show the champion, what is served, the last batch and what is pending."""
    from healthpredict.operations.status import status as operation

    _show(operation(Settings()), as_json)


@app.command()
def trace(version: Annotated[int, typer.Argument(help="Version of the registry.")], as_json: Json = False) -> None:
    """Show the line from a version to its data, run, commit, gate decision and bundle."""
    from healthpredict.operations.trace import trace as operation

    _show(operation(Settings(), version), as_json)


@app.command()
def ledger(
    restore: Annotated[
        bool, typer.Option(help="Read such lines, and write them to a ledger that has no others.")
    ] = False,
) -> None:
    """Print everything that was done and decided, one JSON object a line."""
    from healthpredict.operations.context import open_ledger

    events = open_ledger(Settings())
    if restore:
        events.restore([json.loads(line) for line in sys.stdin])
        return
    for event in events.events():
        typer.echo(json.dumps(event))


@app.command()
def copy(
    source: Annotated[str, typer.Argument(help="Local path or s3 URI; - is standard input.")],
    target: Annotated[str, typer.Argument(help="The same; - is standard output.")],
) -> None:
    """Copy a file to the store or from it."""
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
def report(
    open_page: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write summary.json, index.html and plots about everything the ledger holds."""
    from healthpredict.operations.report import write_report

    settings = Settings()
    summary = write_report(settings)
    page = f"{settings.reports_uri}/index.html"
    typer.echo(summary.model_dump_json(indent=2) if as_json else f"Written: {page}")
    if open_page:
        if "://" in settings.reports_uri:
            raise errors.ConfigurationError(f"{page} is not on this machine; fetch it, or open it where it is served.")
        typer.launch(Path(page).resolve().as_uri())


@app.command()
def decide(
    state: Annotated[State, typer.Argument(help="What the next batch leads to, whatever it shows.")],
    because: Annotated[str, typer.Option(help="Why; it is shown with the decision.")],
) -> None:
    """Decide the next batch by hand."""
    from healthpredict.monitoring.policy import Override
    from healthpredict.operations.decide_by_hand import decide_by_hand

    decide_by_hand(Settings(), Override(state=state.value, because=because))
    typer.echo(f"The next batch leads to: {state.value}")


@app.command()
def columns() -> None:
    """Print the data contract as a Markdown table."""
    from healthpredict.data.contract import COLUMNS

    typer.echo("| column | kind | values | may be missing | description |\n|---|---|---|---|---|")
    for column in COLUMNS:
        values = column.values.replace("|", r"\|")
        missing = "yes" if column.nullable else "no"
        typer.echo(f"| `{column.name}` | {column.kind} | {values} | {missing} | {column.description} |")


@app.command()
def demo(
    source: Annotated[str | None, typer.Option(help="Path or URL of the data; by default the UCI archive.")] = None,
    keep: Annotated[bool, typer.Option(help="Leave API, Prefect and MLflow running.")] = False,
    fresh: Annotated[bool, typer.Option(help="Forget an earlier demo.")] = False,
    stop: Annotated[bool, typer.Option(help="Only end what an earlier demo left running.")] = False,
    state: Annotated[Path, typer.Option(help="Folder of the demo's data, databases and logs.")] = Path("var/demo"),
) -> None:
    """Run the whole system on this machine: train, serve, ten batches, drift, retraining, rollout."""
    from healthpredict.cli.demo import run_demo, stop_demo

    if stop:
        stop_demo(state)
        return
    run_demo(state, source, keep=keep, fresh=fresh)


def main() -> None:
    """Run the command; an error of ours ends with its message and exit code, without a traceback."""
    quiet_vendors()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("healthpredict").setLevel(logging.INFO)
    try:
        app()
    except errors.HealthPredictError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    except ValidationError as error:
        # The only values validated here are settings.
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        typer.secho(f"Error: wrong setting: {problems}. Settings are HEALTHPREDICT_* variables.", fg="red", err=True)
        sys.exit(errors.ConfigurationError.exit_code)


def _show(result: BaseModel, as_json: bool, *, hide: set[str] | None = None, title: str | None = None) -> None:
    if as_json:
        typer.echo(result.model_dump_json(indent=2))
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
