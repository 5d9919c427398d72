"""NannyML's univariate drift at its defaults; run by `drift_peers` with the interpreter of `.venv-nannyml`.

Its plots import statsmodels, which its wheel does not ask for (0.13.1).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nannyml
import pandas as pd

_SMALLEST_LIMIT = 1e-9


def main(folder: Path) -> None:
    """Print, for each file, the largest distance of a column in each batch, in units of NannyML's own limit.

    Args:
        folder: with `reference.parquet`, and `<rows of a batch>.parquet`, batches of that size one after another.
    """
    reference = pd.read_parquet(folder / "reference.parquet")
    categories = list(reference.select_dtypes(exclude="number"))
    found = {}
    for path in sorted(folder.glob("[0-9]*.parquet")):
        calculator = nannyml.UnivariateDriftCalculator(
            column_names=list(reference), treat_as_categorical=categories, chunk_size=int(path.stem)
        )
        calculator.fit(reference)
        shown = calculator.calculate(pd.read_parquet(path)).filter(period="analysis").to_df()
        values, limits = (shown.xs(name, axis=1, level=2) for name in ("value", "upper_threshold"))
        # A column that never varied in the reference has the limit 0.
        found[path.stem] = (values / limits.clip(lower=_SMALLEST_LIMIT)).max(axis=1).tolist()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
