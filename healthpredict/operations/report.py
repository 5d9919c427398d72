"""Write the report for people and programs: `index.html`, `summary.json` and plots."""

from __future__ import annotations

import numpy as np
import pandas as pd

from healthpredict.monitoring.profile import RISK
from healthpredict.operations.dataset import LABEL
from healthpredict.operations.installation import Installation
from healthpredict.operations.risks import risks_of
from healthpredict.operations.summarise import predicted_batch, summarise
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.reporting.page import history_plots, page
from healthpredict.reporting.plots import calibration_plot, roc_plot
from healthpredict.reporting.summary import Summary
from healthpredict.storage.tables import read_json, write_json
from healthpredict.storage.uris import join, write_bytes


def write_report(installation: Installation) -> Summary:
    """Write `summary.json`, `index.html` (one file, no network) and `plots/*.png` to the reports.

    Raises:
        ConfigurationError: nothing was prepared.
        RegistryError: MLflow failed.
        StorageError: something cannot be read or written.
    """
    reports = installation.settings.reports_uri
    seconds: Seconds = {}
    with timed(seconds, "report"):
        summary = summarise(installation)
        plots = history_plots(summary) | _performance_plots(installation, summary)
    summary = summary.model_copy(update={"seconds": summary.seconds | seconds})
    for name, plot in plots.items():
        write_bytes(join(reports, "plots", f"{name}.png"), plot)
    write_json(join(reports, "summary.json"), summary.model_dump(mode="json"))
    html = page(summary, plots, installation.ledger.events(), installation.settings.prefect_ui_url)
    write_bytes(join(reports, "index.html"), html.encode())
    result = f"{len(summary.batches)} batches, {len(summary.models)} models: {join(reports, 'index.html')}"
    log_step("report", "write", seconds["report"], result)
    return summary


def read_report(installation: Installation) -> Summary:
    """Read the `summary.json` that was written last.

    Raises:
        NotFound: none was written.
        StorageError: it cannot be read.
    """
    return Summary.model_validate(read_json(join(installation.settings.reports_uri, "summary.json")))


def _performance_plots(installation: Installation, summary: Summary) -> dict[str, bytes]:
    """ROC and calibration plots of the predictions made before outcomes were known, over all batches with known outcomes."""
    known = [batch.name for batch in summary.batches if batch.auroc is not None]
    promotions = installation.ledger.events("promotion")
    if not known or not promotions:
        return {}
    registry = installation.registry
    first = registry.fetch_bundle(registry.version(promotions[0]["version"]))
    predicted = pd.concat([predicted_batch(installation, name) for name in known], ignore_index=True)
    label, risk = predicted[LABEL].to_numpy(dtype=np.bool_), predicted[RISK].to_numpy()
    other = ("first model", risks_of(first, predicted))
    title = f"{len(known)} batches, predicted before outcomes were known"
    return {
        "roc": roc_plot(label, risk, title, other=other),
        "calibration": calibration_plot(label, risk, title, other=other),
    }
