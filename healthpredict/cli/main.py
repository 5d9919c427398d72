"""The `healthpredict` command: parse the arguments, call one operation, print its result."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import typer

from healthpredict import errors
from healthpredict.cli import backups, cloud, cluster, doctor, fhir, keys, loop, predictions, records
from healthpredict.config import quiet_vendors, shows_tracebacks

app = typer.Typer(
    help="Predict 30-day readmission of patients with diabetes, and keep the prediction good.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (loop, fhir, predictions, records, backups, doctor):
    app.add_typer(part.app)
for name, part in {"keys": keys, "cluster": cluster, "cloud": cloud}.items():
    app.add_typer(part.app, name=name)


def main() -> None:
    """Run the command. On an error, print its message without a traceback, and exit with its code."""
    quiet_vendors()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        reject_blanks(sys.argv[1:])
        app()
    except errors.HealthPredictError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if shows_tracebacks():
            raise
        if isinstance(error, OSError) and error.filename is not None:
            problem, code = f"Cannot use {error.filename}: {error.strerror}.", errors.StorageError.exit_code
        else:
            problem, code = unexpected(error), errors.HealthPredictError.exit_code
        typer.secho(f"Error: {problem}", fg="red", err=True)
        sys.exit(code)


def unexpected(error: Exception) -> str:
    """Describe a bug in this system, without the error's own message, which may contain a patient's value."""
    ours = Path(__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if ours in Path(frame.filename).parents] or frames
    where = f"{Path(inside[-1].filename).name}, line {inside[-1].lineno}"
    return (
        f"an unexpected {type(error).__name__} in {where}. Set HEALTHPREDICT_TRACEBACK=1 and run the command again to see the "
        "traceback; it may show values of patients."
    )


def reject_blanks(arguments: Sequence[str]) -> None:
    """Check that no value on the command line is empty. Otherwise, an unset variable in a script would select the default.

    Raises:
        ConfigurationError: a value is empty or contains only spaces.
    """
    for before, word in pairwise(("healthpredict", *arguments)):
        option, equals, value = word.partition("=")
        if option.startswith("--") and equals and not value.strip():
            raise errors.ConfigurationError(f"{option} is empty. Give a value, or leave it out.")
        if not word.strip():
            name = before if before.startswith("--") else f"The argument after {before!r}"
            raise errors.ConfigurationError(f"{name} is empty. Give a value, or leave it out.")
