"""Batch scoring with the CPUs of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, partial
from pathlib import Path

import pandas as pd

from healthpredict.bundle.model import Bundle, load_bundle
from healthpredict.operations.score_chunk import ScoredChunk, score_chunk
from healthpredict.training.ray_cluster import map_on_cluster


def score_on_ray(
    bundle: Bundle, chunks: Iterable[pd.DataFrame], diagnosis_coding: str | None, address: str
) -> Iterator[tuple[pd.DataFrame, ScoredChunk]]:
    """Score chunks in parallel, and yield them in their order.

    Args:
        bundle: its folder must exist on every node.
        chunks: raw frames. At most one for each CPU of the cluster is in memory.
        diagnosis_coding: see `check_rows`.
        address: of the cluster.
    """
    return map_on_cluster(partial(_score, bundle.path, diagnosis_coding), chunks, address)


def _score(bundle_path: Path, diagnosis_coding: str | None, raw: pd.DataFrame) -> ScoredChunk:
    return score_chunk(_bundle(bundle_path), raw, diagnosis_coding)


@cache
def _bundle(path: Path) -> Bundle:
    """Load a bundle once in each process of the cluster."""
    return load_bundle(path)
