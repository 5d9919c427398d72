"""Connect to Ray, and run functions on the CPUs of a cluster. Ray is imported inside the functions, because that takes a second."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from healthpredict.errors import ClusterError

T = TypeVar("T")
R = TypeVar("R")
_OBJECT_STORE_BYTES = 512 * 1024**2
_CONNECT_SECONDS = 5.0
SECONDS_BETWEEN_CHECKS = 10.0
"""How often the cluster's head is looked for while its tasks run."""
_PATIENCE_SECONDS = 30.0
"""How long the head may not respond. After 60 s without it, Ray would end this process without an error that can be caught."""


@contextmanager
def ray_runtime(address: str | None) -> Iterator[None]:
    """Connect to the Ray cluster at `address`, or start one on this machine that stops at the end of the block.

    Raises:
        ClusterError: the cluster does not respond, or failed within the block. Ray repeats the tasks of a node that died, so this
            is the node that this process is connected to, or every node on which a task was tried.
    """
    import ray

    started_here = not ray.is_initialized()
    try:
        if started_here:
            _connect(address)
        yield
    except ray.exceptions.RayError as error:
        raise ClusterError(address, type(error).__name__) from error
    finally:
        if started_here:
            ray.shutdown()


def _connect(address: str | None) -> None:
    import ray

    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    if address:
        check_head(address, patience=0)
        try:
            ray.init(address=address, **quiet)
        except ConnectionError as error:
            raise ClusterError(address, type(error).__name__) from error
    else:
        ray.init(
            # With the cores that a limit of the container or pod leaves.
            address="local",
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            **quiet,
        )


def check_head(address: str, patience: float = _PATIENCE_SECONDS) -> None:
    """Check that the head of a cluster accepts connections.

    Args:
        address: `host:port`. Other forms, such as `auto`, are not checked.
        patience: seconds to wait for it.

    Raises:
        ClusterError: it does not.
    """
    host, _, port = address.rpartition(":")
    if "/" in host or not port.isdecimal():
        return
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        except OSError as error:
            if time.monotonic() >= deadline:
                raise ClusterError(address, f"its head does not respond: {error.strerror or error}") from error
            time.sleep(1)
        else:
            return


def map_on_cluster(function: Callable[[T], R], items: Iterable[T], address: str) -> Iterator[tuple[T, R]]:
    """Call a function for each item on all CPUs of a cluster. If a node dies, Ray repeats its calls on another one.

    Args:
        function: must be picklable, and may be called more than once for an item.
        items: read as CPUs become free, so that about as many as the cluster has CPUs are in memory at a time.
        address: of the cluster.

    Yields:
        Each item with its result, in the order of the items.

    Raises:
        ClusterError: the cluster failed.
        Exception: the function raised it.
    """
    import ray

    with ray_runtime(address):
        call, once = ray.remote(_call), ray.put(function)
        at_once = max(1, int(ray.cluster_resources().get("CPU", 1)))
        running: deque[tuple[T, Any]] = deque()
        for item in items:
            running.append((item, call.remote(once, item)))
            if len(running) > at_once:
                first, result = running.popleft()
                yield first, _result(result, address)
        for item, result in running:
            yield item, _result(result, address)


def _result(result: Any, address: str) -> Any:
    import ray

    while not ray.wait([result], timeout=SECONDS_BETWEEN_CHECKS)[0]:
        check_head(address)
    try:
        return ray.get(result)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def _call(function: Callable[[T], R], item: T) -> R:
    return function(item)
