"""The `healthpredict` command: parses, calls one operation, renders."""

from __future__ import annotations

import logging
import sys

import typer
from pydantic import ValidationError

from healthpredict import errors
from healthpredict.cli import backups, cloud, cluster, keys, loop, predictions, records
from healthpredict.config import quiet_vendors

app = typer.Typer(
    help="Predict 30-day readmission of patients with diabetes, and keep the prediction good.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (loop, predictions, records, backups):
    app.add_typer(part.app)
for name, part in {"keys": keys, "cluster": cluster, "cloud": cloud}.items():
    app.add_typer(part.app, name=name)


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
