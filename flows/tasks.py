"""How an operation becomes a Prefect task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

Operation = TypeVar("Operation", bound=Callable[..., Any])
_RETRY_DELAY_SECONDS = 5


def as_task(operation: Operation, *, retries: int = 0) -> Operation:
    """Wrap an operation: same arguments, same result, and a task run to look at.

    Results are not cached: an operation knows by itself, from ledger and registry, what is done already.
    """
    wrapped = task(
        name=operation.__name__.replace("_", "-"),
        retries=retries,
        retry_delay_seconds=_RETRY_DELAY_SECONDS,
        cache_policy=NO_CACHE,
    )(operation)
    return cast(Operation, wrapped)


def run_tags() -> dict[str, str]:
    """Tags that lead from a model back to the flow run that made it."""
    return {"flow_run_id": str(flow_run.id), "flow_run_name": str(flow_run.name)}
