"""A stack whose databases were made by Prefect and MLflow of last year comes up under the images of today, with what they hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import ROOT, Stack, needs_docker

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    needs_docker,
]
OLDER = ("prefect==3.4.0", "mlflow==2.22.0", "psycopg2-binary")


@pytest.fixture
def stack() -> Iterator[Stack]:
    stack = Stack(f"hp-e2e-older-{os.getpid()}")
    try:
        stack.build()
        yield stack
    finally:
        stack.destroy()


def versions(stack: Stack) -> list[list[list[str]]]:
    return [stack.rows(database, "SELECT version_num FROM alembic_version") for database in ("prefect", "mlflow")]


def test_databases_of_older_releases_are_brought_up_to_date(stack: Stack, tmp_path: Path) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    # With the dependencies of that time.
    install = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--exclude-newer", "2025-07-01"]
    subprocess.run([*install, "--target", str(tmp_path), *OLDER], check=True)
    tmp_path.chmod(0o755)
    stack.compose("up", "--detach", "--wait", "postgres")
    # The older server has not yet met the home of today's, and a busy machine.
    prefect = ("--env", "PREFECT_HOME=/tmp/prefect", "--env", "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=120")
    for service, release in (("prefect-server", "prefect"), ("mlflow", "mlflow")):
        stack.compose(
            *("run", "--rm", "--no-deps", "-T", "--env", "PYTHONPATH=/older", *prefect),
            *("--volume", f"{tmp_path}:/older:ro", "--volume", f"{ROOT}/tests/e2e/older.py:/older.py:ro"),
            *(service, "python", "/older.py", release),
        )
    before = versions(stack)
    # Which keeps what they hold.
    stack.make("down")
    stack.make("up")
    assert all(new != old for new, old in zip(versions(stack), before, strict=True)), "there was nothing to upgrade"
    (run,) = [run for run in stack.runs() if run["flow"] == "of-last-year"]
    assert run["state_type"] == "COMPLETED"
    run_id = stack.champion()["run_id"]
    assert stack.rows("mlflow", f"SELECT key, value FROM latest_metrics WHERE run_uuid = '{run_id}'") == [
        ["auroc", "0.625"]
    ]
