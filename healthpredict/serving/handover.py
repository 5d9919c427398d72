"""Hand the listening socket of a process over to the process that replaces it.

Both accept connections from one queue until the old process stops, so no connection is lost in a closed queue. The listening socket
is sent through a Unix socket that only this user can open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def offering(listening: socket.socket, path: Path) -> Iterator[None]:
    """Send a listening socket to every process that connects to `path` within the block.

    Args:
        listening: the socket to hand over.
        path: path of the Unix socket, of at most about 100 bytes. It replaces the socket of an earlier process.
    """
    loop = asyncio.get_running_loop()

    def hand_over() -> None:
        with contextlib.suppress(OSError):  # the successor is gone
            successor, _ = offered.accept()
            with successor:
                socket.send_fds(successor, [b"."], [listening.fileno()])

    partial = path.with_name(f"{path.name}.{os.getpid()}")
    with socket.socket(socket.AF_UNIX) as offered:
        offered.setblocking(False)
        offered.bind(str(partial))
        partial.chmod(0o600)
        offered.listen()
        partial.rename(path)
        loop.add_reader(offered, hand_over)
        try:
            yield
        finally:
            loop.remove_reader(offered)


def take(path: Path) -> socket.socket | None:
    """Take the listening socket of the process that offers it.

    Returns:
        The socket, or None if no process offers one.
    """
    with socket.socket(socket.AF_UNIX) as predecessor:
        predecessor.settimeout(5)
        try:
            predecessor.connect(str(path))
            _, descriptors, _, _ = socket.recv_fds(predecessor, 1, 1)
        except OSError:
            return None
    return socket.socket(fileno=descriptors[0]) if descriptors else None
