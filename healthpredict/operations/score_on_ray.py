"""Batch scoring with the CPUs of a Ray cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from healthpredict.bundle.model import Bundle, load_bundle
from healthpredict.operations.score_chunk import ScoredChunk, score_chunk
from healthpredict.training.search import ray_runtime


def score_on_ray(
    bundle: Bundle, chunks: Iterable[pd.DataFrame], address: str
) -> Iterator[tuple[pd.DataFrame, ScoredChunk]]:
    """Score chunks, several at a time; they come back in their order.

    Args:
        bundle: its folder must be there on every node.
        chunks: raw frames. As many are in memory as the cluster has CPUs.
        address: of the cluster.
    """
    import ray

    with ray_runtime(address):
        score = ray.remote(_score)
        at_once = max(1, int(ray.cluster_resources().get("CPU", 1)))
        running: deque[tuple[pd.DataFrame, Any]] = deque()
        for raw in chunks:
            running.append((raw, score.remote(bundle.path, raw)))
            if len(running) > at_once:
                first, result = running.popleft()
                yield first, ray.get(result)
        for raw, result in running:
            yield raw, ray.get(result)


def _score(bundle_path: Path, raw: pd.DataFrame) -> ScoredChunk:
    return score_chunk(_bundle(bundle_path), raw)


@cache
def _bundle(path: Path) -> Bundle:
    """Load a bundle, once in each process of the cluster."""
    return load_bundle(path)
