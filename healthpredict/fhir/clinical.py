"""Describe what was measured, done, diagnosed and prescribed for a stay, and the visits before it. `rules.RULES` has the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from healthpredict.data.contract import MEDICATIONS
from healthpredict.fhir.chart import DRUGS, PROCEDURES, RESULTS, VISITS
from healthpredict.fhir.dates import Moment
from healthpredict.fhir.description import Description
from healthpredict.fhir.diagnoses import read_diagnoses
from healthpredict.fhir.doses import dose_change
from healthpredict.fhir.drugs import antidiabetics, drug_key
from healthpredict.fhir.history import History, visits_before
from healthpredict.fhir.measurements import Measured, read_a1c, read_glucose, read_weight
from healthpredict.fhir.resources import Observation
from healthpredict.fhir.rules import EARLIER_ORDERS_DAYS, YEAR_DAYS
from healthpredict.fhir.stays import Stay


def describe_weight(found: Description, history: History, stay: Stay, until: Moment) -> None:
    """Set the weight."""
    _measure(found, history, "weight", history.measured["weight"].of(stay, until), read_weight)


def describe_laboratory(found: Description, history: History, stay: Stay, until: Moment) -> None:
    """Set glucose and A1C."""
    for name, read in (("max_glu_serum", read_glucose), ("A1Cresult", read_a1c)):
        _measure(found, history, name, history.measured[name].of(stay, until), read)
        if not history.laboratory and RESULTS not in history.chart.delivered and name not in found.unknown:
            found.unknown[name] = f"no {RESULTS} was delivered"


def _measure(
    found: Description,
    history: History,
    name: str,
    results: Sequence[Observation],
    read: Callable[[Sequence[Observation]], Measured],
) -> None:
    measured = read(results)
    found.record[name] = measured.value
    if measured.problem is not None:
        found.unknown[name] = measured.problem
    history.use(results)


def count_services(found: Description, history: History, stay: Stay, until: Moment) -> None:
    """Set the numbers of laboratory results, procedures and drugs."""
    chart = history.chart
    results = history.results.of(stay, until)
    history.use(results)
    delivered = bool(history.laboratory) or RESULTS in chart.delivered
    found.set_count("num_lab_procedures", len(results), None if delivered else RESULTS)
    procedures = history.procedures.of(stay, until)
    history.use(procedures)
    delivered = bool(chart.procedures) or PROCEDURES in chart.delivered
    found.set_count("num_procedures", len(procedures), None if delivered else PROCEDURES)
    administered = history.administrations.of(stay, until)
    ordered = history.orders.of(stay, until)
    history.use(administered)
    history.use(ordered)
    drugs = {
        drug_key(drug) if (drug := chart.medication(item)) is not None else None for item in (administered or ordered)
    }
    if None in drugs:
        found.unknown_codes["medication that was not delivered"] += 1
    delivered = bool(chart.administrations or chart.orders) or DRUGS in chart.delivered
    found.set_count("num_medications", len(drugs - {None}), None if delivered else DRUGS)


def count_visits(found: Description, history: History, stay: Stay) -> None:
    """Set the numbers of visits in the year before the stay."""
    start, chart = stay.start.time, history.chart
    delivered = len(chart.encounters) > len(stay.encounters) or VISITS in chart.delivered
    outpatient = visits_before(history.outpatient, start, YEAR_DAYS)
    led_to_stay = history.emergency_before(stay)
    led_ids = {encounter.id for encounter in led_to_stay}
    emergency = [visit for visit in visits_before(history.emergency, start, YEAR_DAYS) if visit.id not in led_ids]
    first = start - timedelta(days=YEAR_DAYS)
    inpatient = [other for other in history.stays if first <= other.start.time < start and other is not stay]
    history.use([*led_to_stay, *outpatient, *emergency, *(item for other in inpatient for item in other.encounters)])
    history.use(stay.encounters)
    for name, visits in (
        ("number_outpatient", outpatient),
        ("number_emergency", emergency),
        ("number_inpatient", inpatient),
    ):
        found.set_count(name, len(visits), None if delivered else VISITS)


def describe_diagnoses(found: Description, history: History, stay: Stay, until: Moment) -> None:
    """Set the first three diagnoses and their number."""
    diagnoses = read_diagnoses(history, stay, until)
    history.use(diagnoses.used)
    found.unknown_codes.update(diagnoses.unknown)
    codes = diagnoses.codes
    for position in range(3):
        name = f"diag_{position + 1}"
        found.record[name] = codes[position] if position < len(codes) else None
        if position < len(codes) and codes[position] is None:
            found.unknown[name] = "the diagnosis of this rank has no known code"
        elif position >= len(codes) and diagnoses.unknown:
            found.unknown[name] = "the other diagnoses have no known code"
    found.own_diagnosis = diagnoses.own
    found.principal = diagnoses.first
    if codes:
        found.set_count("number_diagnoses", len(codes))
        if not diagnoses.ranked:
            found.unknown["number_diagnoses"] = (
                "the encounter does not rank its diagnoses; those that were found are counted"
            )
    else:
        found.record["number_diagnoses"] = None
        found.obstacles.append("The stay has no diagnosis with a known code.")


def describe_drugs(found: Description, history: History, stay: Stay, until: Moment) -> None:
    """Set the column of each antidiabetic, `change` and `diabetesMed`."""
    chart, record = history.chart, found.record
    of_stay = {id(item) for item in history.orders.of(stay, until)}
    earliest = stay.start.time - timedelta(days=EARLIER_ORDERS_DAYS)
    earlier = [
        order
        for order in history.antidiabetic_orders
        if id(order.request) not in of_stay and order.time is not None and earliest <= order.time.time < stay.start.time
    ]
    during = [order for order in history.antidiabetic_orders if id(order.request) in of_stay]
    history.use([order.request for order in earlier])
    given = {
        name
        for item in history.administrations.of(stay, until)
        if (drug := chart.medication(item)) is not None
        for name in antidiabetics(drug)
    }
    before = {name for order in earlier for name in order.columns}
    ordered = {name for order in during for name in order.columns}
    changed = bool(before) and bool((ordered | given) - before)
    for name in MEDICATIONS:
        column = name.replace("-", "_")
        if name not in before and name not in ordered and name not in given:
            record[column] = "No"
            continue
        baseline = [order for order in earlier if name in order.columns][-1:]
        orders = [*baseline, *(order for order in during if name in order.columns)]
        change = dose_change([order.dose for order in orders]) if name in ordered else "Steady"
        if change is None or not orders:
            found.unknown[column] = "doses are missing, or their units differ"
        record[column] = change or "Steady"
        changed |= change in ("Up", "Down")
    record["change"] = "Ch" if changed else "No"
    record["diabetesMed"] = "Yes" if before | ordered | given else "No"
    if not (chart.administrations or chart.orders or DRUGS in chart.delivered):
        reason = f"no {DRUGS} was delivered"
        found.unknown.update(dict.fromkeys(("change", "diabetesMed"), reason))
        found.unknown.update(dict.fromkeys((name.replace("-", "_") for name in MEDICATIONS), reason))
