"""The page shows the usefulness of champion and challenger, and which groups raised an alarm in which batch."""

from __future__ import annotations

import re

import numpy as np
import pytest
from summaries import DATA

from healthpredict.evaluation.decision_curve import decision_curve
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.subgroups import GroupMetric
from healthpredict.monitoring.subgroups import SubgroupDrift
from healthpredict.reporting.page import alarmed_groups, decision_plots, page
from healthpredict.reporting.summary import BatchSummary, ModelCurve, Summary

UNKNOWN = "\N{EN DASH}"
MISSED = "the sensitivity is 0.298, lower than for other patients"
MEASURED = GroupMetric(
    value=Interval(value=0.3, low=0.2, high=0.4), gap=Interval(value=-0.13, low=-0.2, high=-0.06), p_value=0.005
)


def group(value: str, alarm: str | None = None, *, judged: bool = True) -> SubgroupDrift:
    metrics = {"sensitivity": MEASURED} if judged else {}
    return SubgroupDrift(
        column="age", value=value, rows=900, risk=0.1, reference_risk=0.1, metrics=metrics, alarm=alarm
    )


def batch(name: str, *groups: SubgroupDrift, champion: int | None = 1) -> BatchSummary:
    return BatchSummary(
        name=name,
        decision="warn",
        reasons=("A reason.",),
        champion=champion,
        subgroups=groups,
        time="2026-11-01T00:00:00Z",
    )


def summary(*batches: BatchSummary, curves: tuple[ModelCurve, ...] = ()) -> Summary:
    return Summary(data=DATA, models=(), batches=batches, decision_curves=curves, seconds={})


@pytest.fixture(scope="module")
def curves() -> tuple[ModelCurve, ...]:
    rng = np.random.default_rng(0)
    risk = rng.beta(2, 14, 3000)
    label = rng.random(3000) < risk
    return tuple(
        ModelCurve(
            name=name,
            version=version,
            curve=decision_curve(
                label, of, rng.poisson(1, 3000) * 1.0, np.arange(3000), threshold=0.125, n_bootstrap=20
            ),
        )
        for name, version, of in (("champion", 3, risk), ("challenger", 4, np.round(risk, 1)))
    )


def cells(html: str, label: str) -> list[list[str]]:
    """The texts of the rows of a table."""
    table = html.split(f'aria-label="{label}"')[1].split("</table>", maxsplit=1)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [
        [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def test_each_group_with_an_alarm_has_a_row_with_a_state_for_each_batch() -> None:
    shown = summary(
        batch("batch-01", group("[50-60)")),
        batch("batch-02", champion=None),
        batch("batch-03", group("[50-60)", "risks are too high"), group("[90-100)", judged=False)),
        batch("batch-04", group("[50-60)"), group("[90-100)", "an older alarm")),
        batch("batch-05", group("[50-60)"), group("[90-100)", MISSED)),
    )
    first, second = alarmed_groups(shown)
    assert (first.value, first.states) == ("[50-60)", ("no alarm", "alarm", "no alarm", "no alarm"))
    assert (second.value, second.states) == ("[90-100)", ("unknown", "unknown", "alarm", "alarm"))
    assert second.newest == MISSED
    html = page(shown, {}, [], None)
    assert cells(html, "Timeline of subgroups") == [
        ["Group", "01", "03", "04", "05", "Newest alarm"],
        ["age: [50-60)", "○", "●", "○", "○", "risks are too high"],
        ["age: [90-100)", UNKNOWN, UNKNOWN, "●", "●", MISSED],
    ]
    newest = cells(html, "Table of subgroups")[-1]
    assert newest[0] == "age: [90-100)"
    assert newest[5] == "0.300 [0.200, 0.400] (-0.130*)"
    assert newest[6:] == [UNKNOWN, UNKNOWN, UNKNOWN]


def test_without_an_alarm_the_page_says_so() -> None:
    html = page(summary(batch("batch-01", group("[50-60)"))), {}, [], None)
    assert "No group has raised an alarm in any batch." in html
    assert "Timeline of subgroups" not in html


def test_the_decision_curve_has_a_plot_with_text_and_a_table(curves: tuple[ModelCurve, ...]) -> None:
    shown = summary(curves=curves)
    plots = decision_plots(shown)
    html = page(shown, plots, [], None)
    assert re.search(r'<img src="data:image/png;base64,[^"]+" alt="Net benefit by threshold', html)
    rows = cells(html, "Table of usefulness")
    own = curves[0].curve.at_threshold
    assert rows[1] == ["champion, version 3"]
    assert rows[2][:2] == [
        "0.125 (its own)",
        f"{100 * own.alert_rate.value:.1f} [{100 * own.alert_rate.low:.1f}, {100 * own.alert_rate.high:.1f}]",
    ]
    assert rows[2][5].startswith(f"{1000 * own.net_benefit.value:.1f} [")
    assert [row[0] for row in rows[3:9]] == ["0.050", "0.100", "0.150", "0.200", "0.250", "0.300"]
    assert rows[9] == ["challenger, version 4"]
    assert len(rows) == 17


def test_before_outcomes_are_known_there_is_no_usefulness() -> None:
    assert decision_plots(summary()) == {}
    assert "No outcomes of patients that no version was trained on are known yet." in page(summary(), {}, [], None)
