"""The HTML page of a report: one file that needs no network, and its plots."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Literal

import numpy as np

from healthpredict.monitoring.subgroups import SubgroupDrift
from healthpredict.monitoring.words import name_of
from healthpredict.reporting.effect import effect_sentences
from healthpredict.reporting.plots import Series, decision_plot, effect_plot, heat_map, history_plot
from healthpredict.reporting.summary import BatchSummary, Summary

_CAPTIONS: Final = {
    "auroc": "AUROC by batch: the champion that predicted it, its AUROC as expected before outcomes were known, and the first "
    "model without replacement. The values are in the table of batches.",
    "offset": "Mean risk minus readmission rate by batch, for champion and first model. The values are in the table of batches.",
    "roc": "ROC curves of the champions and of the first model over all batches with known outcomes.",
    "calibration": "Readmissions against predicted risk, of the champions and of the first model, in ten bins of equal size.",
    "decision_curve": "Net benefit by threshold of the champion (the band is its 95 % interval) and the last challenger, beside "
    "flagging everybody, flagging nobody and the number of inpatient visits alone. The values are in the table of usefulness.",
    "effect": "Readmissions against the risk minus the threshold, in bins with 95 % intervals, and a line fitted to each side. "
    "If flags prevent readmissions, the line of the flagged patients begins below the end of the other one. The sentences above "
    "have the values.",
    "drift": "Distance of each drifted feature from the training data by batch. The values are in the table of drift.",
}
"""Caption of each plot, which is also its alternative text. The keys are the names of the plots: files `plots/NAME.png`, and
`plot("NAME")` in the template."""


def page(
    summary: Summary,
    plots: Mapping[str, bytes],
    events: Sequence[dict[str, Any]],
    prefect_url: str | None,
    cds_card: Mapping[str, Any] | None = None,
) -> str:
    """Render the page as HTML.

    Args:
        summary: the content.
        plots: name -> PNG, with the names of `history_plots`, `decision_plots`, `effect_plots`, `roc` and `calibration`.
        events: events of the ledger.
        prefect_url: URL of Prefect's pages for links, or None.
        cds_card: a card of CDS Hooks, as the API sent it, or None.
    """
    from jinja2 import Environment
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    template = resources.files("healthpredict.reporting").joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["name_of"] = name_of
    # This preset passes no HTML on.
    environment.filters["markdown"] = lambda text: Markup(MarkdownIt("js-default").render(text))  # noqa: S704
    return environment.from_string(template).render(
        summary=summary,
        plots={name: base64.b64encode(plot).decode() for name, plot in plots.items()},
        captions=_CAPTIONS,
        columns=drifted_columns(summary),
        predicted=_predicted(summary),
        alarmed=alarmed_groups(summary),
        effect=effect_sentences(summary),
        ledger=events,
        prefect_url=prefect_url,
        cds_card=cds_card,
    )


def history_plots(summary: Summary) -> dict[str, bytes]:
    """Return the plots over all batches: `auroc`, `offset` and `drift`, as PNG."""
    return {"auroc": auroc_plot(summary), "offset": _offset_plot(summary), "drift": _heat_map(summary)}


def decision_plots(summary: Summary) -> dict[str, bytes]:
    """Return the plot `decision_curve` as PNG, or no plot if the usefulness is not known yet."""
    if not summary.decision_curves:
        return {}
    curves = {f"{model.name}, version {model.version}": model.curve for model in summary.decision_curves}
    rows = summary.decision_curves[0].curve.rows
    return {
        "decision_curve": decision_plot(curves, f"Usefulness for {rows:,} encounters that no version was trained on")
    }


def effect_plots(summary: Summary) -> dict[str, bytes]:
    """Return the plot `effect` as PNG, or no plot if the discontinuity at the threshold is not known."""
    if summary.effect is None or summary.effect.plot is None:
        return {}
    return {"effect": effect_plot(summary.effect.plot)}


def auroc_plot(summary: Summary) -> bytes:
    """Plot by batch the AUROC of the champion, its expected AUROC, and the AUROC of the first model, as PNG."""
    predicted = _predicted(summary)
    lines = [
        Series("first model", [_or_nan(batch.auroc_frozen) for batch in predicted], "first model"),
        Series(
            "champion, expected before outcomes", [_or_nan(batch.expected_auroc) for batch in predicted], "expected"
        ),
        Series(
            "champion",
            [_or_nan(batch.auroc) for batch in predicted],
            "champion",
            [f"v{batch.champion}" if batch.auroc is not None else "" for batch in predicted],
        ),
    ]
    return history_plot(_short_names(predicted), lines, "Each batch, predicted before its outcomes were known", "AUROC")


def _offset_plot(summary: Summary) -> bytes:
    predicted = _predicted(summary)
    lines = [
        Series("first model", [_or_nan(batch.offset_frozen) for batch in predicted], "first model"),
        Series("champion", [_or_nan(batch.offset) for batch in predicted], "champion"),
    ]
    return history_plot(_short_names(predicted), lines, "Calibration in the large", "Mean risk minus readmissions")


def _heat_map(summary: Summary) -> bytes:
    predicted, columns = _predicted(summary), drifted_columns(summary)
    severity = np.array([[batch.severity.get(column, 0.0) for batch in predicted] for column in columns])
    return heat_map(
        [name_of(column) for column in columns],
        _short_names(predicted),
        severity.reshape(len(columns), len(predicted)),
        "Features that drifted in any batch",
    )


def drifted_columns(summary: Summary) -> list[str]:
    """Return the features that drifted in any batch, the most frequent first."""
    drifted_batches: dict[str, int] = {}
    for batch in summary.batches:
        for column, severity in batch.severity.items():
            drifted_batches[column] = drifted_batches.get(column, 0) + (severity >= 1)
    return sorted(
        (column for column, times in drifted_batches.items() if times), key=lambda column: -drifted_batches[column]
    )


@dataclass(frozen=True)
class AlarmedGroup:
    """A group of patients that raised an alarm in some batch.

    Attributes:
        column: what the group is made of.
        value: the group.
        states: one for each batch that a champion predicted; "unknown" if the group was too small.
        newest: the sentence of the newest alarm.
    """

    column: str
    value: str
    states: tuple[Literal["alarm", "no alarm", "unknown"], ...]
    newest: str


def alarmed_groups(summary: Summary) -> list[AlarmedGroup]:
    """Return the groups that raised an alarm in any batch, the one that raised the first alarm first."""
    batches = [{(group.column, group.value): group for group in batch.subgroups} for batch in _predicted(summary)]
    keys = dict.fromkeys(key for groups in batches for key, group in groups.items() if group.alarm)
    alarmed = []
    for column, value in keys:
        over_time = [groups.get((column, value)) for groups in batches]
        alarms = [group.alarm for group in over_time if group is not None and group.alarm]
        alarmed.append(AlarmedGroup(column, value, tuple(map(_state, over_time)), alarms[-1]))
    return alarmed


def _state(group: SubgroupDrift | None) -> Literal["alarm", "no alarm", "unknown"]:
    if group is not None and group.alarm:
        return "alarm"
    return "no alarm" if group is not None and group.metrics else "unknown"


def _predicted(summary: Summary) -> list[BatchSummary]:
    """Return the batches that a champion predicted."""
    return [batch for batch in summary.batches if batch.champion is not None]


def _short_names(batches: list[BatchSummary]) -> list[str]:
    return [batch.name.removeprefix("batch-") for batch in batches]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
