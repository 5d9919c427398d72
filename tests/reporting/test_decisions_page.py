"""The page of a report shows every decision."""

from __future__ import annotations

from typing import get_args

import pytest
from summaries import DATA

from healthpredict.monitoring.params import DriftState
from healthpredict.operations.pending import NOT_USED
from healthpredict.reporting.page import history_plots, page
from healthpredict.reporting.summary import BatchSummary, Summary


@pytest.mark.parametrize("decision", [*get_args(DriftState), *NOT_USED])
def test_each_decision_has_a_colour_of_its_own(decision: str) -> None:
    batch = BatchSummary(
        name="batch-01",
        decision=decision,
        reasons=("A reason.",),
        champion_before=1,
        champion=2,
        auroc=0.67,
        offset=0.01,
        time="2026-11-01T00:00:00Z",
    )
    summary = Summary(data=DATA, models=(), batches=(batch,), seconds={})
    html = page(summary, history_plots(summary), [], None)
    style, shown = html.split("</style>")
    assert f'<span class="state {decision}">{decision}</span>' in shown
    assert f".{decision} {{ background:" in style or f".{decision}, ." in style


def test_diagnoses_that_the_champion_does_not_know_are_shown() -> None:
    unknown = {"diag_1": 3, "diag_2": 1200}
    batch = BatchSummary(
        name="batch-01",
        decision="stable",
        reasons=(),
        unknown_diagnoses=unknown,
        champion_before=1,
        champion=1,
        auroc=0.67,
        offset=0.01,
        time="2026-11-01T00:00:00Z",
    )
    summary = Summary(data=DATA, models=(), batches=(batch,), seconds={})
    shown = " ".join(page(summary, history_plots(summary), [], None).split())
    assert "a code that the champion does not know: 3 as primary diagnosis, 1,200 as second diagnosis." in shown


def test_a_card_is_shown_without_its_html() -> None:
    card = {
        "summary": "High & rising",
        "indicator": "warning",
        "detail": "**Why**\n\n1. <b>x</b>",
        "source": {"label": "Us"},
    }
    shown = page(Summary(data=DATA, models=(), batches=(), seconds={}), {}, [], None, card)
    assert '<article class="card warning"><h3>High &amp; rising</h3>' in shown
    assert "<strong>Why</strong>" in shown
    assert "&lt;b&gt;x&lt;/b&gt;" in shown
