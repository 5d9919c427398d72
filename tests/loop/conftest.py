"""A small hospital whose patients change half-way, run through the whole loop."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from installation import environment

from healthpredict.config import Settings
from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import DriftPlan, synthesize
from healthpredict.operations.installation import Installation
from healthpredict.operations.roll_out import local_target


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A csv of 7,000 made-up encounters; more visits, new codes and other reasons to return set in at 60 %."""
    path = tmp_path_factory.mktemp("source") / "encounters.csv"
    path.write_bytes(format_raw(synthesize(7000, 3, DriftPlan(start=0.6))))
    return str(path)


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, small_source: str, cluster: str, prefect_server: None
) -> Iterator[Settings]:
    """An installation whose flows have run: prepared, trained, served, three batches done. Only read it."""
    variables = environment(tmp_path_factory.mktemp("finished"))
    os.environ.update(variables)
    from flows.drift_loop import drift_loop
    from flows.prepare import prepare

    prepare(small_source)
    drift_loop()
    settings = Settings()
    yield settings
    local_target(Installation(settings)).stop()
    for name in variables:
        del os.environ[name]
