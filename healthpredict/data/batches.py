"""The arrival of data over time: the initial data, then consecutive batches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

INITIAL: Final = "initial"


def batch_names(n_batches: int) -> list[str]:
    """Return the names in the order of arrival: `initial`, `batch-01`, `batch-02` and so on."""
    width = max(2, len(str(n_batches)))
    return [INITIAL, *(f"batch-{number:0{width}d}" for number in range(1, n_batches + 1))]


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that compares numbers by value and ignores letter case: `batch-9` comes before `Batch-10`."""
    parts = re.split("([0-9]+)", name.casefold())
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


def split_batches(raw: pd.DataFrame, initial_share: float, n_batches: int) -> dict[str, pd.DataFrame]:
    """Cut a data set into the initial data and batches of (nearly) equal size, in the order of `encounter_id`.

    Args:
        raw: a raw frame, in any order. Rows without a readable `encounter_id` go last, so that they are not lost.
        initial_share: share of the rows (0-1) in the initial data.
        n_batches: number of batches for the other rows. With 0, all rows are initial data.

    Returns:
        Name -> raw frame, in the order of arrival. Each row is in exactly one of them.
    """
    time = pd.to_numeric(raw["encounter_id"], errors="coerce")
    ordered = raw.iloc[np.argsort(time.to_numpy(dtype=float), kind="stable")]
    borders = (
        np.linspace(round(len(raw) * (initial_share if n_batches else 1)), len(raw), n_batches + 1).round().astype(int)
    )
    starts = [0, *borders[:-1]]
    return {
        name: ordered.iloc[start:end].reset_index(drop=True)
        for name, start, end in zip(batch_names(n_batches), starts, borders, strict=True)
    }


def matured(names: Sequence[str], arriving: str, label_delay: int) -> list[str]:
    """Return the batches whose outcomes are known when a batch arrives.

    Args:
        names: all batches in the order of arrival, `initial` first.
        arriving: the batch that arrives.
        label_delay: how many batches later the outcomes of a batch are known; 1 means when the next batch arrives.
    """
    return list(names[: max(0, names.index(arriving) - label_delay + 1)])
