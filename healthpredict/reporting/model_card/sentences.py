"""What the card says about limits, maintenance and methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from healthpredict.data.contract import DEATH_OR_HOSPICE
from healthpredict.reporting.model_card.facts import CardFacts
from healthpredict.reporting.model_card.figures import percent, percent_of_setting


def limits(facts: CardFacts) -> tuple[str, ...]:
    """Return the known limits, the most important first."""
    return (*_of_data(facts), *_of_discrimination(facts), *_of_groups(facts), *_of_use(facts))


def _of_data(facts: CardFacts) -> Iterator[str]:
    if facts.prepared is not None and facts.prepared.synthetic:
        yield "The training data is synthetic. Do not use this version for patients."
    if facts.history.forced:
        yield "A person promoted this version although a condition was not met; the ledger holds the reason."
    yield (
        "It is made for patients with diabetes. Encounters that ended in death or in a hospice (discharge disposition "
        f"{', '.join(DEATH_OR_HOSPICE)}) are excluded."
    )
    if not facts.governance.external_validation.source:
        yield "No external validation is recorded: its test patients come from the same source as its training patients."


def _of_discrimination(facts: CardFacts) -> Iterator[str]:
    test = facts.test
    yield (
        f"Its AUROC of {test.evaluation.auroc.value:.3f} means: of 100 pairs of a "
        f"readmitted and another encounter, the other one has the higher risk in {100 * (1 - test.evaluation.auroc.value):.0f}."
    )
    yield f"Of the readmitted encounters, {percent(1 - test.sensitivity)} are not flagged at the threshold."
    curve = test.decision_curve
    if curve is None:
        return
    own = curve.at_threshold
    if own.ppv is not None:
        yield f"Of the flagged encounters, {percent(1 - own.ppv.value)} are not readmitted."
    if own.advantage.low <= 0:
        yield f"At its threshold it is not shown to be more useful than the best simple rule (advantage {own.advantage})."


def _of_groups(facts: CardFacts) -> Iterator[str]:
    overall = facts.test.evaluation.auroc.value
    weak = [f"{one.column} {one.value} ({one.auroc})" for one in facts.test.subgroups if one.auroc.high < overall]
    if weak:
        yield f"It separates patients less well in these groups (uncorrected for their number): {'; '.join(weak)}."
    off = [
        f"{one.column} {one.value} ({100 * one.calibration_in_the_large.value:+.1f} percentage points)"
        for one in facts.test.subgroups
        if one.calibration_in_the_large.low > 0 or one.calibration_in_the_large.high < 0
    ]
    if off:
        yield f"Its risks are on average too high (+) or too low (-) in these groups (uncorrected): {'; '.join(off)}."
    if (monitoring := facts.monitoring) is not None:
        for group in monitoring.subgroups:
            if group.alarm:
                yield f"In use, for {group.column} {group.value}: {group.alarm}."


def _of_use(facts: CardFacts) -> Iterator[str]:
    mapped = [system for system in facts.manifest.code_systems if system.date is not None]
    for system in mapped:
        yield (
            f"Codes of {system.name} are mapped ({system.source}, {system.date}); the model learned from what they are mapped to."
        )
    monitoring = facts.monitoring
    if monitoring is None:
        yield "This card was made when the version was built: it knows nothing of its use. `healthpredict card` writes the newest."
        return
    if monitoring.delivered is None:
        yield "No outcomes of encounters that it predicted are known yet, so its performance in use is not known."
    newest = monitoring.batches[-1] if monitoring.batches else None
    if newest is not None and (unknown := sum((newest.unknown_diagnoses or {}).values())):
        yield f"In {newest.name} ({newest.rows:,} encounters), {unknown:,} diagnoses had a code that it does not know."


class MaintenanceTexts(NamedTuple):
    """How the system monitors and updates a version."""

    comparison: str
    validity: str
    fairness: str
    update: str
    replacement: str


def maintenance(facts: CardFacts) -> MaintenanceTexts:
    """Return how the system monitors and updates the version, with the limits in force."""
    drift, gate = facts.drift, facts.promotion
    delay = "one batch" if facts.label_delay == 1 else f"{facts.label_delay} batches"
    return MaintenanceTexts(
        comparison=(
            f"Every batch is compared with the training data, column by column; outcomes are known {delay} later. False-alarm rate "
            f"of a batch without drift: {percent_of_setting(drift.false_alarm_rate)}."
        ),
        validity=(
            "Validity: with known outcomes, AUROC and calibration are tested at every batch (calibration on the newest "
            f"{drift.calibration_rows:,} encounters, level {percent_of_setting(drift.calibration_level)}). Concept drift is "
            f"falsely reported for at most {percent_of_setting(drift.concept_false_alarm_rate)} of all versions, over "
            "their whole life."
        ),
        fairness=(
            "Fairness: at every batch, sensitivity, positive predictive value and calibration of each group by sex, race, age, "
            f"payer, and sex with age with {drift.min_subgroup_rows} known encounters, corrected for the number of groups. A "
            "difference raises an alarm."
        ),
        update=(
            "Update: the version is recalibrated at the batch that shows it to be off, or that flags "
            f"{100 * drift.alert_rate_tolerance:.0f} percentage points more or less than the promised "
            f"{percent_of_setting(facts.promised_alert_rate)}; it is retrained when new outcomes reach "
            f"{percent_of_setting(drift.min_new_share)} of those trained on, or when concept drift is proven."
        ),
        replacement=(
            f"A retrained version replaces it only if its AUROC is at most {gate.margin:.3f} lower ({gate.anchor_margin:.3f} than "
            f"that of the best version ever), its mean risk is within {gate.max_offset:.2f}, its slope between "
            f"{gate.min_slope:.2f} and {gate.max_slope:.2f}, and no group loses more than {gate.max_subgroup_auroc_loss:.2f} AUROC "
            f"or {gate.max_subgroup_sensitivity_loss:.2f} sensitivity."
        ),
    )


def excluded() -> str:
    """Describe inclusion and exclusion."""
    return (
        "Included: hospital stays of patients with diabetes that match the data contract. Excluded: stays that ended in death or "
        f"in a hospice (discharge disposition {', '.join(DEATH_OR_HOSPICE)}), and rows that break the contract, which are kept in "
        "quarantine with their reasons. Patients are divided into training, validation and test side by a hash of their identifier."
    )


def output(facts: CardFacts) -> str:
    """Describe the output."""
    return (
        f"The probability (0-1) of {facts.outcome}, and whether it reaches the threshold of {facts.manifest.threshold:.3f}, which "
        f"flags {percent(facts.manifest.test.alert_rate)} of the test side. Today, "
        f"{percent_of_setting(facts.promised_alert_rate)} are promised, and the threshold follows at the next "
        "recalibration or retraining."
    )


def methods(facts: CardFacts) -> tuple[str, ...]:
    """Return how the version was developed and evaluated."""
    manifest, calibrator = facts.manifest, facts.manifest.calibrator
    made = f"Recalibrated from version {manifest.trained_version}. " if manifest.recalibration else ""
    return (
        f"{made}A model of the family {manifest.family.replace('_', ' ')} was fitted on training-side patients. Family and "
        "parameters were found by a search among these patients, in this training or an earlier one. Its log-odds are calibrated "
        f"by a line: slope {calibrator.slope:.3f}, intercept {calibrator.intercept:.3f}. Class imbalance was not corrected.",
        "Categories and diagnosis codes become statistics of readmission in the training data, from other patients only. A missing "
        "category is a level of its own; a missing number becomes the median.",
        "Performance is measured on patients that no training has seen, with 95 % intervals from a bootstrap over patients.",
    )


def sensitive_inputs(facts: CardFacts) -> str:
    """Describe which of the variables of (iv)(A)(5)-(13) the model uses."""
    variables = {
        "race": "race",
        "ethnicity": "race",
        "language": "",
        "sexual orientation": "",
        "gender identity": "",
        "sex": "gender",
        "date of birth": "age",
        "social determinants of health": "",
        "health status assessments": "",
    }
    used = [f"{name} (column {column})" for name, column in variables.items() if column in facts.columns]
    unused = [name for name, column in variables.items() if column not in facts.columns]
    notes = "Race and Hispanic ethnicity are one column; age is known in bands of ten years." if used else ""
    return f"Used: {', '.join(used) or 'none'}. Not used: {', '.join(unused) or 'none'}. {notes}".strip()
