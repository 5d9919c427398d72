"""Run an operation as a Prefect task."""

from __future__ import annotations

from typing import Any, Final, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from healthpredict.errors import HealthPredictError, NotFound, RegistryError, StorageError
from healthpredict.operations.step_wrapper import Operation

_RETRY_DELAYS_SECONDS: Final[list[float]] = [5, 10, 20, 40]
"""Long enough for a server to restart."""


def as_task(
    operation: Operation, *, retry_on: tuple[type[HealthPredictError], ...] = (RegistryError, StorageError)
) -> Operation:
    """Return a task with the same arguments and result.

    Results are not cached, and retries are safe: an operation reads in ledger and registry what was done already.

    Args:
        operation: the operation to run.
        retry_on: errors after which it is retried, for more than a minute; by default, those of a server that does not respond.
    """

    def may_succeed_later(_task: Any, _run: Any, state: Any) -> bool:
        error = state.result(raise_on_failure=False)
        return isinstance(error, retry_on) and not isinstance(error, NotFound)

    wrapped = task(
        name=operation.__name__.replace("_", "-"),
        retries=len(_RETRY_DELAYS_SECONDS),
        retry_delay_seconds=_RETRY_DELAYS_SECONDS,
        retry_condition_fn=may_succeed_later,
        cache_policy=NO_CACHE,
    )(operation)
    return cast(Operation, wrapped)


def run_tags() -> dict[str, str]:
    """Return tags that name the current flow run, for the run in MLflow."""
    return {"flow_run_id": str(flow_run.id), "flow_run_name": str(flow_run.name)}
