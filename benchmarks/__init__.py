"""Measurements behind the figures of the README: `python -m benchmarks.quality`, `python -m benchmarks.loop`."""
