"""A fake MLflow server, for responses that a real one never sends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeMlflow:
    """Sends `answer` to every request, after `may_answer` is set.

    Attributes:
        asked: number of requests.
        authorization: header of the last request.
    """

    def __init__(self) -> None:
        self.status = 200
        self.answer = b""
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked = 0
        self.authorization: str | None = None
        self.uri = ""

    def has(self, digest: str | None, source: str) -> None:
        tags = [] if digest is None else [{"key": "bundle_digest", "value": digest}]
        self.answer = json.dumps({"model_version": {"version": "1", "source": source, "tags": tags}}).encode()


@contextmanager
def fake_mlflow() -> Iterator[FakeMlflow]:
    fake = FakeMlflow()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.asked += 1
            fake.authorization = self.headers["Authorization"]
            fake.may_answer.wait()
            self.send_response(fake.status)
            self.send_header("Content-Length", str(len(fake.answer)))
            self.end_headers()
            self.wfile.write(fake.answer)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    fake.uri = f"http://127.0.0.1:{server.server_port}"
    yield fake
    fake.may_answer.set()
    server.shutdown()
    server.server_close()
