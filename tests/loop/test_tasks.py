"""What the flows do where MLflow or the store is away for a while."""

from __future__ import annotations

import pytest
from prefect import flow

from flows import tasks
from flows.tasks import as_task
from healthpredict.errors import HealthPredictError, LeakSuspected, NotFound, RegistryError, RolloutError, StorageError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]
ATTEMPTS = 5


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_RETRY_DELAYS_SECONDS", [0] * (ATTEMPTS - 1))


class Failing:
    """An operation that fails a number of times, in a flow of its own."""

    def __init__(self, error: HealthPredictError, times: int) -> None:
        self._error, self._times = error, times
        self.tried = 0

    def __call__(self, *retry_on: type[HealthPredictError]) -> None:
        @flow(name="failing")
        def run() -> None:
            task = as_task(self.operation, retry_on=retry_on) if retry_on else as_task(self.operation)
            task()

        run()

    def operation(self) -> None:
        self.tried += 1
        if self.tried <= self._times:
            raise self._error


@pytest.mark.parametrize("error", [RegistryError("away"), StorageError("away")])
def test_what_is_back_soon_costs_no_run(error: HealthPredictError) -> None:
    failing = Failing(error, ATTEMPTS - 1)
    failing()
    assert failing.tried == ATTEMPTS


def test_what_stays_away_is_said() -> None:
    failing = Failing(RegistryError("MLflow is away"), ATTEMPTS)
    with pytest.raises(RegistryError, match="MLflow is away"):
        failing()
    assert failing.tried == ATTEMPTS


@pytest.mark.parametrize("error", [LeakSuspected("The AUROC is .9"), RolloutError("not ready"), NotFound("no file")])
def test_what_would_fail_again_is_not_tried_again(error: HealthPredictError) -> None:
    failing = Failing(error, 1)
    with pytest.raises(type(error)):
        failing()
    assert failing.tried == 1


def test_a_flow_chooses_the_errors_after_which_a_task_is_retried() -> None:
    failing = Failing(RolloutError("no login yet"), 1)
    failing(RolloutError)
    assert failing.tried == 2
