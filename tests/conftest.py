"""Fixtures that several test folders share."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundles import build_tiny_bundle

from healthpredict.bundle.model import Bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny real bundle, version 1. Altering it means copying `bundle.path` first."""
    path: Path = tmp_path_factory.mktemp("bundles") / "one"
    return build_tiny_bundle(path)


@pytest.fixture(scope="session")
def next_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Another model, version 2."""
    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "two", model_version=2, seed=5)


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real MLflow on SQLite; its tables take seconds to make, so tests share it and use names of their own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
