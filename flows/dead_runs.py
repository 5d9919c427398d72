"""Runs whose worker died: they say nothing any more, and without this they would be Running for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.events import Event, RelatedResource
from prefect.events.actions import ChangeFlowRunState

from flows.events import AWAITED, RESOURCE
from flows.pools import NAMES

_BEAT: Final = "prefect.flow-run.heartbeat"
_PENDING: Final = "prefect.flow-run.Pending"
# States in which nobody has to say anything. Cancelling is ended by Prefect's own clock, after five minutes. A run that waits for a
# place of its deployment has never been Pending.
_AT_REST: Final = {
    f"prefect.flow-run.{state}"
    for state in ("Completed", "Failed", "Crashed", "Cancelling", "Cancelled", "AwaitingRetry", "Paused", "Suspended")
}
_ROLE: Final = "prefect.resource.role"
_NAME: Final = "prefect.resource.name"


def end_dead_runs(silence: timedelta) -> AutomationCore:
    """The automation that ends a run that has been silent, from when a worker took it.

    Only runs of our pools: their workers let each run beat every 30 s (PREFECT_FLOWS_HEARTBEAT_FREQUENCY), while
    a flow in a notebook beats every 180 s, as is Prefect's own setting.

    Args:
        silence: three minutes outlive a server that is away for two, with a heartbeat before and after it.
    """
    return AutomationCore(
        name="health-predict: end dead runs",
        description="A run whose worker died says nothing any more. Without this it would be Running for ever.",
        trigger=EventTrigger(
            match={RESOURCE: "prefect.flow-run.*"},
            match_related={_ROLE: "work-pool", _NAME: list(NAMES)},
            for_each={RESOURCE},
            after={_PENDING, _BEAT, AWAITED},
            expect={_BEAT, *_AT_REST},
            posture=Posture.Proactive,
            threshold=1,
            within=silence,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"Its worker has been silent for {silence.total_seconds():.0f} s. The champion is untouched; "
                "the next run goes on from here.",
            )
        ],
    )


def await_life(client: SyncPrefectClient) -> None:
    """Give every run that a worker has, or had, the silence of the automation as time for a sign of life.

    A changed automation has forgotten whom it waited for, and that of a restored database may never have heard of a run.
    """
    states = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=states)),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(NAMES))),
    )
    events = [
        Event(
            event=AWAITED,
            resource={RESOURCE: f"prefect.flow-run.{run.id}", _NAME: run.name},
            related=[
                RelatedResource(
                    {
                        RESOURCE: f"prefect.work-pool.{run.work_pool_id}",
                        _ROLE: "work-pool",
                        _NAME: str(run.work_pool_name),
                    }
                )
            ],
        )
        for run in runs
    ]
    if events:
        # Not by `emit_event`, which goes on where the server did not take it.
        client.request("POST", "/events", json=[event.model_dump(mode="json") for event in events])
