"""The report for people and programs: `index.html`, `summary.json` and plots."""

from __future__ import annotations

import base64
from importlib import resources

from healthpredict.config import Settings
from healthpredict.evaluation.plots import history_plot
from healthpredict.operations.context import Seconds, timed
from healthpredict.operations.summarise import Summary, summarise
from healthpredict.storage.tables import read_json, write_json
from healthpredict.storage.uris import join, write_bytes


def write_report(settings: Settings) -> Summary:
    """Write `summary.json`, `index.html` (one file, no network) and `plots/auroc.png` to the reports.

    Raises:
        ConfigurationError: nothing was prepared.
        RegistryError: MLflow failed.
        StorageError: something cannot be read or written.
    """
    seconds: Seconds = {}
    with timed(seconds, "report"):
        summary = summarise(settings)
        plot = history(summary)
    summary = summary.model_copy(update={"seconds": summary.seconds | seconds})
    write_bytes(join(settings.reports_uri, "plots", "auroc.png"), plot)
    write_json(join(settings.reports_uri, "summary.json"), summary.model_dump(mode="json"))
    write_bytes(join(settings.reports_uri, "index.html"), _page(summary, plot).encode())
    return summary


def read_report(settings: Settings) -> Summary:
    """Read the `summary.json` that was written last.

    Raises:
        NotFound: none was written.
        StorageError: it cannot be read.
    """
    return Summary.model_validate(read_json(join(settings.reports_uri, "summary.json")))


def history(summary: Summary) -> bytes:
    """AUROC by batch of the champion and of the first model, as PNG."""
    known = [batch for batch in summary.batches if batch.auroc is not None and batch.auroc_frozen is not None]
    return history_plot(
        names=[batch.name.removeprefix("batch-") for batch in known],
        champion=[batch.auroc or 0.0 for batch in known],
        frozen=[batch.auroc_frozen or 0.0 for batch in known],
        versions=[f"v{batch.champion}" for batch in known],
    )


def _page(summary: Summary, plot: bytes) -> str:
    from jinja2 import Environment

    template = resources.files("healthpredict.operations").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(summary=summary, plot=base64.b64encode(plot).decode())
