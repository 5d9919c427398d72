"""`score/score`: batch scoring of a file."""

from __future__ import annotations

from prefect import flow

from flows.artifacts import show_table
from flows.tasks import as_task
from healthpredict.operations.installation import Installation
from healthpredict.operations.score import Scored
from healthpredict.operations.score import score as score_file


@flow(name="score")
def score(source_uri: str, result_uri: str) -> Scored:
    """Predict every encounter of a file with the champion.

    Args:
        source_uri: path or s3:// URI of a csv or Parquet file.
        result_uri: .parquet, .csv or .csv.gz file to write. Rows without a risk go to a file beside it, with reasons.
    """
    scored = as_task(score_file)(Installation(), source_uri, result_uri)
    rows = [{"fact": name, "value": value} for name, value in scored.model_dump(mode="json").items()]
    show_table("scored", rows, f"Scored {source_uri}")
    return scored
