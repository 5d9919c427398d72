"""How an operation becomes a Prefect task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from healthpredict.errors import HealthPredictError, NotFound, RegistryError, StorageError

Operation = TypeVar("Operation", bound=Callable[..., Any])
_RETRY_DELAYS_SECONDS: Final[list[float]] = [5, 10, 20, 40]
"""A server that is restarted is back by then."""


def as_task(
    operation: Operation, *, may_pass: tuple[type[HealthPredictError], ...] = (RegistryError, StorageError)
) -> Operation:
    """Wrap an operation: same arguments, same result, and a task run to look at.

    It may be tried again, and results are not cached: an operation knows by itself, from ledger and registry, what is done already.

    Args:
        operation: to wrap.
        may_pass: errors after which it is tried again, for more than a minute; by default those of a server that is away.
    """

    def may_be_back(_task: Any, _run: Any, state: Any) -> bool:
        error = state.result(raise_on_failure=False)
        return isinstance(error, may_pass) and not isinstance(error, NotFound)

    wrapped = task(
        name=operation.__name__.replace("_", "-"),
        retries=len(_RETRY_DELAYS_SECONDS),
        retry_delay_seconds=_RETRY_DELAYS_SECONDS,
        retry_condition_fn=may_be_back,
        cache_policy=NO_CACHE,
    )(operation)
    return cast(Operation, wrapped)


def run_tags() -> dict[str, str]:
    """Tags that lead from a model back to the flow run that made it."""
    return {"flow_run_id": str(flow_run.id), "flow_run_name": str(flow_run.name)}
