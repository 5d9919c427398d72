"""A small hospital on disk."""

from pathlib import Path

import pytest

from healthpredict.config import Settings
from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize

SMALL = synthesize(400, seed=11)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two batches after the initial data, everything below the test's own folder."""
    return Settings(
        data_uri=str(tmp_path / "data"),
        reports_uri=str(tmp_path / "reports"),
        state_path=tmp_path / "state",
        initial_share=0.5,
        n_batches=2,
    )


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A local csv of 400 synthetic encounters with outcomes: 200 initial ones, and 100 in each batch."""
    path = tmp_path / "source.csv"
    path.write_bytes(format_raw(SMALL))
    return str(path)
