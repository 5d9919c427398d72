"""Maximum mean discrepancy, computed by hyppo; run by `drift_peers` with the interpreter of `.venv-peers`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
from hyppo.ksample import KSample
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = 500
"""Rows of the reference, and of each batch, that are compared, because the time grows with their square."""
_MIN_SHARE = 0.01
_SMALLEST_P = 1e-300


def main(folder: Path) -> None:
    """Print, for each file, .05 divided by the p-value of each batch.

    The kernel is Gaussian, and its width is the median distance. The p-value is hyppo's chi-squared approximation, so nothing is
    permuted. hyppo's `MMD` has the same p-value, but computes the statistic twice.

    Args:
        folder: see `drift_nannyml.main`.
    """
    reference = pd.read_parquet(folder / "reference.parquet").drop(columns=["risk", "label"])
    categories = list(reference.select_dtypes(exclude="number"))
    one_hot = OneHotEncoder(min_frequency=_MIN_SHARE, handle_unknown="infrequent_if_exist", sparse_output=False)
    encoder = make_column_transformer((one_hot, categories), remainder=StandardScaler()).fit(reference)
    known = encoder.transform(reference.sample(ROWS, random_state=0))
    found = {}
    for path in sorted(folder.glob("[0-9]*.parquet")):
        batches, rows = pd.read_parquet(path, columns=list(reference)), int(path.stem)
        # Batches are in random order, so the first rows are a random sample.
        starts = range(0, len(batches), rows)
        p = [KSample("Hsic").test(known, encoder.transform(batches.iloc[start : start + ROWS]))[1] for start in starts]
        found[path.stem] = {"MMD (hyppo)": [0.05 / max(value, _SMALLEST_P) for value in p]}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
