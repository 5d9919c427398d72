"""Runs that fall silent are ended by a real Prefect server; no other is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import Event, RelatedResource
from prefect.events.worker import EventsWorker
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Completed, Pending, Running

from flows.automations import set_up_automations
from flows.dead_runs import expect_heartbeats
from flows.pools import POOL_NAMES, set_up_pools
from healthpredict.cli.services import LocalServices
from healthpredict.config import Settings
from healthpredict.rollout.ports import free_port

pytestmark = pytest.mark.slow
# Prefect takes no less than 10; and what a busy machine may need on top of it to notice.
SILENCE = timedelta(seconds=15)
PATIENCE = 90.0
HEARTBEAT = "prefect.flow-run.heartbeat"


@flow(name="silent")
def silent() -> None:
    """Ends at once."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    """Of a server with our pools, which has its automation only from `automation` on."""
    services = LocalServices(tmp_path_factory.mktemp("server"))
    api = services.start_prefect(free_port())
    try:
        services.wait("prefect", f"{api}/health")
        with (
            temporary_settings({PREFECT_API_URL: api, PREFECT_LOGGING_TO_API_ENABLED: False}),
            get_client(sync_client=True) as client,
        ):
            set_up_pools(client, Settings())
            yield client
            # Otherwise, events that were not sent yet would wait for this server for ever, and `prefect_server` for them.
            EventsWorker.drain_all()
    finally:
        services.stop()


def submitted(client: SyncPrefectClient, pool: str | None = POOL_NAMES[0], *states: State[Any]) -> FlowRun:
    """A run of a deployment; without a pool, that of a flow in a notebook."""
    if pool is None:
        run = client.create_flow_run(silent)
    else:
        deployment = client.create_deployment(client.create_flow(silent), name="silent", work_pool_name=pool)
        run = client.create_flow_run_from_deployment(deployment)
    for state in states:
        client.set_flow_run_state(run.id, state)
    return client.read_flow_run(run.id)


def beat(client: SyncPrefectClient, run: FlowRun) -> None:
    """As the engine does it, with what is known of the run."""
    related = [
        {"prefect.resource.id": f"prefect.work-pool.{run.work_pool_id}", "prefect.resource.role": "work-pool"}
        | {"prefect.resource.name": run.work_pool_name}
    ]
    event = Event(
        event=HEARTBEAT,
        resource={"prefect.resource.id": f"prefect.flow-run.{run.id}"},
        related=[RelatedResource.model_validate(one) for one in related if run.work_pool_name],
    )
    client.request("POST", "/events", json=[event.model_dump(mode="json")])


def state_of(client: SyncPrefectClient, run: FlowRun) -> str:
    state = client.read_flow_run(run.id).state
    assert state is not None
    return state.type.value


def test_of_all_runs_only_the_silent_ones_of_our_pools_are_ended(client: SyncPrefectClient) -> None:
    """Among them one that was Running before the automation came, as in a restored database or when its silence is changed."""
    unheard = submitted(client, POOL_NAMES[0], Pending(), Running())
    set_up_automations(client, None, SILENCE)
    pending = submitted(client, POOL_NAMES[0], Pending())
    heard = submitted(client, POOL_NAMES[0], Pending(), Running())
    beat(client, heard)
    completed = submitted(client, POOL_NAMES[0], Pending(), Running(), Completed())
    waiting = submitted(client)
    notebook = submitted(client, None, Running())
    beat(client, notebook)
    alive = submitted(client, POOL_NAMES[1], Pending(), Running())
    dead = (unheard, pending, heard)
    expect_heartbeats(client)
    started = time.monotonic()
    while {state_of(client, run) for run in dead} != {"CRASHED"} or time.monotonic() < started + 2 * SILENCE.seconds:
        assert time.monotonic() < started + PATIENCE, {run.name: state_of(client, run) for run in dead}
        beat(client, alive)
        time.sleep(1)
    assert state_of(client, completed) == "COMPLETED"
    assert state_of(client, waiting) == "SCHEDULED"
    assert state_of(client, notebook) == state_of(client, alive) == "RUNNING"
    beat(client, alive)


def test_heartbeats_of_prefect_name_the_pool(client: SyncPrefectClient) -> None:
    run = submitted(client, POOL_NAMES[0], Pending())
    run_flow(silent, flow_run=run)
    told = {"event": {"name": [HEARTBEAT]}, "resource": {"id": [f"prefect.flow-run.{run.id}"]}}
    started = time.monotonic()
    while not (events := client.request("POST", "/events/filter", json={"filter": told}).json()["events"]):
        assert time.monotonic() < started + PATIENCE, "no heartbeat"
        time.sleep(0.5)
    related = {one["prefect.resource.role"]: one.get("prefect.resource.name") for one in events[0]["related"]}
    assert related["work-pool"] == POOL_NAMES[0]
