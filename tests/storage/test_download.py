"""A download is stored completely and with the expected content, or not at all."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from healthpredict.errors import SourceError
from healthpredict.storage.download import download
from healthpredict.storage.uris import exists, join, read_bytes

CONTENT = b"encounter_id\n" * 10_000


class Archive(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/whole")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:100] if self.path == "/cut" else CONTENT)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def archive() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["/whole", "/moved"])
def test_a_download_is_stored_and_its_digest_returned(root: str, archive: str, path: str) -> None:
    digest = download(archive + path, join(root, "raw", "source"))
    assert read_bytes(join(root, "raw", "source")) == CONTENT
    assert digest == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("path", ["/missing", "/cut"])
def test_a_failed_download_stores_nothing(root: str, archive: str, path: str) -> None:
    with pytest.raises(SourceError, match=f"Cannot fetch {archive}{path}"):
        download(archive + path, join(root, "source"))
    assert not exists(join(root, "source"))


def test_unexpected_content_is_not_stored(root: str, archive: str) -> None:
    with pytest.raises(SourceError, match=r"/whole has sha256 .* instead of 00"):
        download(f"{archive}/whole", join(root, "source"), sha256="00")
    assert not exists(join(root, "source"))


def test_a_download_above_the_limit_is_not_stored(root: str, archive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthpredict.storage.download.MAX_DOWNLOAD_BYTES", len(CONTENT) - 1)
    with pytest.raises(SourceError, match=rf"/whole sends more than {len(CONTENT) - 1:,} bytes"):
        download(f"{archive}/whole", join(root, "source"))
    assert not exists(join(root, "source"))
    monkeypatch.setattr("healthpredict.storage.download.MAX_DOWNLOAD_BYTES", len(CONTENT))
    download(f"{archive}/whole", join(root, "source"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "gopher://127.0.0.1/x", "http://["])
def test_the_message_for_an_unreachable_address_says_what_to_do(root: str, url: str) -> None:
    with pytest.raises(SourceError, match="give a local file"):
        download(url, join(root, "source"))
