"""`healthpredict cloud`: the host on AWS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from healthpredict.cli.show import Json
from healthpredict.cloud.logs import HostLog

if TYPE_CHECKING:
    from healthpredict.cloud.account import Stack
    from healthpredict.cloud.host import CloudHost

app = typer.Typer(
    help="The host on AWS: create it, start and stop it, connect to it, show its cost.", no_args_is_help=True
)

# The checkout's folder, for commands that are run in another folder.
_CHECKOUT = Path(__file__).resolve().parents[2] / "infra"

StackName = Annotated[str | None, typer.Option("--stack", help="Pulumi stack; by default the only configured one.")]
Region = Annotated[str | None, typer.Option(help="AWS region; by default that of the stack's configuration.")]
Infra = Annotated[Path | None, typer.Option(help="Folder of the Pulumi program; by default ./infra.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@app.command()
def up(stack: StackName = None, region: Region = None, infra: Infra = None, yes: Yes = False) -> None:
    """Create the stack, or update it to its configuration (pulumi up)."""
    from healthpredict.cloud.program import bring_up

    bring_up(_stack(stack, region, infra), confirmed=yes)
    typer.echo("The first start takes up to an hour. `healthpredict cloud status` shows its progress.")


@app.command()
def down(
    stack: StackName = None,
    region: Region = None,
    infra: Infra = None,
    yes: Yes = False,
    check: Annotated[bool, typer.Option("--check", help="Only search for leftovers; destroy nothing.")] = False,
) -> None:
    """Destroy everything, including data and models (pulumi destroy), then search for leftovers."""
    from healthpredict.cloud.leftovers import find_leftovers
    from healthpredict.cloud.program import take_down

    chosen = _stack(stack, region, infra)
    if not check:
        if (
            not yes
            and typer.prompt(f"This destroys data and models. Enter the name of the stack ({chosen.name})")
            != chosen.name
        ):
            typer.echo("Nothing was done.")
            raise typer.Exit(1)
        take_down(chosen, confirmed=yes)
    left = find_leftovers(chosen)
    for leftover in left:
        typer.echo(f"left: {leftover.kind} {leftover.name}")
    if left:
        typer.echo("keepData keeps bucket and repository on purpose; adoptBucket uses them again.")
        typer.echo("If anything else is left, try again in a minute.")
        raise typer.Exit(1)
    typer.echo(f"Nothing of {chosen.name} is left.")


@app.command()
def start(stack: StackName = None, region: Region = None, infra: Infra = None) -> None:
    """Start the host now. The schedule still stops it in the evening."""
    from healthpredict.cloud.host import start_host

    _print_host(
        start_host(_stack(stack, region, infra)),
        "Its services respond after some minutes (healthpredict cloud status).",
    )


@app.command()
def stop(stack: StackName = None, region: Region = None, infra: Infra = None) -> None:
    """Stop the host now. Data and models stay."""
    from healthpredict.cloud.host import stop_host

    _print_host(stop_host(_stack(stack, region, infra)), "Its disk still costs money (healthpredict cloud cost).")


@app.command()
def status(stack: StackName = None, region: Region = None, infra: Infra = None, as_json: Json = False) -> None:
    """Show the host, its health, and when it starts and stops."""
    from healthpredict.cloud.host import read_status

    found = read_status(_stack(stack, region, infra))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    host = found.host
    typer.echo(f"host      {host.instance} ({host.instance_type}), {host.state}, last started {host.started}")
    typer.echo(
        f"health    {host.health or 'not reported yet'}{'' if host.state == 'running' else ' (before it stopped)'}"
    )
    typer.echo(f"session   {'unknown' if found.session is None else 'reachable' if found.session else 'not reachable'}")
    for name, expression in sorted(found.schedules.items()):
        typer.echo(f"{name:<9} {expression}")


@app.command()
def tunnel(
    stack: StackName = None,
    region: Region = None,
    infra: Infra = None,
    *,
    prefect: Annotated[int, typer.Option(help="Local port of Prefect.")] = 4200,
    mlflow: Annotated[int, typer.Option(help="Local port of MLflow.")] = 5000,
    api: Annotated[int, typer.Option(help="Local port of the API.")] = 8000,
    ssh: Annotated[bool, typer.Option("--ssh", help="Use SSH, if sshCidr allows it.")] = False,
    identity: Annotated[Path | None, typer.Option(help="File of the private key for --ssh.")] = None,
) -> None:
    """Open tunnels to Prefect, MLflow and the API, and keep them until Ctrl-C."""
    from healthpredict.cloud.tunnel import forwards, tunnel

    wanted = forwards(prefect, mlflow, api)

    def ready(host: CloudHost) -> None:
        typer.echo(f"Tunnels to {host.instance}; Ctrl-C closes them.")
        for forward in wanted:
            typer.echo(f"{forward.name:<9} http://127.0.0.1:{forward.local}")

    try:
        tunnel(_stack(stack, region, infra), wanted, ssh=ssh, identity=identity, ready=ready)
    except KeyboardInterrupt:
        typer.echo("Closed.")


@app.command()
def logs(
    source: Annotated[
        HostLog, typer.Argument(help="A systemd unit of the host, a container, or the first start.")
    ] = HostLog.ALL,
    lines: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of lines.")] = 100,
    stack: StackName = None,
    region: Region = None,
    infra: Infra = None,
) -> None:
    """Show the end of a log of the host. This needs no tunnel."""
    from healthpredict.cloud.logs import read_logs

    typer.echo(read_logs(_stack(stack, region, infra), source, lines))


@app.command()
def cost(
    stack: StackName = None,
    region: Region = None,
    infra: Infra = None,
    actual: Annotated[
        bool, typer.Option("--actual", help="Also query the Cost Explorer, which costs .01 USD.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Estimate the cost of a month from the configuration; with --actual, also show what AWS has counted."""
    from healthpredict.cloud.cost import estimate, read_actual

    chosen = _stack(stack, region, infra)
    month = estimate(chosen)
    counted = read_actual(chosen) if actual else None
    if as_json:
        result = {"estimate": month.model_dump(), "actual": counted.model_dump() if counted else None}
        typer.echo(json.dumps(result, indent=2))
        return
    for line in month.lines:
        typer.echo(f"{line.usd:>7.2f}  {line.what} ({line.amount})")
    typer.echo(
        f"{month.total:>7.2f}  USD a month, at the prices of {month.as_of}, without tax; budget {month.budget:g}"
    )
    if month.worst > month.total:
        typer.echo(f"{month.worst:>7.2f}  with the maximum charge for additional processor time")
    typer.echo(f"{month.always_on:>7.2f}  if the host is never stopped")
    if counted:
        typer.echo(f"{counted.usd:>7.2f}  counted by AWS this month until {counted.until}, for the tag Stack")
        if counted.usd == 0:
            typer.echo("         0 can mean that the tag Stack is not activated as a cost allocation tag.")


def _stack(name: str | None, region: str | None, infra: Path | None) -> Stack:
    from healthpredict.cloud.account import choose_stack

    folder = infra or (Path("infra") if Path("infra").is_dir() else _CHECKOUT)
    return choose_stack(name, region, folder)


def _print_host(host: CloudHost, more: str) -> None:
    typer.echo(f"{host.instance} is {host.state}. {more}")
