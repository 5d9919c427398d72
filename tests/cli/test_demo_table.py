"""The table that a demo ends with."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from summaries import DATA

from healthpredict.cli import demo
from healthpredict.evaluation.untreated import Overlap
from healthpredict.monitoring.alarms import OpenAlarm
from healthpredict.reporting.summary import BatchSummary, DeliveredPerformance, Summary

RECALIBRATED = BatchSummary(
    name="batch-10",
    rows=7949,
    decision="recalibrate",
    alarms=("payer_code",) * 12,
    reasons=("A reason.",),
    champion_before=10,
    champion=11,
    auroc=0.67,
    auroc_frozen=0.65,
    offset=-0.004,
    alert_rate=0.236,
    promised_alert_rate=0.2,
    time="2026-11-01T00:00:00Z",
)
DELIVERED = DeliveredPerformance(
    batches=1,
    auroc=0.67,
    auroc_frozen=0.65,
    absolute_offset=0.004,
    worst_offset=0.011,
    alert_rate_error=0.036,
    highest_alert_rate=0.236,
)
OVERLAP = Overlap(flagged=900, treated=500, unknown=0, effective=300, without_overlap=0)


def shown(monkeypatch: pytest.MonkeyPatch, summary: Summary) -> list[str]:
    """What a terminal of 80 columns shows."""
    output = StringIO()
    monkeypatch.setattr(demo, "_console", Console(file=output, width=80))
    demo._show(summary)
    return output.getvalue().splitlines()


def test_longest_row_fits_into_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, Summary(data=DATA, models=(), batches=(RECALIBRATED,), seconds={}))
    (row,) = [line for line in lines if "batch-10" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["batch-10", "recalibrate", "10 -> 11", "0.670", "0.650", "-0.004", "0.236", "12"]


def test_a_refused_batch_has_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = BatchSummary(name="batch-11", decision="refused", reasons=("A reason.",), time="2026-11-01T00:00:00Z")
    lines = shown(monkeypatch, Summary(data=DATA, models=(), batches=(refused,), seconds={}))
    (row,) = [line for line in lines if "batch-11" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")][2:] == [""] * 6


def test_open_alarms_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    alarm = OpenAlarm(
        about="age", sentence="Age jumped.", first_batch="batch-02", newest_batch="batch-10", trained_version=3
    )
    summary = Summary(data=DATA, models=(), batches=(RECALIBRATED,), alarms=(alarm,), seconds={})
    assert shown(monkeypatch, summary)[-1] == "Alarm    batch-10: Age jumped."


def test_without_reported_interventions_nothing_is_said_of_an_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    observed = RECALIBRATED.model_copy(update={"auroc_observed": 0.67})
    summary = Summary(data=DATA, models=(), batches=(observed,), delivered=DELIVERED, seconds={})
    assert not [line for line in shown(monkeypatch, summary) if line.startswith("Effect")]


@pytest.mark.parametrize(
    ("auroc", "delivered", "without"), [(0.67, DELIVERED, "0.670"), (None, None, "not known")], ids=["known", "unknown"]
)
def test_with_reported_interventions_both_readings_and_the_effect_are_shown(
    monkeypatch: pytest.MonkeyPatch, auroc: float | None, delivered: DeliveredPerformance | None, without: str
) -> None:
    batches = (
        RECALIBRATED.model_copy(update={"auroc": auroc, "auroc_observed": 0.641}),
        BatchSummary(name="batch-11", decision="stable", reasons=("A reason.",), time="2026-11-01T00:00:00Z"),
    )
    summary = Summary(data=DATA, models=(), batches=batches, delivered=delivered, overlap=OVERLAP, seconds={})
    reading, effect = [line for line in shown(monkeypatch, summary) if line.startswith("Effect")]
    assert reading == (
        f"Effect   The mean AUROC is 0.641 for the outcomes as observed, and {without} without interventions."
    )
    assert effect.startswith("Effect   Of 900 flagged encounters, 500 had an accepted intervention")


def test_lines_below_the_table_say_what_was_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    summary = Summary(data=DATA, models=(), batches=(RECALIBRATED,), delivered=DELIVERED, seconds={})
    assert shown(monkeypatch, summary)[-3:] == [
        "Delivered: mean AUROC 0.670 over 1 batches with known outcomes; the first model alone 0.650.",
        "Offset (mean risk minus share of readmissions): 0.004 on average, up or down, at most 0.011.",
        "Alert rate, when a batch arrives: differs from the promised one by 0.036 on average, and is at most 0.236.",
    ]
