"""The environment of a demo: settings of how it reads, learns and decides pass, but no place, server, key or login."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from healthpredict.config import Settings, variables

_KEPT: Final = frozenset(
    {
        "HEALTHPREDICT_DRIFT",
        "HEALTHPREDICT_FHIR",
        "HEALTHPREDICT_INITIAL_SHARE",
        "HEALTHPREDICT_KNOWN_SHARE",
        "HEALTHPREDICT_LABEL_DELAY",
        "HEALTHPREDICT_MODEL",
        "HEALTHPREDICT_N_BATCHES",
        "HEALTHPREDICT_OUTCOME",
        "HEALTHPREDICT_PROMOTION",
        "HEALTHPREDICT_SEARCH",
    }
)
"""Settings that change how a demo reads, learns and decides. All others name places, servers, keys or the target of rollouts."""
_OF_VENDORS: Final = ("MLFLOW_", "PREFECT_", "RAY_ADDRESS")
"""Servers, databases and logins of an installation."""
_GOVERNANCE: Final = Path(__file__).with_name("demo_governance.yaml")


def demo_environment(given: Mapping[str, str], state: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the environment variables of a demo, which then changes nothing outside its folder and the folder `reports`.

    Args:
        given: the variables of this process. Misspelt settings stay, so that they are reported.
        state: folder of the demo.
        ports: of `api`, `prefect` and `mlflow`.
    """
    dropped = {name for name in variables(Settings) if name.partition("__")[0] not in _KEPT}
    kept = {
        name: value
        for name, value in given.items()
        if name.upper() not in dropped and not name.upper().startswith(_OF_VENDORS)
    }
    without_proxy = given.get("no_proxy") or given.get("NO_PROXY") or ""
    return kept | {
        "HEALTHPREDICT_API_PORT": str(ports["api"]),
        "HEALTHPREDICT_DATA_URI": str(state / "data"),
        "HEALTHPREDICT_GOVERNANCE_PATH": str(_GOVERNANCE),
        # For links, which work while the demo keeps MLflow running.
        "HEALTHPREDICT_MLFLOW_UI_URL": f"http://127.0.0.1:{ports['mlflow']}",
        "HEALTHPREDICT_STATE_PATH": str(state),
        # A proxy may be needed to download the data set. It cannot reach the demo's servers.
        "no_proxy": ",".join(filter(None, (without_proxy, "127.0.0.1"))),
        "PREFECT_API_URL": f"http://127.0.0.1:{ports['prefect']}/api",
        # Otherwise Prefect reads the profile of the person who runs the demo.
        "PREFECT_HOME": str(state / "prefect"),
    }
