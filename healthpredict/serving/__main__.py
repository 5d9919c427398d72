"""`python -m healthpredict.serving BUNDLE`: the API as a process, without the rest of the command line."""

from __future__ import annotations

import argparse
import sys

from pydantic import ValidationError

from healthpredict.errors import HealthPredictError
from healthpredict.serving.server import ServiceParams, serve


def main() -> None:
    """Serve until the process is stopped. On an error, print its message and exit with its code."""
    parser = argparse.ArgumentParser(
        prog="healthpredict.serving",
        description="Serve predictions of one bundle. @FILE reads further arguments from a file, one per line.",
        fromfile_prefix_chars="@",  # for passwords, because `ps` shows the arguments of a process to every user
        argument_default=argparse.SUPPRESS,
    )
    for name, field in ServiceParams.model_fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}" if name != "bundle" else name, help=field.description)
    parser.add_argument("--owner", help="ignored; rollout/local.py recognises the processes of an installation by it")
    arguments = vars(parser.parse_args())
    arguments.pop("owner", None)
    try:
        params = ServiceParams(**arguments)
    except ValidationError as error:
        parser.error("; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors()))
    try:
        serve(params)
    except HealthPredictError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
