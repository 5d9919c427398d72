"""The card as one HTML page that needs no network and prints on two sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from healthpredict.evaluation.decision_curve import DecisionCurve
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.report import Subgroup
from healthpredict.monitoring.words import name_of
from healthpredict.reporting.model_card.card import ModelCard
from healthpredict.reporting.model_card.facts import GROUP_COLUMNS
from healthpredict.reporting.model_card.figures import percent

if TYPE_CHECKING:
    from jinja2 import Template

WIDTH: Final = 320
HEIGHT: Final = 130
"""Size of the plot area of the decision curve, in units of its SVG. The template has the same numbers."""


@dataclass(frozen=True)
class Curve:
    """A decision curve as SVG.

    Attributes:
        lines: name -> points of a polyline.
        zero: y of a net benefit of 0.
        top: net benefit at the top.
        ticks: x and text of each tick of the threshold.
        own: x of the model's own threshold.
    """

    lines: dict[str, str]
    zero: float
    top: float
    ticks: tuple[tuple[float, str], ...]
    own: float


def as_html(card: ModelCard) -> str:
    """Render the card as HTML."""
    shown = [group for group in card.test.subgroups if group.column in GROUP_COLUMNS]
    others = [group for group in card.test.subgroups if group.column not in GROUP_COLUMNS]
    curve = card.test.decision_curve
    return _template().render(
        card=card,
        test=card.test,
        found=card.test.evaluation,
        own=curve.at_threshold if curve else None,
        curve=_curve(curve) if curve else None,
        shown=shown,
        others=others,
        scale=_scale([*(group.auroc for group in card.test.subgroups), card.test.evaluation.auroc]),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    text = resources.files("healthpredict.reporting.model_card").joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"name_of": name_of, "percent": percent, "group": _group}
    return environment.from_string(text)


def _group(group: Subgroup) -> str:
    return f"{name_of(group.column)}: {group.value}"


def _scale(intervals: Sequence[Interval]) -> tuple[float, float]:
    """Return the smallest low and the largest high end, for bars in a table."""
    low, high = min(one.low for one in intervals), max(one.high for one in intervals)
    return low, max(high, low + 1e-9)


def _curve(curve: DecisionCurve) -> Curve:
    points = curve.points
    last = points[-1].threshold
    # Flagging everybody falls far below 0, where it is of no interest.
    top = max(0.0, *(point.net_benefit.value for point in points), points[0].treat_all.value) or 1e-9
    bottom = -top / 4

    def x(threshold: float) -> float:
        return round(threshold / last * WIDTH, 1)

    def y(benefit: float) -> float:
        return round((top - benefit) / (top - bottom) * HEIGHT, 1)

    def line(name: str) -> str:
        shown = [point for point in points if getattr(point, name).value >= bottom]
        return " ".join(f"{x(point.threshold)},{y(getattr(point, name).value)}" for point in shown)

    return Curve(
        lines={
            "flag everybody": line("treat_all"),
            "inpatient visits alone": line("baseline"),
            "this model": line("net_benefit"),
        },
        zero=y(0),
        top=top,
        ticks=tuple((x(point.threshold), f"{100 * point.threshold:.0f} %") for point in curve.selected),
        own=x(min(curve.at_threshold.threshold, last)),
    )
