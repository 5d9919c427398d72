"""The environment of a small installation."""

from __future__ import annotations

from pathlib import Path

from healthpredict.rollout.ports import free_port

# Small searches, and a gate that is as wide as a thousand encounters are noisy.
SMALL = {
    "INITIAL_SHARE": "0.4",
    "N_BATCHES": "3",
    "SEARCH__FAMILIES": '["logistic_regression","lightgbm"]',
    "SEARCH__N_TRIALS": "3",
    "SEARCH__RETRAIN_N_TRIALS": "2",
    "SEARCH__TIME_BUDGET_SECONDS": "60",
    "MODEL__N_BOOTSTRAP": "20",
    "PROMOTION__MIN_READMISSIONS": "20",
    "PROMOTION__MARGIN": "0.3",
    "PROMOTION__ANCHOR_MARGIN": "0.3",
    "PROMOTION__MAX_OFFSET": "0.3",
    "PROMOTION__MIN_SLOPE": "0",
    "PROMOTION__MAX_SLOPE": "9",
    "PROMOTION__MAX_SUBGROUP_AUROC_LOSS": "0.9",
    "PROMOTION__MAX_SUBGROUP_SENSITIVITY_LOSS": "1",
    "PROMOTION__N_BOOTSTRAP": "20",
}


def environment(folder: Path) -> dict[str, str]:
    """The environment of an installation below a folder."""
    own = {
        "DATA_URI": str(folder / "data"),
        "STATE_PATH": str(folder / "state"),
        "REPORTS_URI": str(folder / "reports"),
        "API_PORT": str(free_port()),
    }
    return {f"HEALTHPREDICT_{name}": value for name, value in (SMALL | own).items()}
