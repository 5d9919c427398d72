"""`healthpredict`: from data to a model in service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from healthpredict import errors
from healthpredict.cli.show import Json, show
from healthpredict.config import BatchSource
from healthpredict.monitoring.params import DriftState
from healthpredict.operations.installation import Installation

if TYPE_CHECKING:
    from healthpredict.data.plant import ShiftPlan

app = typer.Typer()


@app.command()
def prepare(
    source: Annotated[
        str | None, typer.Option(help="Path or URL of the csv or zip; by default the UCI archive.")
    ] = None,
    synthetic: Annotated[bool, typer.Option(help="Use synthetic encounters if the archive cannot be used.")] = False,
    plant: Annotated[
        Path | None, typer.Option(help="YAML file that describes drift to plant, for tests and demonstrations.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch a data set, check it, and split it into initial data and batches."""
    from healthpredict.operations.prepare import prepare as operation

    planted = _plan(plant) if plant else None
    show(operation(Installation(), source, allow_synthetic=synthetic, planted=planted), as_json, hide={"settings"})


def _plan(path: Path) -> ShiftPlan:
    from healthpredict.data.plan_file import parse_plan

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise errors.ConfigurationError(f"{path} cannot be read: {reason}.") from error
    return parse_plan(text, str(path))


@app.command()
def train(
    trigger: Annotated[
        str, typer.Option(help="Name of the training. A training with the same name and data is not run again.")
    ] = "manual",
    arriving: Annotated[
        str | None, typer.Option(help="Train as if this batch were arriving; by default the newest batch.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a challenger on all batches with known outcomes, and compare it with the champion."""
    from healthpredict.operations.dataset import arriving_batch
    from healthpredict.operations.search import TrainingRequest
    from healthpredict.operations.train import train as operation

    installation = Installation()
    training = TrainingRequest(trigger=trigger, arriving=arriving_batch(installation, arriving))
    outcome = operation(installation, training)
    show(outcome.gate if not as_json else outcome, as_json, title=f"Version {outcome.challenger.version}")


@app.command()
def promote(
    version: Annotated[int, typer.Argument(min=1, help="Version of the registry.")],
    force: Annotated[bool, typer.Option(help="Promote it even if it did not pass the gate. Needs --because.")] = False,
    because: Annotated[str | None, typer.Option(help="The reason, which the ledger records.")] = None,
    git_ref: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of the code in the image; by default the code that runs here."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Roll out a version that passed the gate, verify it, and make it the champion."""
    from healthpredict.operations.promote import promote as operation

    show(operation(Installation(), version, force=force, because=because, git_ref=git_ref), as_json)


@app.command()
def rollback(
    version: Annotated[
        int | None, typer.Argument(min=1, help="A version that was in service; by default the previous one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Roll back to an earlier version with the image that it had, verify it, and make it the champion."""
    from healthpredict.operations.roll_back import roll_back

    show(roll_back(Installation(), version), as_json)


@app.command()
def resume(as_json: Json = False) -> None:
    """Put the last version into service again, after the machine or its container was restarted."""
    from healthpredict.operations.resume import resume as operation

    rollout = operation(Installation())
    if rollout is None:
        typer.echo("Nothing was promoted yet.")
    else:
        show(rollout, as_json)


@app.command("drift-loop")
def drift_loop(
    source: Annotated[
        BatchSource,
        typer.Option(
            help="Where batches come from. With `live`, first cut them from the logged predictions of the API."
        ),
    ] = "batches",
    as_json: Json = False,
) -> None:
    """Process every batch that is not done; recalibrate or retrain, and roll out, if that is the decision."""
    from healthpredict.operations.drift_loop import drift_loop as operation

    run = operation(Installation(), source=source)
    if as_json:
        show(run, as_json)
        return
    typer.echo("\n".join([f"Batches done: {', '.join(run.done) or 'none'}", *run.sentences]))


@app.command()
def decide(
    state: Annotated[DriftState, typer.Argument(help="The decision on the next batch, whatever its check finds.")],
    because: Annotated[str, typer.Option(help="The reason; it is shown with the decision.")],
) -> None:
    """Set the decision on the next batch by hand."""
    from healthpredict.monitoring.policy import Override
    from healthpredict.operations.decide_by_hand import decide_by_hand

    decide_by_hand(Installation(), Override(state=state, because=because))
    typer.echo(f"The decision on the next batch will be: {state}")


@app.command()
def acknowledge(
    about: Annotated[str, typer.Argument(help="What the alarm is about, as `healthpredict status` shows it.")],
    batch: Annotated[str, typer.Argument(help="The batch that raised it. Alarms of later batches stay open.")],
    because: Annotated[str, typer.Option(help="What you know about it; the ledger records it.")],
) -> None:
    """Acknowledge an alarm, so that it no longer counts as open."""
    from healthpredict.operations.acknowledge import acknowledge as operation

    alarm = operation(Installation(), about, batch, because)
    typer.echo(f"Acknowledged: {alarm.sentence}")


_Source = Annotated[str | None, typer.Option(help="Path or URL of the data; by default the UCI archive.")]
_Keep = Annotated[bool, typer.Option(help="Keep the API, Prefect and MLflow running.")]
_Fresh = Annotated[bool, typer.Option(help="Delete the files of an earlier demo first.")]
_Stop = Annotated[bool, typer.Option(help="Only stop the services of an earlier demo.")]
_State = Annotated[Path, typer.Option(help="Folder of the demo's data, databases and logs.")]


@app.command()
def demo(
    source: _Source = None,
    keep: _Keep = False,
    fresh: _Fresh = False,
    stop: _Stop = False,
    state: _State = Path("var/demo"),
    *,
    effect: Annotated[
        float | None,
        typer.Option(help="Plant interventions that prevent this share (0-1) of the readmissions of treated patients."),
    ] = None,
) -> None:
    """Run the whole system on this machine: train, serve, ten batches, drift, retraining, rollout."""
    from healthpredict.cli.demo import run_demo, stop_demo

    if stop:
        stop_demo(state)
        return
    run_demo(state, source, keep=keep, fresh=fresh, effect=effect)


@app.command("demo-fhir")
def demo_fhir(
    export: Annotated[str | None, typer.Argument(help="Folder of a hospital's FHIR export (NDJSON).")] = None,
    *,
    source: _Source = None,
    keep: _Keep = False,
    fresh: _Fresh = False,
    stop: _Stop = False,
    state: _State = Path("var/demo-fhir"),
) -> None:
    """Run the system on FHIR exports: import, train, serve, and answer an EHR's request with a card."""
    from healthpredict.cli.demo import stop_demo
    from healthpredict.cli.demo_fhir import run_demo_fhir

    if stop:
        stop_demo(state)
        return
    run_demo_fhir(state, export, source, keep=keep, fresh=fresh)
