"""The API of the tiny bundle over real HTTP on 127.0.0.1, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from healthpredict.bundle.model import Bundle
from healthpredict.serving.app import create_app


@pytest.fixture(scope="session")
def app(bundle: Bundle) -> FastAPI:
    return create_app(bundle)


@pytest.fixture(scope="session")
def api(app: FastAPI) -> Iterator[httpx.Client]:
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
