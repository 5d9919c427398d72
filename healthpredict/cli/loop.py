"""`healthpredict`: from data to a model in service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from healthpredict import errors
from healthpredict.cli.show import Json, show
from healthpredict.config import Settings
from healthpredict.monitoring.params import DriftState

if TYPE_CHECKING:
    from healthpredict.data.plant import Plan

app = typer.Typer()


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
    show(operation(Settings(), source, allow_synthetic=synthetic, planted=planted), as_json, hide={"settings"})


def _plan(path: Path) -> Plan:
    from healthpredict.data.plan_file import parse_plan

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise errors.ConfigurationError(f"{path} cannot be read: {reason}.") from error
    return parse_plan(text, str(path))


@app.command()
def train(
    trigger: Annotated[str, typer.Option(help="Name of the training; once for the same data.")] = "manual",
    arriving: Annotated[str | None, typer.Option(help="Batch on whose arrival; by default the newest.")] = None,
    as_json: Json = False,
) -> None:
    """Train a challenger on everything that has matured, and gate it."""
    from healthpredict.operations.dataset import arriving_batch
    from healthpredict.operations.drift_loop import train as operation

    settings = Settings()
    outcome = operation(settings, trigger, arriving_batch(settings, arriving))
    show(outcome.gate if not as_json else outcome, as_json, title=f"Version {outcome.challenger.version}")


@app.command()
def promote(
    version: Annotated[int, typer.Argument(min=1, help="Version of the registry.")],
    force: Annotated[bool, typer.Option(help="Also if it did not pass the gate; needs --because.")] = False,
    because: Annotated[str | None, typer.Option(help="The reason, for the ledger.")] = None,
    git_ref: Annotated[
        str | None, typer.Option(help="Code around it, for an image; by default what runs here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Roll a version out that passed the gate, verified, and make it the champion."""
    from healthpredict.operations.promote import promote as operation

    show(operation(Settings(), version, force=force, because=because, git_ref=git_ref), as_json)


@app.command()
def rollback(
    version: Annotated[
        int | None, typer.Argument(min=1, help="That was in service; by default the one before.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put an earlier version into service again, with the image that it had, verified, and make it the champion."""
    from healthpredict.operations.roll_back import roll_back

    show(roll_back(Settings(), version), as_json)


@app.command()
def resume(as_json: Json = False) -> None:
    """Start again what was in service, after the machine or its container was."""
    from healthpredict.operations.resume import resume as operation

    rollout = operation(Settings())
    if rollout is None:
        typer.echo("Nothing was promoted yet.")
    else:
        show(rollout, as_json)


@app.command("drift-loop")
def drift_loop(
    source: Annotated[
        Literal["batches", "live"],
        typer.Option(help="live first makes batches from the logged predictions of the API."),
    ] = "batches",
    as_json: Json = False,
) -> None:
    """Look at every batch that is not done; retrain and roll out where that is decided."""
    from healthpredict.operations.drift_loop import drift_loop as operation

    run = operation(Settings(), source=source)
    if as_json:
        show(run, as_json)
        return
    typer.echo("\n".join([f"Batches done: {', '.join(run.done) or 'none'}", *run.sentences]))


@app.command()
def decide(
    state: Annotated[DriftState, typer.Argument(help="What the next batch leads to, whatever it shows.")],
    because: Annotated[str, typer.Option(help="Why; it is shown with the decision.")],
) -> None:
    """Decide the next batch by hand."""
    from healthpredict.monitoring.policy import Override
    from healthpredict.operations.decide_by_hand import decide_by_hand

    decide_by_hand(Settings(), Override(state=state, because=because))
    typer.echo(f"The next batch leads to: {state}")


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
