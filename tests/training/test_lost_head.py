"""A command whose cluster loses its head ends with one sentence and an exit code of its own."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from healthpredict.errors import ClusterError
from tests.two_nodes import TwoNodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
COMMAND = """
import sys, time
from functools import partial
from healthpredict.cli import main
from healthpredict.training import ray_cluster

def slow(item):
    time.sleep(4)

def app():
    for item, _ in ray_cluster.map_on_cluster(slow, range(20), sys.argv[1]):
        print(item, flush=True)

ray_cluster.SECONDS_BETWEEN_CHECKS = 1
ray_cluster.check_head = partial(ray_cluster.check_head, patience=2)
main.app = app
main.main()
"""


def test_a_lost_head_ends_the_command_with_one_sentence(two_nodes: TwoNodes) -> None:
    command = [sys.executable, "-c", COMMAND, two_nodes.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        two_nodes.kill_head()
        killed = time.monotonic()
        _, said = process.communicate(timeout=120)
    print(f"ended {time.monotonic() - killed:.0f} s after the head")  # noqa: T201
    assert process.returncode == ClusterError.exit_code, said
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert errors == [
        f"Error: The Ray cluster at {two_nodes.address} failed (its head does not respond: Connection refused). "
        "Nothing was written. Start it again, then repeat the command."
    ]
