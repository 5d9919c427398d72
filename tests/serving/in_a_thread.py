"""An app over real HTTP on 127.0.0.1, in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
from fastapi import FastAPI

from healthpredict.serving.http_server import listen, serving

Serve = Callable[[FastAPI], httpx.Client]


@contextmanager
def served(app: FastAPI, head_seconds: float = 10.0) -> Iterator[httpx.Client]:
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    loop, ending = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with serving(app, listening, head_seconds):
            await ending.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        json = {"Content-Type": "application/json"}  # needed without keys
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10, headers=json) as client:
            yield client
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
        loop.close()
        app.state.draining = False
