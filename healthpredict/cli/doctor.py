"""`healthpredict doctor`: what is wrong with the set-up, and how to fix it."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from typing import Annotated

import typer

from healthpredict import errors
from healthpredict.cli.show import Json
from healthpredict.operations.installation import Installation

app = typer.Typer()


@app.command()
def doctor(
    compose: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="Check only this host, for the services of this docker compose command."),
    ] = None,
    before_start: Annotated[
        bool, typer.Option("--before-start", help="Leave out MLflow and Prefect, because they are not started yet.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check files, folders, ports, stores, servers and the cluster, and name what fixes each problem."""
    from healthpredict.doctor.examine import examine_all, examine_host
    from healthpredict.doctor.project import ComposeProject

    if compose is not None and before_start:
        raise errors.ConfigurationError("Use --compose or --before-start: --compose checks no servers.")
    installation = Installation()
    if compose is not None:
        problems = examine_host(ComposeProject(shlex.split(compose)))
    else:
        problems = examine_all(installation, servers=not before_start)
    if as_json:
        typer.echo(json.dumps([asdict(problem) for problem in problems], indent=2))
    else:
        typer.echo("\n".join(str(problem) for problem in problems) or "No problem was found.")
    if problems:
        raise errors.ProblemsFound(len(problems))
