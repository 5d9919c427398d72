"""A search on a cluster of two nodes, one of which is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray
from encoded_hospital import Hospital
from killed_search import Notes, limited, read_notes, search

from tests.two_nodes import TwoNodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
N_TRIALS = 6


class KillSecondNode(Notes):
    """Kills the second node when a trial has begun there."""

    nodes: ClassVar[TwoNodes]

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        super().on_trial_start(iteration, trials, trial, **info)
        if not self.nodes.killed:
            _, pid = ray.get(trial.temporary_state.ray_actor.get_current_ip_pid.remote())
            if pid in self.nodes.pids_of_second():
                self.nodes.kill_second()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._note("recover", trial)


def test_a_node_that_dies_loses_no_trial(two_nodes: TwoNodes, hospital: Hospital, tmp_path: Path) -> None:
    KillSecondNode.nodes = two_nodes
    notes = tmp_path / "notes"
    callbacks = [KillSecondNode(notes)]
    params = limited(N_TRIALS, seconds=400)
    result = search(hospital, tmp_path, params=params, callbacks=callbacks, ray_address=two_nodes.address)
    assert two_nodes.killed
    assert result.trials == N_TRIALS
    trials = {
        event: [note["trial"] for note in read_notes(notes) if note["event"] == event]
        for event in ("recover", "complete")
    }
    assert len(trials["complete"]) == len(set(trials["complete"])) == N_TRIALS
    assert len(trials["recover"]) == 1, "the trial of the second node"
    assert set(trials["recover"]) <= set(trials["complete"])
