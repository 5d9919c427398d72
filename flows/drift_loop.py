"""`drift-loop/drift-loop`: process every new batch; recalibrate or retrain, and roll out, if that is the decision."""

from __future__ import annotations

from prefect import flow

from flows.artifacts import show_drift, show_history, show_notices
from flows.children import cancel_children, run_again, run_child
from flows.deploy import deploy
from flows.events import emit_drift
from flows.tasks import as_task, run_tags
from flows.train import train
from healthpredict.config import BatchSource
from healthpredict.operations import drift_loop as loop
from healthpredict.operations.accept_batch import accept_batch
from healthpredict.operations.detect_drift import DriftCheck, detect_drift
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import find_pending
from healthpredict.operations.predict_batch import predict_batch
from healthpredict.operations.recalibrate import recalibrate
from healthpredict.operations.report import write_report


@flow(name="drift-loop", on_cancellation=[cancel_children])
def drift_loop(source: BatchSource = "batches") -> list[str]:
    """Process every batch that has arrived and is not in the ledger, and return their names.

    Args:
        source: "batches" processes delivered files; "live" first cuts further batches from the logged predictions of the API.
    """

    def detect(installation: Installation, name: str) -> DriftCheck:
        check = as_task(detect_drift)(installation, name)
        show_drift(check)
        emit_drift(check)
        return check

    steps = loop.Steps(
        accept=as_task(accept_batch),
        detect=detect,
        train=lambda _, training: run_child(train, **training.model_dump()),
        recalibrate=lambda installation, name: as_task(recalibrate)(installation, name, run_tags()),
        promote=lambda _, version: run_child(deploy, version=version),
        predict=as_task(predict_batch),
    )
    installation = Installation()
    run = loop.drift_loop(installation, steps, source)
    # Even if nothing was done, because the last run may have been killed before it wrote its report.
    summary = as_task(write_report)(installation)
    while find_pending(installation).ready:  # arrived while the report was written
        run = run.followed_by(loop.drift_loop(installation, steps, source))
        summary = as_task(write_report)(installation)
    if run.done:
        show_history(summary)
    show_notices(run.sentences)
    if run.needs_rerun:
        run_again(installation.settings.arrival_seconds)
    return run.done
