"""Peak memory of a process."""

from __future__ import annotations

from pathlib import Path


def peak_rss_mb() -> float:
    """Of this process since it began. Not `ru_maxrss`, which begins with the memory of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
