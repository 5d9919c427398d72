"""A Ray cluster of two local nodes of one core each, whose second one can be killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil


class TwoNodes:
    """The cluster. Only processes that it started are killed."""

    def __init__(self, cluster: Any, second: Any) -> None:
        self._cluster = cluster
        self._second = second
        self.address: str = cluster.address
        self.killed = False

    def pids_of_second(self) -> set[int]:
        """The processes of the second node."""
        started = [info.process.pid for infos in self._second.all_processes.values() for info in infos]
        children = [child.pid for pid in started for child in psutil.Process(pid).children(recursive=True)]
        return {*started, *children}

    def kill_second(self) -> None:
        self._cluster.remove_node(self._second, allow_graceful=False)
        self.killed = True

    def kill_head(self) -> None:
        """Kill the process that holds the state of the cluster."""
        self._cluster.head_node.kill_gcs_server(check_alive=False)


@contextmanager
def started() -> Iterator[TwoNodes]:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 1024**2}
    # By default, the workers are so nice that beside other tests they hardly run.
    head = {**node, "include_dashboard": False, "_system_config": {"worker_niceness": 0}}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield TwoNodes(cluster, cluster.add_node(**node))
    finally:
        cluster.shutdown()
