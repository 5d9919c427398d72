"""Peak memory of a process."""

from __future__ import annotations

from pathlib import Path


def peak_rss_mb(process: int | str = "self") -> float:
    """Return the peak memory of a process, by default this one. `ru_maxrss` would include that of its parent before exec."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
