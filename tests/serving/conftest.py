"""The API of the tiny bundle over real HTTP on 127.0.0.1, in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from in_a_thread import Serve, served

from healthpredict.bundle.model import Bundle
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.app import create_app
from healthpredict.storage.key_file import add_key


@pytest.fixture(scope="session")
def app(bundle: Bundle) -> FastAPI:
    return create_app(bundle)


@pytest.fixture(scope="session")
def api(app: FastAPI) -> Iterator[httpx.Client]:
    with served(app) as client:
        yield client


@pytest.fixture
def serve_app() -> Iterator[Serve]:
    """Serves an app until the test ends."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(served(app))


@pytest.fixture
def keys_path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def key(keys_path: Path) -> str:
    """A key in the file at `keys_path`."""
    return add_key(keys_path, "ward")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PredictionLog]:
    """A prediction log in the folder `log`; a test may close it."""
    with closing(PredictionLog(tmp_path / "log", bytes(32))) as log:
        yield log


@pytest.fixture
def logged_api(bundle: Bundle, log: PredictionLog, serve_app: Serve) -> httpx.Client:
    return serve_app(create_app(bundle, log=log))
