"""A store that carries out writes and loses its responses: a proxy on 127.0.0.1 in front of a real S3 server."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Lock, Thread

from healthpredict.errors import StorageError
from healthpredict.storage import s3
from healthpredict.storage.ledger import Ledger
from healthpredict.storage.ledger_check import find_altered

_SEED = 17
_WRITERS = 4
_RESTARTS = 20
_LEDGER = "s3://chaos/data/ledger"
_SHARE = 0.5
"""Share of PUTs whose response is lost. It is high, so that boto's retries lose their responses too."""
_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
_ENVIRONMENT |= {"AWS_MAX_ATTEMPTS": "3"}


class LossyProxy:
    """Passes requests on, and closes the connection in place of some responses to PUTs."""

    def __init__(self, host: str, port: int) -> None:
        """Args: host and port of the server."""
        self.lost = 0
        self.losses = 0
        self._random = random.Random(_SEED)
        self._lock = Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                server = http.client.HTTPConnection(host, port, timeout=60)
                server.request(self.command, self.path, body, dict(self.headers))
                response = server.getresponse()
                content = response.read()
                server.close()
                if self.command == "PUT" and proxy.loses():
                    self.close_connection = True
                    return
                self.send_response_only(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(name, value)
                self.send_header("content-length", response.getheader("content-length") or str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_HEAD = do_DELETE = pass_on  # noqa: N815 -- names of the base class

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def loses(self) -> bool:
        """Whether this response is lost."""
        with self._lock:
            lost = self.lost < self.losses and self._random.random() < _SHARE
            self.lost += lost
            return lost

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def _lossy_bucket(losses: int) -> Iterator[LossyProxy]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    proxy = LossyProxy(host, port)
    before = dict(os.environ)
    os.environ.update(_ENVIRONMENT, AWS_ENDPOINT_URL=proxy.url)
    s3.client.cache_clear()
    try:
        s3.client().create_bucket(Bucket="chaos")
        proxy.losses = losses
        yield proxy
    finally:
        os.environ.clear()
        os.environ.update(before)
        s3.client.cache_clear()
        proxy.close()
        server.stop()


def run(losses: int = 100) -> dict[str, int]:
    """Append events from several threads until this number of responses to PUTs is lost.

    Half of the events have a key and are appended again after an error, as the loop does after a restart.

    Returns:
        Counts: lost_responses, and 0 of duplicated_events, lost_events and chain_broken.
    """
    with _lossy_bucket(losses) as proxy:
        with ThreadPoolExecutor(_WRITERS) as pool:
            appended = [
                number for numbers in pool.map(_append, [proxy] * _WRITERS, range(_WRITERS)) for number in numbers
            ]
        ledger = Ledger(_LEDGER)
        numbers = [event["n"] for event in ledger.events()]
        _, altered = find_altered(ledger)
        return {
            "lost_responses": proxy.lost,
            "duplicated_events": len(numbers) - len(set(numbers)),
            "lost_events": len(set(appended) - set(numbers)),
            "chain_broken": int(altered is not None),
        }


def _append(proxy: LossyProxy, writer: int) -> list[int]:
    """Append events until enough responses are lost. Returns: their numbers."""
    ledger, numbers = Ledger(_LEDGER), []
    for number in count(writer, _WRITERS):
        if proxy.lost >= proxy.losses:
            return numbers
        numbers.append(number)
        key = f"batch {number}" if len(numbers) % 2 else None
        for _ in range(_RESTARTS if key else 1):
            with contextlib.suppress(StorageError):
                ledger.append("batch", key=key, n=number)
                break
    raise AssertionError("unreachable")
