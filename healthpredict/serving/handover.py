"""Hand the listening socket of a process over to the process that replaces it.

Both accept from one queue until the old process stops, so no connection waits in a queue that is closed. The socket travels
through a Unix socket that only this user can open.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path


def offer(listening: socket.socket, path: Path) -> socket.socket:
    """Give the listening socket to every process that connects to `path`, from the event loop that runs.

    Args:
        listening: the socket to hand over.
        path: of the Unix socket; what an earlier process left there is replaced. The system allows about 100 bytes.

    Returns:
        The Unix socket, for the caller to keep.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    offered = socket.socket(socket.AF_UNIX)
    offered.setblocking(False)
    partial.unlink(missing_ok=True)
    offered.bind(str(partial))
    partial.chmod(0o600)
    offered.listen()
    partial.rename(path)

    def hand_over() -> None:
        successor, _ = offered.accept()
        with successor:
            socket.send_fds(successor, [b"."], [listening.fileno()])

    asyncio.get_running_loop().add_reader(offered, hand_over)
    return offered


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
