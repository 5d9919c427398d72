"""The rows of the tables on the pages of Prefect's runs. The keys of a row are the columns."""

from __future__ import annotations

from typing import Any, Final

from healthpredict.evaluation.report import TestReport
from healthpredict.monitoring.data_drift import DataDrift
from healthpredict.reporting.summary import Summary

_OF_BATCH: Final = {
    *("name", "rows", "drifted_share", "decision", "champion_before", "champion"),
    *("auroc", "auroc_frozen", "offset", "alert_rate"),
}


def drift_rows(drift: DataDrift) -> list[dict[str, Any]]:
    """Return every column with its distance and limit by each method, the farthest over its limit first."""
    compared = (*drift.columns, *drift.joint, *drift.prediction)
    return [
        {
            "column": column.column,
            "method": column.method,
            "with": column.partner or "",
            "category": column.category or "",
            "score": round(column.score, 4),
            "threshold": round(column.threshold, 4),
            "drifted": column.drifted,
        }
        for column in sorted(compared, key=lambda column: column.severity, reverse=True)
    ]


def metric_rows(report: TestReport) -> list[dict[str, Any]]:
    """Return the metrics of a model on the test side, with their intervals."""
    names = ("auroc", "auprc", "brier", "calibration_in_the_large", "calibration_slope")
    intervals = {name: getattr(report.evaluation, name) for name in names} | {"baseline auroc": report.baseline_auroc}
    intervals |= {f"auroc {group.column} {group.value}": group.auroc for group in report.subgroups}
    rows: list[dict[str, Any]] = [
        {"metric": name, "value": round(i.value, 4), "low": round(i.low, 4), "high": round(i.high, 4)}
        for name, i in intervals.items()
    ]
    return [*rows, {"metric": "ece", "value": round(report.evaluation.ece, 4), "low": None, "high": None}]


def batch_rows(summary: Summary) -> list[dict[str, Any]]:
    """Return all batches with their decision and performance."""
    return [batch.model_dump(mode="json", include=_OF_BATCH) for batch in summary.batches]
