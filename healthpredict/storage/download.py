"""Download a file over HTTP."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from healthpredict.errors import SourceError, SourceUnreachable, StorageError
from healthpredict.storage.uris import write_file

CONNECT_SECONDS = 10.0
MAX_DOWNLOAD_BYTES = 1_000_000_000
"""The published archive has a few MB. The limit keeps an endless response from filling the disk."""


def download(url: str, destination_uri: str, sha256: str | None = None, timeout: float = 60.0) -> str:
    """Download a file in bounded memory and write it to a URI, completely or not at all.

    Args:
        url: `http://` or `https://`.
        destination_uri: of the copy.
        sha256: the expected digest; None accepts any content.
        timeout: seconds to wait for the server to send something.

    Returns:
        The sha256 of the content.

    Raises:
        SourceUnreachable: the server cannot be reached, or responds with an error.
        SourceError: it sends more than `MAX_DOWNLOAD_BYTES`, or other content than expected.
        StorageError: the destination cannot be written.
    """
    import httpx

    digest = hashlib.sha256()
    limits = httpx.Timeout(timeout, connect=CONNECT_SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        received = Path(folder) / "received"
        try:
            with (
                httpx.stream("GET", url, follow_redirects=True, timeout=limits) as response,
                received.open("wb") as file,
            ):
                response.raise_for_status()
                size = 0
                for chunk in response.iter_bytes():
                    size += len(chunk)
                    if size > MAX_DOWNLOAD_BYTES:
                        raise SourceError(
                            f"{url} sends more than {MAX_DOWNLOAD_BYTES:,} bytes, which is the limit of a download. "
                            "Check the address, or give a local file."
                        )
                    digest.update(chunk)
                    file.write(chunk)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceUnreachable(
                f"Cannot fetch {url}: {error}. Check the connection, or give a local file."
            ) from error
        except OSError as error:
            raise StorageError(f"Cannot store the download of {url}: {error}. Free some space in {folder}.") from error
        if sha256 not in (None, digest.hexdigest()):
            raise SourceError(
                f"{url} has sha256 {digest.hexdigest()} instead of {sha256}. Check the address, or give a local file."
            )
        write_file(destination_uri, received)
    return digest.hexdigest()
