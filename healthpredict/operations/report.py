"""Write the report for people and programs: `index.html`, `summary.json` and plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from healthpredict.data.split import Side
from healthpredict.evaluation.decision_curve import decision_curve
from healthpredict.evaluation.metrics import has_two_classes
from healthpredict.evaluation.report import BASELINE_COLUMN
from healthpredict.monitoring.profile import RISK
from healthpredict.operations.card import champion_card
from healthpredict.operations.dataset import sides
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import Labelled, outcomes_of, read_matured, with_outcome
from healthpredict.operations.risks import risks_of
from healthpredict.operations.summarise import summarise, with_predictions
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.reporting.effect import effect_sentences
from healthpredict.reporting.model_card.page import as_html
from healthpredict.reporting.page import decision_plots, effect_plots, history_plots, page
from healthpredict.reporting.plots import calibration_plot, roc_plot
from healthpredict.reporting.summary import ModelCurve, Summary
from healthpredict.storage.tables import read_json, write_json
from healthpredict.storage.uris import join, write_bytes

_CARD: Final = "model-card.html"


def write_report(installation: Installation, cds_card: Mapping[str, Any] | None = None) -> Summary:
    """Write `summary.json`, `index.html` (one file, no network) and `plots/*.png` to the reports, and the champion's model card.

    Args:
        installation: what to report.
        cds_card: a card of CDS Hooks for `index.html` to show, or None.

    Raises:
        ConfigurationError: nothing was prepared.
        RegistryError: MLflow failed.
        StorageError: something cannot be read or written.
    """
    reports = installation.settings.reports_uri
    seconds: Seconds = {}
    with timed(seconds, "report"):
        matured = read_matured(installation)
        summary = summarise(installation, matured)
        card = champion_card(installation, summary.batches, effect_sentences(summary))
        facts = {"decision_curves": _decision_curves(installation, matured), "card": _CARD if card else None}
        summary = summary.model_copy(update=facts)
        plots = history_plots(summary) | decision_plots(summary) | effect_plots(summary)
        plots |= _performance_plots(installation, summary, matured)
    summary = summary.model_copy(update={"seconds": summary.seconds | seconds})
    if card is not None:
        write_bytes(join(reports, _CARD), as_html(card).encode())
    for name, plot in plots.items():
        write_bytes(join(reports, "plots", f"{name}.png"), plot)
    write_json(join(reports, "summary.json"), summary.model_dump(mode="json"))
    html = page(summary, plots, installation.ledger.events(), installation.settings.prefect_ui_url, cds_card)
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


def _decision_curves(installation: Installation, matured: Labelled | None) -> tuple[ModelCurve, ...]:
    """Decision curves of champion and challenger for test-side patients, on whom no version was trained."""
    registry = installation.registry
    champion, challenger = registry.by_alias("champion"), registry.by_alias("challenger")
    if champion is None or matured is None:
        return ()
    labelled = with_outcome(matured.frame)
    test = labelled[sides(labelled) == Side.TEST]
    label = outcomes_of(test)
    if not has_two_classes(label):
        return ()
    versions = {"champion": champion}
    if challenger is not None and challenger.version != champion.version:
        versions["challenger"] = challenger
    found = []
    for name, version in versions.items():
        bundle = registry.fetch_bundle(version)
        curve = decision_curve(
            label,
            risks_of(bundle, test),
            test[BASELINE_COLUMN].to_numpy(dtype=np.float64),
            test["patient_id"].to_numpy(),
            threshold=bundle.manifest.threshold,
            n_bootstrap=installation.settings.model.n_bootstrap,
        )
        found.append(ModelCurve(name=name, version=version.version, curve=curve))
    return tuple(found)


def _performance_plots(installation: Installation, summary: Summary, matured: Labelled | None) -> dict[str, bytes]:
    """ROC and calibration plots of all batches with known outcomes, with the predictions that were made before they were known."""
    known = [batch.name for batch in summary.batches if batch.auroc is not None]
    promotions = installation.ledger.events("promotion")
    if not known or not promotions or matured is None:
        return {}
    registry = installation.registry
    first = registry.fetch_bundle(registry.version(promotions[0]["version"]))
    parts = matured.by_name
    predicted = pd.concat([with_predictions(installation, name, parts[name]) for name in known], ignore_index=True)
    label, risk = outcomes_of(predicted), predicted[RISK].to_numpy()
    other = ("first model", risks_of(first, predicted))
    title = f"{len(known)} batches, predicted before outcomes were known"
    return {
        "roc": roc_plot(label, risk, title, other=other),
        "calibration": calibration_plot(label, risk, title, other=other),
    }
