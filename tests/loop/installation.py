"""The environment of a small installation."""

from __future__ import annotations

from pathlib import Path

from healthpredict.rollout.ports import free_port

# Small searches, and a gate as wide as a few hundred test encounters are noisy.
SMALL = {
    "INITIAL_SHARE": "0.4",
    "N_BATCHES": "3",
    "SEARCH__FAMILIES": '["logistic_regression","lightgbm"]',
    "SEARCH__N_TRIALS": "3",
    "SEARCH__RETRAIN_N_TRIALS": "2",
    "SEARCH__TIME_BUDGET_SECONDS": "60",
    "MODEL__N_BOOTSTRAP": "20",
    "PROMOTION__MARGIN": "0.3",
    "PROMOTION__MAX_ECE": "0.3",
    "PROMOTION__MAX_BRIER_LOSS": "0.1",
    "PROMOTION__SUBGROUP_FLOOR": "0.5",
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
