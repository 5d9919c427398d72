"""The API of the tiny bundle over real HTTP on 127.0.0.1, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from healthpredict.bundle.model import Bundle
from healthpredict.serving.app import create_app
from healthpredict.serving.keys import add_key

Serve = Callable[[FastAPI], httpx.Client]


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
        yield client
    server.should_exit = True
    thread.join()


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
