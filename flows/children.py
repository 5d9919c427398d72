"""Child flows of the drift loop. If the loop runs as a deployment, they run as deployments too, otherwise as subflows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect import Flow, State, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.states import Cancelling

from healthpredict.errors import HealthPredictError


class ChildFailed(HealthPredictError):
    """A child run did not complete. The next run of the loop determines what serves, and repeats the batch."""


def run_child(child: Flow[..., Any], **parameters: Any) -> None:
    """Run a flow and wait for it: through its deployment if this run has a deployment, otherwise as a subflow.

    Args:
        child: the flow. Its deployment has the same name.
        parameters: parameters of the flow.

    Raises:
        ChildFailed: it did not complete.
    """
    if runtime.deployment.id is None:
        child(**parameters)
        return
    # The key contains the attempt, because for a known key Prefect returns the existing run, even if it failed.
    key = "-".join(map(str, (runtime.flow_run.id, runtime.flow_run.run_count, child.name, *parameters.values())))
    run = run_deployment(f"{child.name}/{child.name}", parameters=parameters, idempotency_key=key, timeout=None)
    assert isinstance(run, FlowRun)  # awaitable in asynchronous flows only
    state = run.state
    if state is None or not state.is_completed():
        message = state.message or "" if state else ""
        name = state.name if state else "unknown"
        raise ChildFailed(
            f"{child.name} run {run.name!r} ended as {name}. {message} Its page has the details.".replace("  ", " ")
        )


def run_again(seconds: float) -> None:
    """Schedule one more run of this deployment, after some seconds. Outside a deployment, do nothing."""
    if runtime.deployment.id is not None:
        later = datetime.now(UTC) + timedelta(seconds=seconds)
        run_deployment(
            UUID(runtime.deployment.id),
            parameters=runtime.flow_run.parameters,
            scheduled_time=later,
            timeout=0,
            as_subflow=False,
        )


def cancel_children(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel the children of a cancelled run, which run in processes of their own."""
    children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run.id]))
    with get_client(sync_client=True) as client:
        for child in client.read_flow_runs(flow_run_filter=children):
            if child.state and not child.state.is_final():
                client.set_flow_run_state(child.id, Cancelling())
