"""What report and card say about the effect of the flags, or why it cannot be known; and nothing if nothing was reported."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import pytest
from cards import MONITORING, card
from matplotlib.image import imread
from summaries import DATA

from healthpredict.evaluation.effect import (
    Discontinuity,
    ThresholdComparison,
    TooFewEncounters,
    WeightedDifference,
)
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.threshold_plot import Bin, Side, ThresholdPlot
from healthpredict.evaluation.untreated import Overlap
from healthpredict.reporting.effect import effect_sentences
from healthpredict.reporting.model_card.page import as_html
from healthpredict.reporting.page import effect_plots, page
from healthpredict.reporting.summary import DeliveredPerformance, KindEffect, MeasuredEffect, Summary


def interval(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high)


UNKNOWN = "The outcomes without interventions cannot be known from these data: silent mode or a hold-out would tell."
OVERLAP = Overlap(flagged=15912, treated=9531, unknown=12, effective=5402.4, without_overlap=0.001)
DISCONTINUITY = Discontinuity(
    prevented=interval(0.027, -0.005, 0.059),
    uncorrected=0.03,
    bandwidth=0.1,
    bias_bandwidth=0.2,
    n_below=900,
    n_flagged=800,
)
SIDE = Side(bins=(Bin(margin=0.02, readmitted=interval(0.2, 0.15, 0.26), rows=100),), at_threshold=0.19, at_end=0.24)
PLOT = ThresholdPlot(bandwidth=0.1, below=SIDE, flagged=SIDE)
AGREE = ThresholdComparison(
    discontinuity=DISCONTINUITY.prevented,
    weighted=interval(0.03, 0.01, 0.05),
    difference=interval(-0.003, -0.04, 0.034),
)
DIFFER = AGREE.model_copy(update={"difference": interval(-0.05, -0.09, -0.01)})
MEASURED = MeasuredEffect(
    discontinuity=DISCONTINUITY,
    weighted=WeightedDifference(prevented=interval(0.0412, 0.0103, 0.0721), n_flagged=15912),
    comparison=AGREE,
    plot=PLOT,
    kinds={"telephone-call": KindEffect(accepted=9531, prevented=interval(0.068, 0.017, 0.12))},
)
DELIVERED = DeliveredPerformance(
    batches=9,
    auroc=0.675,
    auroc_frozen=0.665,
    auroc_observed=0.641,
    absolute_offset=0.01,
    worst_offset=0.02,
    alert_rate_error=None,
    highest_alert_rate=None,
)


def summary(overlap: Overlap | None = OVERLAP, effect: MeasuredEffect | None = MEASURED) -> Summary:
    return Summary(data=DATA, models=(), batches=(), delivered=DELIVERED, overlap=overlap, effect=effect, seconds={})


def measured(**changed: Any) -> tuple[str, ...]:
    """The sentences after that on the overlap."""
    return effect_sentences(summary(effect=MEASURED.model_copy(update=changed)))[1:]


def test_without_reports_there_is_no_sentence_and_no_plot() -> None:
    nothing = summary(None, None)
    assert effect_sentences(nothing) == ()
    assert effect_plots(nothing) == {}
    assert "ffect of the flags" not in page(nothing, {}, (), None)


def test_each_part_of_the_effect_has_its_sentence() -> None:
    assert effect_sentences(summary()) == (
        "Of 15,912 flagged encounters, 9,531 had an accepted intervention; of 12, it is not known what was done. Those without "
        "an intervention are as informative as 5,402 encounters of equal weight.",
        "Per 100 flags, 4.1 [1.0, 7.2] readmissions are prevented, as a comparison of flagged patients with and without "
        "intervention shows.",
        "At the threshold, it is 2.7 [-0.5, 5.9] by the discontinuity and 3.0 [1.0, 5.0] by the comparison: they agree within "
        "chance.",
        "Per 100 accepted interventions of the kind telephone-call (9,531 flagged encounters had it and no other), "
        "6.8 [1.7, 12.0] readmissions are prevented.",
    )


def test_that_all_is_known_is_said() -> None:
    overlap, *_ = effect_sentences(summary(OVERLAP.model_copy(update={"unknown": 0})))
    assert "had an accepted intervention. Those" in overlap


def test_estimates_that_differ_are_not_called_equal() -> None:
    _, at_threshold, _ = measured(comparison=DIFFER)
    assert "they differ by -5.0 [-9.0, -1.0], so" in at_threshold
    assert "agree" not in at_threshold


def test_what_cannot_be_known_says_so() -> None:
    sentences = measured(weighted=None, problem=UNKNOWN, comparison=None, kinds={})
    assert sentences == (
        UNKNOWN,
        "At the threshold, 2.7 [-0.5, 5.9] readmissions per 100 flags are prevented, as a comparison of patients just above and "
        "just below it shows.",
    )


def test_too_few_encounters_are_a_reason() -> None:
    few, fewer = (
        TooFewEncounters(reason="50 flagged encounters"),
        TooFewEncounters(reason="9 encounters without a flag"),
    )
    assert measured(weighted=few, discontinuity=fewer, comparison=None, plot=None, kinds={}) == (
        "A comparison of flagged patients with and without intervention is not possible: 50 flagged encounters.",
        "Patients just above and just below the threshold cannot be compared: 9 encounters without a flag.",
    )


def test_reports_without_an_accepted_intervention_have_no_effect() -> None:
    assert effect_sentences(summary(overlap=None)) == (
        "No intervention was accepted, so there is no effect to measure.",
    )


def test_the_page_shows_sentences_plot_and_observed_auroc() -> None:
    shown = summary()
    html = page(shown, effect_plots(shown), (), None)
    section = html.split('<h2 id="performance">')[1].split("<h2")[0]
    assert [re.sub("&#39;", "'", item) for item in re.findall("<li>(.*)</li>", section)] == list(
        effect_sentences(shown)
    )
    table, rest = section.split("</table>")
    assert re.search(r"AUROC as observed</th>\s*<th[^>]*>First model", table)
    assert re.findall(r'number">([.0-9]+)', table) == ["9", "0.675", "0.641", "0.665", "0.010"]
    assert rest.count("<img") == 1


def test_the_plot_shows_both_sides() -> None:
    (png,) = effect_plots(summary()).values()
    pixels = imread(BytesIO(png))[..., :3]
    for color in ((0x1F, 0x5F, 0xA8), (0x76, 0x76, 0x76)):
        near = abs(pixels - [value / 255 for value in color]).max(axis=2) < 0.02
        columns = near.any(axis=0).nonzero()[0]
        assert len(columns) > pixels.shape[1] / 4


@pytest.mark.parametrize("effect", [(), ("Per 100 flags, 4.1 are prevented.",)])
def test_the_card_of_a_version_shows_the_effect(effect: tuple[str, ...]) -> None:
    delivered = DELIVERED.model_copy(update={"batches": 1})
    made = card(monitoring=MONITORING.model_copy(update={"effect": effect, "delivered": delivered}))
    html = as_html(made)
    assert html.count("Per 100 flags, 4.1 are prevented.") == 2 * len(effect), "in its section and in attribute 27"
    assert ("0.675 (0.641 as observed)" in html) == bool(effect)
    assert ("Effect of the flags" in html) == bool(effect)
