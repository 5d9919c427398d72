"""NannyML's detectors at their defaults; run by `drift_peers` with the interpreter of `.venv-peers`.

Its plots import statsmodels, which its wheel does not ask for (0.13.1).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nannyml
import pandas as pd

_SMALLEST_LIMIT = 1e-9
_RISK, _LABEL = "risk", "label"


def main(folder: Path) -> None:
    """Print, for each file, the scores of each batch by each detector, in units of NannyML's own limits.

    Args:
        folder: with `reference.parquet` (features, out-of-fold `risk` and `label`), and `<rows of a batch>.parquet` (features and
            `risk`), batches of that size one after another.
    """
    reference = pd.read_parquet(folder / "reference.parquet")
    found = {}
    for path in sorted(folder.glob("[0-9]*.parquet")):
        batches, rows = pd.read_parquet(path), int(path.stem)
        found[path.stem] = {
            "univariate (NannyML)": _univariate(reference, batches, rows),
            "reconstruction (NannyML)": _reconstruction(reference, batches, rows),
            "CBPE (NannyML)": _estimated_auroc(reference, batches, rows),
        }
    print(json.dumps(found))


def _univariate(reference: pd.DataFrame, batches: pd.DataFrame, rows: int) -> list[float]:
    """The largest distance of a column."""
    features = reference.drop(columns=[_RISK, _LABEL])
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=list(features),
        treat_as_categorical=list(features.select_dtypes(exclude="number")),
        chunk_size=rows,
    )
    shown = calculator.fit(features).calculate(batches[list(features)]).filter(period="analysis").to_df()
    values, limits = (shown.xs(name, axis=1, level=2) for name in ("value", "upper_threshold"))
    # A column that never varied in the reference has the limit 0.
    return list((values / limits.clip(lower=_SMALLEST_LIMIT)).max(axis=1))


def _reconstruction(reference: pd.DataFrame, batches: pd.DataFrame, rows: int) -> list[float]:
    """The error with which the principal components of the reference reconstruct the encounters."""
    features = reference.drop(columns=[_RISK, _LABEL])
    calculator = nannyml.DataReconstructionDriftCalculator(column_names=list(features), chunk_size=rows)
    shown = calculator.fit(features).calculate(batches[list(features)]).filter(period="analysis").to_df()
    return _in_limits(shown["reconstruction_error"])


def _estimated_auroc(reference: pd.DataFrame, batches: pd.DataFrame, rows: int) -> list[float]:
    """The AUROC that the risks let expect."""
    estimator = nannyml.CBPE(
        metrics=["roc_auc"],
        y_pred_proba=_RISK,
        y_true=_LABEL,
        problem_type="classification_binary",
        chunk_size=rows,
    )
    shown = estimator.fit(reference[[_RISK, _LABEL]]).estimate(batches[[_RISK]]).filter(period="analysis").to_df()
    return _in_limits(shown["roc_auc"])


def _in_limits(shown: pd.DataFrame) -> list[float]:
    """The distance from the middle between the limits. At a limit, it is 1."""
    middle = (shown["upper_threshold"] + shown["lower_threshold"]) / 2
    return list((shown["value"] - middle).abs() / (shown["upper_threshold"] - middle))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
