"""Connect to Ray, and run functions on the CPUs of a cluster. Ray is imported inside the functions, because that takes a second."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_OBJECT_STORE_BYTES = 512 * 1024**2


@contextmanager
def ray_runtime(address: str | None) -> Iterator[None]:
    """Connect to the Ray cluster at `address`, or start one on this machine that stops at the end of the block."""
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        quiet = {"logging_level": "ERROR", "log_to_driver": False}
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(
                address="local",
                num_cpus=os.cpu_count(),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **quiet,
            )
    try:
        yield
    finally:
        if started_here:
            ray.shutdown()


def map_on_cluster(function: Callable[[T], R], items: Iterable[T], address: str) -> Iterator[tuple[T, R]]:
    """Call a function for each item on all CPUs of a cluster.

    Args:
        function: must be picklable.
        items: read as CPUs become free, so that about as many as the cluster has CPUs are in memory at a time.
        address: of the cluster.

    Yields:
        Each item with its result, in the order of the items.
    """
    import ray

    with ray_runtime(address):
        call = ray.remote(_call)
        at_once = max(1, int(ray.cluster_resources().get("CPU", 1)))
        running: deque[tuple[T, Any]] = deque()
        for item in items:
            running.append((item, call.remote(function, item)))
            if len(running) > at_once:
                first, result = running.popleft()
                yield first, ray.get(result)
        for item, result in running:
            yield item, ray.get(result)


def _call(function: Callable[[T], R], item: T) -> R:
    return function(item)
