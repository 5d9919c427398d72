"""`prepare/prepare`: fetch a data set, check it, and split it into initial data and batches."""

from __future__ import annotations

from prefect import flow

from flows.artifacts import show_table
from flows.tasks import as_task
from healthpredict.data.prepared import PreparedData
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare as prepare_data


@flow(name="prepare")
def prepare(source: str | None = None, allow_synthetic: bool = False) -> PreparedData:
    """Fetch a data set, check it, and split it into initial data and batches.

    Args:
        source: path or URL of the csv or zip; by default the UCI archive.
        allow_synthetic: use synthetic encounters if the archive cannot be used.
    """
    prepared = as_task(prepare_data)(Installation(), source, allow_synthetic=allow_synthetic)
    facts = prepared.model_dump(mode="json", exclude={"settings", "batches"})
    show_table("data", [{"fact": name, "value": value} for name, value in facts.items()], "What was prepared")
    return prepared
