"""Artifacts: tables, texts and plots on the page of a flow run."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from healthpredict.errors import RolloutUnknown
from healthpredict.operations.detect_drift import DriftCheck
from healthpredict.operations.train import TrainingResult
from healthpredict.reporting.page import auroc_plot
from healthpredict.reporting.summary import Summary
from healthpredict.reporting.tables import batch_rows, drift_rows, metric_rows


def artifact_key(kind: str, name: str) -> str:
    """Return the key of a batch's artifact. Prefect allows only lower-case letters, digits and dashes; other names get a digest."""
    slug = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    if slug == name:
        return f"{kind}-{slug}"
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{kind}-{slug}-{digest}".replace("--", "-")  # the slug may be empty


def show_table(key: str, rows: Sequence[dict[str, Any]], description: str) -> None:
    """Create a table. The keys of the rows are its columns."""
    create_table_artifact(key=key, table=list(rows), description=description)


def show_drift(check: DriftCheck) -> None:
    """Create a text with the decision and its reasons, and a table of every column with its distance and limit."""
    reasons = "\n".join(f"- {reason}" for reason in check.decision.reasons)
    text = f"## {check.batch}: {check.decision.state}\n\n{reasons}\n\nEvidently's page: `{check.report_uri}`"
    create_markdown_artifact(
        text, key=artifact_key("decision", check.batch), description=f"The decision on {check.batch}"
    )
    show_table(
        artifact_key("drift", check.batch),
        drift_rows(check.data),
        f"Drift of {check.batch} against the reference of the champion",
    )


def show_training(outcome: TrainingResult) -> None:
    """Create a table of the challenger's metrics, a text with the gate's decision, and a link to MLflow."""
    challenger, decision = outcome.challenger, outcome.gate
    show_table(
        f"metrics-version-{challenger.version}",
        metric_rows(challenger.test),
        f"Version {challenger.version} ({challenger.family}) on {challenger.test.evaluation.rows:,} test-side encounters",
    )
    verdict = "passed" if decision.promote else "did not pass"
    reasons = "\n".join(f"- {reason}" for reason in decision.reasons)
    create_markdown_artifact(
        f"## Version {challenger.version} {verdict} the gate\n\n{reasons}", key=f"gate-version-{challenger.version}"
    )
    if challenger.run_url:
        create_link_artifact(challenger.run_url, link_text="MLflow run", key=f"mlflow-version-{challenger.version}")


def show_failed_rollout(version: int, error: Exception) -> None:
    """Create a text that says why a version is not in service, or why it is unknown whether it is."""
    unknown = isinstance(error, RolloutUnknown)
    heading = (
        f"It is unknown whether version {version} is in service" if unknown else f"Version {version} is not in service"
    )
    description = (
        "The champion stays as it is; the next run determines what serves" if unknown else "The ledger says what serves"
    )
    text = f"## {heading}\n\n```\n{error}\n```"
    create_markdown_artifact(text, key=f"rollout-failed-version-{version}", description=description)


def show_notices(sentences: Sequence[str]) -> None:
    """Create a text with notices about delivered files, if there are any."""
    if sentences:
        text = "\n".join(f"- {sentence}" for sentence in sentences)
        create_markdown_artifact(
            f"## Delivered files\n\n{text}", key="delivered", description="Notices about delivered files"
        )


def show_history(summary: Summary) -> None:
    """Create the plot and the table of all batches."""
    plot = base64.b64encode(auroc_plot(summary)).decode()
    create_markdown_artifact(
        f"![AUROC by batch: champion and first model](data:image/png;base64,{plot})", key="history"
    )
    show_table("batches", batch_rows(summary), "All batches")
