"""`python -m healthpredict.serving BUNDLE`: the API as a process, without the rest of the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from healthpredict.errors import HealthPredictError
from healthpredict.serving.server import ServiceParams, serve


def main() -> None:
    """Serve, or say in one line why not and leave with the error's exit code."""
    parser = argparse.ArgumentParser(
        prog="healthpredict.serving",
        description="Answer predictions from one bundle. @FILE stands for arguments in a file, one a line.",
        fromfile_prefix_chars="@",  # a password in an argument would be shown to everyone by `ps`
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("bundle", help="folder, s3://bucket/prefix or models:/NAME@ALIAS")
    parser.add_argument("--host", help="address to listen on; by default 127.0.0.1")
    parser.add_argument("--port", type=int, help="public port; by default 8080")
    parser.add_argument("--verify-port", type=int, help="listen here first, on the public port from SIGUSR1 on")
    parser.add_argument(
        "--handover", type=Path, help="Unix socket to take the public port over from an earlier process"
    )
    parser.add_argument("--keys", type=Path, help="file of API keys; without it only loopback addresses are allowed")
    parser.add_argument("--admin-keys", type=Path, help="file of keys for /admin/reload; without it there is none")
    parser.add_argument("--log", type=Path, help="folder of the prediction log; without it nothing is logged")
    parser.add_argument("--patient-key", type=Path, help="file of the key for pseudonyms of patients, for the log")
    parser.add_argument("--cache", type=Path, help="folder for a fetched bundle; by default var/bundles")
    parser.add_argument("--tracking-uri", help="MLflow server (http://...), for models:/")
    parser.add_argument("--owner", help="ignored here: rollout/local.py finds the processes of an installation by it")
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
