"""Measurements behind the figures in docs/measurements.md: `python -m benchmarks.quality`, `python -m benchmarks.loop`."""
