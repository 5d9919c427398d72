"""What the responses to encounters have in common."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.model import Bundle

_random: Final = Random()  # noqa: S311 -- a request id is unique, not secret; one from the system costs a call of it


class Identified(BaseModel):
    """Which model made a prediction, for which request.

    Attributes:
        threshold: of this model version (0-1).
        model_version: in the registry.
        bundle_digest: sha256 that identifies everything the prediction was made with.
        request_id: new for every request, 32 hexadecimal digits.
    """

    model_config = ConfigDict(protected_namespaces=())

    threshold: float
    model_version: int
    bundle_digest: str
    request_id: str


class Prediction(Identified):
    """The response to one encounter.

    Attributes:
        readmission_risk: calibrated probability (0-1) of the `outcome` that `/model` names: a readmission within 30 days, or any.
        high_risk: whether the risk is at or above the threshold.
    """

    readmission_risk: float
    high_risk: bool


def classified(bundle: Bundle, risk: float) -> dict[str, Any]:
    """Return a risk, and whether it is high."""
    return {"readmission_risk": risk, "high_risk": risk >= bundle.manifest.threshold}


def new_request_id() -> str:
    """Return a request id."""
    return f"{_random.getrandbits(128):032x}"


def identity(bundle: Bundle) -> dict[str, Any]:
    """Return the fields of an `Identified` for a new request."""
    return {
        "threshold": bundle.manifest.threshold,
        "model_version": bundle.manifest.model_version,
        "bundle_digest": bundle.digest,
        "request_id": new_request_id(),
    }
