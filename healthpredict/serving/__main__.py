"""`python -m healthpredict.serving BUNDLE`: the API as a process, without the rest of the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from healthpredict.errors import HealthPredictError
from healthpredict.serving.server import serve


def main() -> None:
    """Serve, or say in one line why not and leave with exit code 1."""
    parser = argparse.ArgumentParser(prog="healthpredict.serving", description="Answer predictions from one bundle.")
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="public port")
    parser.add_argument("--verify-port", type=int, help="listen here first, on the public port from SIGUSR1 on")
    parser.add_argument("--keys", type=Path, help="file of API keys; without it only loopback addresses are allowed")
    parser.add_argument("--owner", help="unused: tells the processes of one installation from those of another")
    arguments = parser.parse_args()
    try:
        serve(
            arguments.bundle,
            arguments.host,
            arguments.port,
            verify_port=arguments.verify_port,
            keys_path=arguments.keys,
        )
    except HealthPredictError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
