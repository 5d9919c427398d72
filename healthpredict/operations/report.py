"""The report for people and programs: `index.html`, `summary.json` and plots."""

from __future__ import annotations

import base64
from importlib import resources
from typing import Final

import numpy as np
import pandas as pd

from healthpredict.evaluation.plots import Series, calibration_plot, heat_map, history_plot, roc_plot
from healthpredict.monitoring.profile import RISK
from healthpredict.monitoring.words import name_of
from healthpredict.operations.dataset import LABEL
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import NOT_USED
from healthpredict.operations.risks import risks_of
from healthpredict.operations.summarise import BatchSummary, Summary, predicted_batch, summarise
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.storage.tables import read_json, write_json
from healthpredict.storage.uris import join, write_bytes

_PLOTS: Final = {
    "auroc": "AUROC by batch: the champion that predicted it, what was expected before outcomes were known, and the first model, "
    "never replaced. The values are in the table of batches.",
    "offset": "Mean risk minus share of readmissions by batch, of champion and first model. The values are in the table.",
    "roc": "ROC curves of the champions and of the first model over all batches with known outcomes.",
    "calibration": "Readmissions against predicted risk, of the champions and of the first model, in ten bins of equal size.",
    "drift": "Distance of each drifted feature from the training data by batch. The values are in the table of drift.",
}
"""Name -> what is seen, for those who cannot see it."""


def write_report(installation: Installation) -> Summary:
    """Write `summary.json`, `index.html` (one file, no network) and `plots/*.png` to the reports.

    Raises:
        ConfigurationError: nothing was prepared.
        RegistryError: MLflow failed.
        StorageError: something cannot be read or written.
    """
    seconds: Seconds = {}
    with timed(seconds, "report"):
        summary = summarise(installation)
        plots = {"auroc": history(summary), "offset": _offsets(summary), "drift": _heat_map(summary)}
        plots |= _performance(installation, summary)
    summary = summary.model_copy(update={"seconds": summary.seconds | seconds})
    for name, plot in plots.items():
        write_bytes(join(installation.settings.reports_uri, "plots", f"{name}.png"), plot)
    write_json(join(installation.settings.reports_uri, "summary.json"), summary.model_dump(mode="json"))
    write_bytes(join(installation.settings.reports_uri, "index.html"), _page(installation, summary, plots).encode())
    batches = f"{len(summary.batches)} batches, {len(summary.models)} models"
    log_step(
        "report", "write", seconds["report"], f"{batches}: {join(installation.settings.reports_uri, 'index.html')}"
    )
    return summary


def read_report(installation: Installation) -> Summary:
    """Read the `summary.json` that was written last.

    Raises:
        NotFound: none was written.
        StorageError: it cannot be read.
    """
    return Summary.model_validate(read_json(join(installation.settings.reports_uri, "summary.json")))


def history(summary: Summary) -> bytes:
    """AUROC by batch of the champion, as it was expected, and of the first model, as PNG."""
    looked_at = _looked_at(summary)
    lines = [
        Series("first model, frozen", [_or_nan(batch.auroc_frozen) for batch in looked_at], "frozen"),
        Series(
            "champion, expected before outcomes", [_or_nan(batch.expected_auroc) for batch in looked_at], "expected"
        ),
        Series(
            "champion",
            [_or_nan(batch.auroc) for batch in looked_at],
            "champion",
            [f"v{batch.champion}" if batch.auroc is not None else "" for batch in looked_at],
        ),
    ]
    return history_plot(_short(looked_at), lines, "Each batch, predicted on arrival", "AUROC")


def _offsets(summary: Summary) -> bytes:
    looked_at = _looked_at(summary)
    lines = [
        Series("first model, frozen", [_or_nan(batch.offset_frozen) for batch in looked_at], "frozen"),
        Series("champion", [_or_nan(batch.offset) for batch in looked_at], "champion"),
    ]
    return history_plot(_short(looked_at), lines, "Calibration in the large", "Mean risk minus readmissions")


def _heat_map(summary: Summary) -> bytes:
    looked_at, columns = _looked_at(summary), drifted_columns(summary)
    severity = np.array([[batch.severity.get(column, 0.0) for batch in looked_at] for column in columns])
    return heat_map(
        [name_of(column) for column in columns],
        _short(looked_at),
        severity.reshape(len(columns), len(looked_at)),
        "Features that drifted in any batch",
    )


def _performance(installation: Installation, summary: Summary) -> dict[str, bytes]:
    """ROC and calibration of what was predicted on arrival, over all batches with known outcomes."""
    known = [batch.name for batch in summary.batches if batch.auroc is not None]
    promotions = installation.ledger.events("promotion")
    if not known or not promotions:
        return {}
    registry = installation.registry
    first = registry.fetch_bundle(registry.version(promotions[0]["version"]))
    predicted = pd.concat([predicted_batch(installation, name) for name in known], ignore_index=True)
    label, risk = predicted[LABEL].to_numpy(dtype=np.bool_), predicted[RISK].to_numpy()
    other = ("first model, frozen", risks_of(first, predicted))
    title = f"{len(known)} batches, predicted on arrival"
    return {
        "roc": roc_plot(label, risk, title, other=other),
        "calibration": calibration_plot(label, risk, title, other=other),
    }


def drifted_columns(summary: Summary) -> list[str]:
    """The features that drifted in any batch, the most often drifted first."""
    often: dict[str, int] = {}
    for batch in summary.batches:
        for column, severity in batch.severity.items():
            often[column] = often.get(column, 0) + (severity >= 1)
    return sorted((column for column, times in often.items() if times), key=lambda column: -often[column])


def _looked_at(summary: Summary) -> list[BatchSummary]:
    return [batch for batch in summary.batches if batch.decision not in NOT_USED]


def _short(batches: list[BatchSummary]) -> list[str]:
    return [batch.name.removeprefix("batch-") for batch in batches]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _page(installation: Installation, summary: Summary, plots: dict[str, bytes]) -> str:
    from jinja2 import Environment

    template = resources.files("healthpredict.operations").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["name_of"] = name_of
    return environment.from_string(template).render(
        summary=summary,
        plots={name: base64.b64encode(plot).decode() for name, plot in plots.items()},
        seen=_PLOTS,
        columns=drifted_columns(summary),
        looked_at=_looked_at(summary),
        ledger=installation.ledger.events(),
        prefect_url=installation.settings.prefect_ui_url,
    )
