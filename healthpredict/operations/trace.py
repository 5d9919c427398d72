"""Trace a model version to its data, run and commit, and to the decisions on it."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from healthpredict.operations.installation import Installation


class Trace(BaseModel):
    """The provenance of a model version, and what was decided about it.

    Attributes:
        version: in the registry.
        family: model family.
        trigger: see `TrainingRequest`.
        trained_on: batches in the training data.
        data_digest: SHA-256 of their data.
        run_id: the MLflow run.
        flow_run_id: the Prefect flow run that trained or recalibrated it, or None.
        git_commit: of the code that trained it.
        recalibrates: the version that this one recalibrates, or None if it was trained.
        gate: the decisions of the gate, each with its reasons.
        bundle_digest: of its bundle.
        promoted_at: times at which it became the champion, UTC.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    family: str
    trigger: str
    trained_on: list[str]
    data_digest: str
    run_id: str
    flow_run_id: str | None
    git_commit: str
    recalibrates: int | None
    gate: list[dict[str, Any]]
    bundle_digest: str
    promoted_at: list[str]


def trace(installation: Installation, version: int) -> Trace:
    """Trace a version.

    Raises:
        RegistryError: there is no such version, or MLflow failed.
    """
    registry, ledger = installation.registry, installation.ledger
    found = registry.version(version)
    recalibration = ledger.last("recalibration", version=version)
    shown = ("time", "arriving", "champion", "promote", "reasons")
    return Trace(
        version=version,
        family=found.tags["family"],
        trigger=found.tags["trigger"],
        trained_on=json.loads(found.tags["trained_on"]),
        data_digest=found.tags["data_digest"],
        run_id=found.run_id,
        flow_run_id=registry.run_tag(found.run_id, "flow_run_id"),
        git_commit=found.tags["git_commit"],
        recalibrates=recalibration and recalibration["of"],
        gate=[{key: e[key] for key in shown} for e in ledger.events("gate") if e["version"] == version],
        bundle_digest=found.bundle_digest,
        promoted_at=[e["time"] for e in ledger.events("promotion") if e["version"] == version],
    )
