"""An installation for each test, with versions to roll out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from bundles import register_tiny_bundle

from healthpredict.config import Settings


@pytest.fixture
def settings(tmp_path: Path, tracking_uri: str, request: pytest.FixtureRequest) -> Settings:
    """Rollouts move the alias and nothing else."""
    return Settings(
        data_uri=str(tmp_path / "data"),
        state_path=tmp_path / "state",
        tracking_uri=tracking_uri,
        model_name=re.sub(r"\W+", "-", request.node.name),
        rollout={"target": "none"},
    )


@pytest.fixture
def register(settings: Settings, tmp_path: Path) -> Callable[[], int]:
    """Registers another version and returns it."""
    return lambda: register_tiny_bundle(settings, tmp_path)
