"""What the process of a flow run logs: a worker of Prefect imports Prefect first, the command line our code first."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LEVELS = """
import logging
import {first}, {second}
import mlflow
for name in ("prefect.flow_runs", "prefect.task_runs", "mlflow.store.db.utils", "healthpredict.operations"):
    print(name, logging.getLevelName(logging.getLogger(name).getEffectiveLevel()))
"""


@pytest.mark.parametrize(("first", "second"), [("prefect", "flows"), ("flows", "prefect")])
def test_vendors_log_warnings_only_and_operations_their_steps(first: str, second: str) -> None:
    code = _LEVELS.format(first=first, second=second)
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert shown.stderr == ""
    assert shown.stdout.splitlines() == [
        "prefect.flow_runs WARNING",
        "prefect.task_runs WARNING",
        "mlflow.store.db.utils WARNING",
        "healthpredict.operations INFO",
    ]
