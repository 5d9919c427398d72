"""Index admissions, transfers, 30 days and planned readmissions, each a rule that can be switched off."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import pytest
from resources import concept, condition, encounter, icd10, patient

from healthpredict.data.import_params import ImportParams
from healthpredict.fhir.admissions import Admissions, find_admissions
from healthpredict.fhir.chart import Chart
from healthpredict.fhir.history import History
from healthpredict.fhir.resources import TYPES
from healthpredict.fhir.terminology import Terminology

Resource = dict[str, Any]
LAST_DAY = date(2026, 1, 1)
DIABETES = condition("diabetes", icd10("E11.9"), encounter=None, recordedDate="2010-01-01")


def find(*resources: Resource, last_day: date = LAST_DAY, **params: Any) -> Admissions:
    chart = Chart(Terminology())
    for resource in (patient(), DIABETES, *resources):
        chart.add(msgspec.convert(resource, TYPES[resource["resourceType"]]))
    settings = ImportParams(**params)
    return find_admissions(History(chart, settings.transfer_days if settings.merge_stays else None), settings, last_day)


def stay(name: str, start: str, end: str, reason: str = "I50.9", kind: str = "IMP", **changes: Any) -> Resource:
    return encounter(
        name, kind, f"2024-{start}T10:00:00Z", f"2024-{end}T15:00:00Z", reasonCode=[icd10(reason)], **changes
    )


def outcomes(found: Admissions) -> list[str | None]:
    return [admission.readmitted for admission in found.index]


@pytest.mark.parametrize(
    ("start", "outcome"),
    [("03-12", "<30"), ("04-09", "<30"), ("04-10", ">30"), ("12-01", ">30"), (None, "NO")],
)
def test_a_readmission_within_30_days_counts(start: str | None, outcome: str) -> None:
    later = [stay("later", start, "12-30")] if start else []
    assert outcomes(find(stay("index", "03-05", "03-10"), *later))[0] == outcome


def test_a_readmission_after_the_later_days_is_none() -> None:
    index, later = stay("index", "03-05", "03-10"), stay("later", "12-01", "12-30")
    assert outcomes(find(index, later, later_days=100)) == ["NO", "NO"]


def test_transfers_and_overlaps_are_one_stay_unless_switched_off() -> None:
    parts = [stay("a", "03-05", "03-10"), stay("b", "03-10", "03-12"), stay("c", "03-08", "03-09")]
    assert outcomes(find(*parts)) == ["NO"]
    assert outcomes(find(*parts, merge_stays=False)) == ["<30", "<30", "NO"]
    assert outcomes(find(stay("a", "03-05", "03-10"), stay("b", "03-11", "03-14"), transfer_days=0)) == ["<30", "NO"]


def test_an_admission_on_the_next_day_is_a_transfer_whatever_the_hour() -> None:
    first = encounter("a", "IMP", "2024-03-05T10:00:00Z", "2024-03-10T01:00:00Z", reasonCode=[icd10("I50.9")])
    for start, found in (("2024-03-11T23:00:00Z", ["NO"]), ("2024-03-12T00:30:00Z", ["<30", "NO"])):
        assert outcomes(find(first, encounter("b", "IMP", start, "2024-03-14", reasonCode=[icd10("I50.9")]))) == found


def test_care_that_is_not_acute_is_neither_index_nor_readmission() -> None:
    nursing = stay("nursing", "03-20", "03-30", type=[concept("http://snomed.info/sct", "449411000124106")])
    found = find(stay("index", "03-05", "03-10"), nursing, stay("other", "03-15", "03-16", kind="NONAC"))
    assert outcomes(found) == ["NO"]
    assert sum(found.left_out.values()) == 2


def procedure(system: str, code: str) -> Resource:
    return {
        "resourceType": "Procedure",
        "id": "p",
        "status": "completed",
        "code": concept(system, code),
        "subject": {"reference": "Patient/ada"},
        "encounter": {"reference": "Encounter/later"},
    }


PCS = "http://www.cms.gov/Medicare/Coding/ICD10"


@pytest.mark.parametrize(
    ("reason", "done", "planned"),
    [
        ("Z51.11", None, True),  # chemotherapy
        ("O80", None, True),
        ("I50.9", None, False),
        ("Z94.0", procedure(PCS, "0TY00Z0"), True),  # kidney transplantation
        ("I21.4", procedure("http://snomed.info/sct", "70536003"), True),
        ("I25.10", procedure(PCS, "0210093"), True),  # coronary bypass
        ("I21.4", procedure(PCS, "0210093"), False),  # the same for an acute infarction
        ("I25.10", procedure(PCS, "30233N1"), False),  # transfusion
    ],
)
def test_planned_readmissions_do_not_count(reason: str, done: Resource | None, planned: bool) -> None:
    stays = [stay("index", "03-05", "03-10"), stay("later", "03-20", "03-22", reason)]
    done_too = [done] if done else []
    found = find(*stays, *done_too)
    assert outcomes(found)[0] == ("NO" if planned else "<30")
    assert found.index[0].planned == planned
    assert outcomes(find(*stays, *done_too, planned_readmissions=False))[0] == "<30"


def test_after_a_planned_readmission_a_later_one_within_30_days_does_not_count_either() -> None:
    stays = [
        stay("index", "03-05", "03-10"),
        stay("later", "03-20", "03-22", "Z51.11"),
        stay("third", "03-28", "03-29"),
    ]
    assert outcomes(find(*stays))[0] == "NO"


@pytest.mark.parametrize(
    ("index", "rule"),
    [
        (
            stay(
                "i",
                "03-05",
                "03-10",
                hospitalization={
                    "dischargeDisposition": concept(
                        "http://terminology.hl7.org/CodeSystem/discharge-disposition", "aadvice"
                    )
                },
            ),
            "exclude_against_advice",
        ),
        (
            stay(
                "i",
                "03-05",
                "03-10",
                hospitalization={
                    "dischargeDisposition": concept("https://www.nubc.org/CodeSystem/PatDischargeStatus", "02")
                },
            ),
            "exclude_transferred",
        ),
        (stay("i", "03-05", "03-10", "F32.9"), "exclude_psychiatric"),
        (stay("i", "03-05", "03-10", "Z51.89"), "exclude_rehabilitation"),
        (stay("i", "03-05", "03-10", "C34.90"), "exclude_cancer"),
        (encounter("i", start="2024-03-05", end="2024-03-10"), "require_diagnosis"),
    ],
)
def test_each_exclusion_can_be_switched_off(index: Resource, rule: str) -> None:
    found = find(index)
    assert (len(found.index), sum(found.left_out.values())) == (0, 1)
    assert len(find(index, **{rule: False}).index) == 1


def test_persons_without_diabetes_are_left_out_unless_switched_off() -> None:
    other = condition("diabetes", icd10("I10"), encounter=None)
    chart = Chart(Terminology())
    for resource in (patient(), other, stay("i", "03-05", "03-10")):
        chart.add(msgspec.convert(resource, TYPES[resource["resourceType"]]))
    history = History(chart, 24)
    assert find_admissions(history, ImportParams(), LAST_DAY).index == []
    assert len(find_admissions(history, ImportParams(require_diabetes=False), LAST_DAY).index) == 1


def test_an_outcome_is_not_known_before_30_days_have_passed() -> None:
    index = stay("index", "03-05", "03-10")
    assert outcomes(find(index, last_day=date(2024, 4, 8))) == [None]
    assert outcomes(find(index, last_day=date(2024, 4, 9))) == ["NO"]
    assert outcomes(find(index, stay("later", "03-12", "03-13"), last_day=date(2024, 3, 13)))[0] == "<30"


def test_an_unfinished_stay_is_left_out() -> None:
    going_on = encounter("i", status="in-progress", period={"start": "2024-03-05"}, reasonCode=[icd10("I50.9")])
    assert find(going_on).left_out.total() == 1
