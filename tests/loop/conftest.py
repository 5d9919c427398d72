"""A small hospital whose patients change half-way, run through the whole loop."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from healthpredict.config import Settings
from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import DriftPlan, synthesize
from healthpredict.operations.roll_out import local_target
from healthpredict.training.search import ray_runtime

# Small searches, and a gate as wide as a few hundred test encounters are noisy.
SMALL = {
    "INITIAL_SHARE": "0.4",
    "N_BATCHES": "3",
    "SEARCH__FAMILIES": '["logistic_regression","lightgbm"]',
    "SEARCH__N_TRIALS": "3",
    "SEARCH__RETRAIN_N_TRIALS": "2",
    "SEARCH__TIME_BUDGET_SECONDS": "60",
    "MODEL__N_BOOTSTRAP": "20",
    "PROMOTION__MARGIN": "0.3",
    "PROMOTION__MAX_ECE": "0.3",
    "PROMOTION__MAX_BRIER_LOSS": "0.1",
    "PROMOTION__SUBGROUP_FLOOR": "0.5",
}


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A csv of 7,000 made-up encounters; more visits, new codes and other reasons to return set in at 60 %."""
    path = tmp_path_factory.mktemp("source") / "encounters.csv"
    path.write_bytes(format_raw(synthesize(7000, 3, DriftPlan(start=0.6))))
    return str(path)


def environment(folder: Path) -> dict[str, str]:
    """The environment of an installation below a folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {
        "DATA_URI": str(folder / "data"),
        "STATE_PATH": str(folder / "state"),
        "REPORTS_URI": str(folder / "reports"),
        "API_PORT": str(port),
    }
    return {f"HEALTHPREDICT_{name}": value for name, value in (SMALL | own).items()}


@pytest.fixture(scope="session")
def ray() -> Iterator[None]:
    """One Ray for all searches of this process."""
    with ray_runtime(None):
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, small_source: str, ray: None) -> Iterator[Settings]:
    """An installation whose flows have run: prepared, trained, served, three batches done. Only read it."""
    from prefect.testing.utilities import prefect_test_harness

    variables = environment(tmp_path_factory.mktemp("finished"))
    os.environ.update(variables)
    with prefect_test_harness(server_startup_timeout=120):
        from flows.drift_loop import drift_loop
        from flows.prepare import prepare

        prepare(small_source)
        drift_loop()
        settings = Settings()
        yield settings
    local_target(settings).stop()
    for name in variables:
        del os.environ[name]
