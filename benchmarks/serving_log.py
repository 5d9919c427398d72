"""The cost of the prediction log for a request: one service answers with and without it, in turn.

Two processes with the same code differ by more than the log costs, from one start to the next. `python -m benchmarks.serving_log`
with the arguments of `healthpredict.serving` is the service, with `/logged/predict` and `/unlogged/predict`.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import threading
from pathlib import Path
from typing import Any

import httpx
import uvloop
from fastapi import APIRouter, FastAPI

from benchmarks.serving_load import connect
from healthpredict.bundle.model import Bundle
from healthpredict.serving import __main__ as service
from healthpredict.serving import server
from healthpredict.serving.limits import Limits
from healthpredict.serving.metrics import Metrics
from healthpredict.serving.predictions import add_prediction
from healthpredict.serving.service import RawBodyRoute, Service

PAIRS = 300
REQUESTS = 640
"""In each half of a pair: some hundredths of a second, in which the speed of the machine is constant."""


def log_cost(pid: int, port: int, logged: bytes, unlogged: bytes, connections: int) -> dict[str, float]:
    """Measure what the log adds to the CPU of a request, its thread included.

    Args:
        pid: of the service.
        port: of the service.
        logged: a request that is logged.
        unlogged: the same request to the endpoint that logs nothing.
        connections: that send requests at the same time.
    """
    (key,) = re.findall(r"Authorization: (.*)\r\n", logged.decode())
    headers = {"Authorization": key}
    log_thread = (
        httpx.get(f"http://127.0.0.1:{port}/health/log-thread", headers=headers, trust_env=False)
        .raise_for_status()
        .json()
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        pairs, thread = runner.run(_pairs(pid, log_thread, port, (logged, unlogged), connections))
    low, middle, high = statistics.quantiles(with_it - without for with_it, without in pairs)
    cost = middle + thread
    whole = statistics.median(with_it for with_it, _ in pairs) + thread
    return {"cpu_ms": cost, "cpu_ms_low": low, "cpu_ms_high": high, "cpu_ms_thread": thread, "share": cost / whole}


async def _pairs(
    pid: int, log_thread: int, port: int, requests: tuple[bytes, bytes], connections: int
) -> tuple[list[tuple[float, float]], float]:
    """Return CPU milliseconds for a logged and an unlogged request, and those of the log's thread for a logged one."""
    asking = await connect(port, connections, [])

    async def ask(request: bytes) -> float:
        before = _cpu_ms(pid) - _cpu_ms(pid, log_thread)
        turns = [True] * (REQUESTS // connections) + [False]
        await asyncio.gather(*(one.begin(request, iter(turns).__next__) for one in asking))
        return (_cpu_ms(pid) - _cpu_ms(pid, log_thread) - before) / REQUESTS

    for request in requests:
        await ask(request)
    thread = _cpu_ms(pid, log_thread)
    pairs = []
    for i in range(PAIRS):
        # In alternating order, because the first one changes caches and queues for the second.
        spent = {request: await ask(request) for request in requests[:: 1 if i % 2 else -1]}
        pairs.append((spent[requests[0]], spent[requests[1]]))
    await asyncio.sleep(3)  # the last lines are written
    thread = _cpu_ms(pid, log_thread) - thread
    for one in asking:
        one.transport.close()
    return pairs, thread / (PAIRS * REQUESTS)


def _cpu_ms(pid: int, thread: int | str = "*") -> float:
    """Return the CPU milliseconds of one thread or of all so far, to the nanosecond (Linux, proc(5), schedstat)."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob(f"{thread}/schedstat")) / 1e6


def _with_and_without(bundle: Bundle, **options: Any) -> FastAPI:
    app = create_app(bundle, **options)
    for prefix, log in (("/logged", options["log"]), ("/unlogged", None)):
        router = APIRouter(prefix=prefix, route_class=RawBodyRoute)
        add_prediction(router, Service(bundle, Limits(), Metrics(), log))
        app.router.routes[:0] = router.routes

    @app.get("/health/log-thread")
    async def log_thread() -> int:
        return next(t.native_id or 0 for t in threading.enumerate() if t.name == "prediction-log")

    return app


create_app = server.create_app

if __name__ == "__main__":
    server.create_app = _with_and_without
    service.main()
