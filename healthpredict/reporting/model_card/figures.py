"""The figures of the records as sentences."""

from __future__ import annotations

from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.report import TestReport
from healthpredict.reporting.model_card.card import Monitoring
from healthpredict.reporting.model_card.facts import CardFacts


def percent(share: float, digits: int = 1) -> str:
    """Write a share (0-1) in percent."""
    return f"{100 * share:.{digits}f} %"


def percent_of_setting(share: float) -> str:
    """Write a share (0-1) that a setting gives in percent, with as many digits as it has."""
    return f"{100 * share:g} %"


def percents(interval: Interval, digits: int = 1) -> str:
    """Write a share (0-1) and its 95 % interval in percent."""
    low, value, high = (100 * share for share in (interval.low, interval.value, interval.high))
    return f"{value:.{digits}f} % [{low:.{digits}f}, {high:.{digits}f}]"


def validity(test: TestReport) -> str:
    """Describe discrimination, calibration and usefulness on the test side in a few sentences."""
    found = test.evaluation
    sentences = [
        f"On {found.rows:,} encounters of {found.patients:,} patients that it was not trained on ({percent(found.prevalence)} "
        f"readmitted): AUROC {found.auroc}, average precision {found.auprc}, Brier score {found.brier}, calibration slope "
        f"{found.calibration_slope}, mean risk minus readmitted share {found.calibration_in_the_large}, expected calibration "
        f"error {found.ece:.3f}.",
        f"At the threshold of {test.threshold:.3f}, {percent(test.alert_rate)} of the encounters are flagged, among them "
        f"{percent(test.sensitivity)} of the readmitted ones.",
        f"The number of inpatient visits alone has an AUROC of {test.baseline_auroc}.",
    ]
    if test.decision_curve is not None:
        own = test.decision_curve.at_threshold
        ppv = "" if own.ppv is None else f" Of the flagged encounters, {percents(own.ppv)} are readmitted."
        sentences.append(f"Net benefit at the threshold: {own.net_benefit}.{ppv}")
    return " ".join(sentences) + " Brackets hold 95 % intervals over patients."


def fairness(test: TestReport) -> str:
    """Describe which subgroups of the test side are served worst and best."""
    groups = test.subgroups
    if not groups:
        return "No group of patients has enough encounters on the test side to be evaluated."
    worst, best = (choose(groups, key=lambda group: group.auroc.value) for choose in (min, max))
    farthest = max(groups, key=lambda group: abs(group.calibration_in_the_large.value))
    return (
        f"Of {len(groups)} groups by sex, race, age, payer, and sex with age, the AUROC is lowest for {worst.column} {worst.value} "
        f"({worst.auroc}, {worst.rows:,} encounters) and highest for {best.column} {best.value} ({best.auroc}, {best.rows:,} "
        f"encounters). Mean risk minus readmitted share is farthest from 0 for {farthest.column} {farthest.value}: "
        f"{farthest.calibration_in_the_large}."
    )


def local_validity(monitoring: Monitoring | None) -> str | None:
    """Describe the performance on batches that the version predicted, or return None if it is not known."""
    if monitoring is None or monitoring.delivered is None:
        return None
    found = monitoring.delivered
    # Interventions may have changed the outcomes.
    observed = (
        "" if not monitoring.effect or found.auroc_observed is None else f" ({found.auroc_observed:.3f} as observed)"
    )
    described = (
        f"Over {found.batches} batches that this version predicted and whose outcomes are known: mean AUROC {found.auroc:.3f}"
        f"{observed}, mean absolute difference between mean risk and readmitted share {found.absolute_offset:.3f} (at worst "
        f"{found.worst_offset:.3f})."
    )
    return " ".join((described, *monitoring.effect))


def local_fairness(monitoring: Monitoring | None) -> str | None:
    """Describe how groups are served in use, or return None if it is not known."""
    measured = [group for group in monitoring.subgroups if group.metrics] if monitoring else []
    if monitoring is None or not measured:
        return None
    alarmed = [f"{group.column} {group.value} ({group.alarm})" for group in measured if group.alarm]
    problems = "; ".join(alarmed) if alarmed else "none is served worse than the others beyond chance"
    sentence = f"{len(measured)} groups with enough known outcomes, when {monitoring.checked} was checked: {problems}."
    by_sensitivity = [group for group in measured if "sensitivity" in group.metrics]
    if by_sensitivity:
        lowest = min(by_sensitivity, key=lambda group: group.metrics["sensitivity"].value.value)
        value = lowest.metrics["sensitivity"].value
        sentence += f" The sensitivity is lowest for {lowest.column} {lowest.value}: {percents(value)}."
    return sentence


def training_data(facts: CardFacts) -> str:
    """Describe the training data in a few sentences."""
    rows = "" if facts.training_rows is None else f"{facts.training_rows:,} encounters of "
    sentences = [f"Trained on {rows}{len(facts.manifest.trained_on)} batches ({', '.join(facts.manifest.trained_on)})."]
    if (data := facts.prepared) is not None:
        kind = "Synthetic data" if data.synthetic else "Data"
        sentences.append(
            f"{kind} from {data.source}: {data.encounters:,} encounters of {data.patients:,} patients, {data.quarantined:,} left "
            f"out as invalid, {data.cohort:,} at risk of readmission, {percent(data.readmitted_share)} of them readmitted."
        )
    return " ".join(sentences)


def representation(facts: CardFacts) -> str:
    """Describe the shares of groups in the training data."""
    groups = facts.training_groups
    if not groups:
        return "Not known: the bundle has no reference profile."
    listed = (
        f"{column}: {', '.join(f'{value} {percent(share)}' for value, share in shares.items())}"
        for column, shares in groups.items()
    )
    return f"Shares of the training encounters. {'; '.join(listed)}."
