"""What the prediction log costs a request: one service that answers with it and without, asked in turn.

Two processes with the same code differ by more than the log costs, from one start to the next. `python -m benchmarks.serving_log`
with the arguments of `healthpredict.serving` is the service; `/unlogged` is `/predict` without the log.
"""

from __future__ import annotations

import asyncio
import statistics
from pathlib import Path
from typing import Any

import uvloop
from fastapi import FastAPI

from benchmarks.serving_load import connect
from healthpredict.bundle.model import Bundle
from healthpredict.serving import __main__ as service
from healthpredict.serving import server

PAIRS = 300
REQUESTS = 640
"""In each of a pair: some hundredths of a second, in which the machine does not change."""


def log_cost(pid: int, port: int, logged: bytes, unlogged: bytes, connections: int) -> dict[str, float]:
    """What the log adds to the CPU of a request, with its thread; quartiles are of pairs, without the thread.

    Args:
        pid: of the service.
        port: of the service.
        logged: the request.
        unlogged: the same to `/unlogged`.
        connections: that ask at once.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        pairs, thread = runner.run(_pairs(pid, port, (logged, unlogged), connections))
    low, middle, high = statistics.quantiles(with_it - without for with_it, without in pairs)
    cost = middle + thread
    whole = statistics.median(with_it for with_it, _ in pairs) + thread
    return {"cpu_ms": cost, "cpu_ms_low": low, "cpu_ms_high": high, "cpu_ms_thread": thread, "share": cost / whole}


async def _pairs(
    pid: int, port: int, requests: tuple[bytes, bytes], connections: int
) -> tuple[list[tuple[float, float]], float]:
    """CPU milliseconds of the loop for a logged and an unlogged request, and of the other threads for a logged one."""
    asking = await connect(port, connections, [])

    async def ask(request: bytes) -> float:
        before = _cpu_ms(pid, of_loop=True)
        turns = [True] * (REQUESTS // connections) + [False]
        await asyncio.gather(*(one.begin(request, iter(turns).__next__) for one in asking))
        return (_cpu_ms(pid, of_loop=True) - before) / REQUESTS

    for request in requests:
        await ask(request)
    thread = _cpu_ms(pid, of_loop=False)
    pairs = []
    for i in range(PAIRS):
        # Not always the same one first: what one leaves in a cache or a queue, the other pays for.
        spent = {request: await ask(request) for request in requests[:: 1 if i % 2 else -1]}
        pairs.append((spent[requests[0]], spent[requests[1]]))
    await asyncio.sleep(3)  # the last lines are written
    thread = _cpu_ms(pid, of_loop=False) - thread
    for one in asking:
        one.transport.close()
    return pairs, thread / (PAIRS * REQUESTS)


def _cpu_ms(pid: int, *, of_loop: bool) -> float:
    """CPU milliseconds so far, to the nanosecond (Linux, proc(5), schedstat)."""
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    chosen = [thread for thread in threads if (thread.name == str(pid)) == of_loop]
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in chosen) / 1e6


def _with_and_without(bundle: Bundle, **options: Any) -> FastAPI:
    app = create_app(bundle, **options)
    without = create_app(bundle, **options | {"log": None})
    app.at_once[b"/unlogged"] = without.at_once[b"/predict"]  # type: ignore[attr-defined] # of its subclass `Api`
    return app


create_app = server.create_app

if __name__ == "__main__":
    server.create_app = _with_and_without
    service.main()
