"""Every figure of the card is that of a record, and every rendering says the same."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from cards import HISTORY, MANIFEST, MONITORING, card, facts, interval, stated
from summaries import DATA

from healthpredict.evaluation.interval import Interval
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.reporting.model_card.attributes import GROUPS
from healthpredict.reporting.model_card.card import History, ModelCard, Monitoring
from healthpredict.reporting.model_card.chai import NAMESPACE, as_chai_xml
from healthpredict.reporting.model_card.fhir import as_fhir
from healthpredict.reporting.model_card.page import as_html
from healthpredict.reporting.page import page
from healthpredict.reporting.summary import Summary
from healthpredict.training.params import PromotionPolicy

CHAI_SCHEMA = os.environ.get("HEALTHPREDICT_TEST_CHAI")
ITEMS_OF_TRIPOD = (
    "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 18a 18b 18c 18d 18e 18f 19 "
    "20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"
)


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def elements(xml: bytes) -> dict[str, str]:
    return {found.tag.removeprefix(f"{{{NAMESPACE}}}"): found.text or "" for found in ET.fromstring(xml).iter()}


def test_there_are_31_attributes_numbered_as_in_the_regulation() -> None:
    attributes = card().attributes
    assert [one.number for one in attributes] == list(range(1, 32))
    assert [size for _, size in GROUPS] == [4, 4, 2, 4, 2, 4, 5, 4, 2]
    assert attributes[0].paragraph == "(1)(i)"
    assert (attributes[20].paragraph, attributes[24].paragraph) == ("(7)(i)", "(7)(v)")
    assert attributes[30].paragraph == "(9)(ii)"


def test_every_item_of_tripod_is_reported_or_says_why_not() -> None:
    for shown in (card(), card(governance=stated())):
        assert " ".join(item.number for item in shown.tripod) == ITEMS_OF_TRIPOD
        assert all((item.where is None) != (item.why is None) for item in shown.tripod)
    why = {item.number: item.why for item in card().tripod}
    assert why["18b"] == "the hospital has not stated it in governance.yaml: study.conflicts"
    stated_items = {item.number: item.where for item in card(governance=stated()).tripod}
    assert stated_items["18b"] == "governance: study.conflicts"


def test_what_the_hospital_has_not_stated_is_not_provided() -> None:
    attributes = {one.number: one for one in card().attributes}
    assert not attributes[5].provided
    assert not attributes[10].provided, "known limits alone do not answer for the hospital"
    assert attributes[21].provided
    assert "no external validation" in attributes[17].text
    assert all(one.provided for one in card(governance=stated()).attributes)
    assert card(governance=stated()).missing == ()


def test_figures_are_those_of_the_records() -> None:
    shown, answers = card(), {one.number: one.text for one in card().attributes}
    found = MANIFEST.test.evaluation
    assert shown.test == MANIFEST.test
    for figure in (str(found.auroc), str(found.calibration_slope), "43.2 %", "20.3 %", "0.188", "0.612 [0.592, 0.632]"):
        assert figure in answers[21], figure
    assert "0.511 [0.491, 0.531], 893 encounters" in answers[22]
    assert "0.654" in answers[27]
    assert "37.8 % [35.8, 39.8]" in answers[29]


@pytest.mark.parametrize(
    ("changed", "number", "figure"),
    [
        ({"drift": DriftPolicy(calibration_rows=4321)}, 26, "4,321"),
        ({"drift": DriftPolicy(min_subgroup_rows=612)}, 28, "612"),
        ({"promotion": PromotionPolicy(margin=0.0071)}, 15, "0.007"),
        ({"promised_alert_rate": 0.31}, 3, "31 %"),
    ],
)
def test_limits_in_force_are_those_of_the_settings(changed: dict[str, Any], number: int, figure: str) -> None:
    answers, before = (
        {one.number: one.text for one in card(governance=stated(), **c).attributes} for c in (changed, {})
    )
    assert figure in answers[number]
    assert figure not in before[number]


def test_limits_name_weak_and_miscalibrated_groups() -> None:
    limits = "\n".join(card().limits)
    assert "age [80-90) (0.511 [0.491, 0.531])" in limits
    assert "age [80-90) (+4.3 percentage points)" in limits
    assert "gender Female" not in limits
    assert "In use, for age [90-100): the sensitivity is low." in limits
    assert "In batch-04 (8,123 encounters), 43 diagnoses had a code that it does not know." in limits
    assert "synthetic. Do not use this version for patients" in limits
    assert "synthetic" not in "\n".join(card(prepared=DATA.model_copy(update={"synthetic": False})).limits)


def test_before_it_is_used_the_card_says_that_nothing_is_known_of_its_use() -> None:
    built = card(monitoring=None, history=History(), bundle_digest=None)
    assert built.status == "as built, before promotion"
    assert "Not known yet" in built.attributes[26].text
    assert "This card was made when the bundle was built." in text_of(as_html(built))
    unused = card(monitoring=Monitoring(), history=HISTORY.model_copy(update={"in_service": False, "promoted_at": ()}))
    assert unused.status == "not promoted"
    assert any("not known" in limit for limit in unused.limits)


def test_groups_without_enough_outcomes_are_not_called_unused() -> None:
    attributes = {
        one.number: one.text for one in card(monitoring=MONITORING.model_copy(update={"subgroups": ()})).attributes
    }
    assert "mean AUROC 0.654" in attributes[27]
    assert attributes[29] == "Not known yet: no group of patients has enough known outcomes."


def test_a_forced_promotion_is_a_known_limit() -> None:
    forced = card(history=HISTORY.model_copy(update={"forced": True}))
    assert any("although a condition was not met" in limit for limit in forced.limits)


def test_the_card_survives_json() -> None:
    shown = card(governance=stated())
    assert ModelCard.model_validate_json(shown.model_dump_json()) == shown


def test_the_page_shows_figures_and_statements_and_needs_no_network() -> None:
    html = as_html(card(governance=stated()))
    text = text_of(html)
    for shown in (
        "0.701 [0.681, 0.721]",
        "43.2 %",
        "A statement about use.out_of_scope.",
        "8,123",
        "It is better.",
        "0.654",
    ):
        assert shown in text, shown
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "<script" not in html
    assert "Incomplete." not in text


def test_bars_of_all_groups_fit_into_their_column() -> None:
    wide = MANIFEST.test.subgroups[-1].model_copy(update={"auroc": Interval(value=0.6, low=0.31, high=0.93)})
    test = MANIFEST.test.model_copy(update={"subgroups": (*MANIFEST.test.subgroups[:-1], wide)})
    html = as_html(card(manifest=MANIFEST.model_copy(update={"test": test})))
    bars = re.findall(r'<line x1="([-.\d]+)" x2="([-.\d]+)" y1="4.5"', html)
    assert len(bars) == len(test.subgroups)
    assert all(0 <= float(end) <= 140.001 for bar in bars for end in bar)


def test_the_page_names_every_missing_text() -> None:
    text = text_of(as_html(card()))
    assert f"has not stated {len(card().missing)} required texts" in text
    assert "not stated ( use.users in governance.yaml)" in text or "not stated (use.users in governance.yaml)" in text


def test_texts_are_escaped() -> None:
    hostile = stated('<script>alert("{}")</script> & ]]> \x0b')
    html = as_html(card(governance=hostile))
    assert "<script" not in html
    assert "payer code: &lt;b&gt;MC" in html
    found = elements(as_chai_xml(card(governance=hostile)))
    assert found["FundingSource"] == '<script>alert("developer.funding")</script> & ]]>'
    assert json.loads(base64.b64decode(as_fhir(card(governance=hostile))["content"][1]["attachment"]["data"]))


def test_xml_has_the_figures_as_json_and_says_what_is_not_stated() -> None:
    root = ET.fromstring(as_chai_xml(card()))
    results = {
        found.findtext(f"{{{NAMESPACE}}}Label"): json.loads(found.findtext(f"{{{NAMESPACE}}}ValueJson") or "")
        for found in root.iter(f"{{{NAMESPACE}}}MetricResult")
    }
    assert results["AUROC"] == MANIFEST.test.evaluation.auroc.model_dump()
    assert results["AUROC, age [80-90)"] == interval(0.5113).model_dump()
    assert results["In use: mean AUROC"] == 0.6543
    assert elements(as_chai_xml(card()))["ModelDeveloper"] == "Not stated in governance.yaml."


@pytest.mark.skipif(not CHAI_SCHEMA, reason="HEALTHPREDICT_TEST_CHAI names no schema of the Applied Model Card 0.2")
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"governance": stated()},
        {"monitoring": None},
        {"manifest": MANIFEST.model_copy(update={"git_commit": None})},
    ],
)
def test_xml_is_valid_by_the_schema_of_chai(changed: dict[str, Any]) -> None:
    xmlschema = pytest.importorskip("xmlschema")
    schema = xmlschema.XMLSchema(str(Path(str(CHAI_SCHEMA))), allow="local")
    schema.validate(as_chai_xml(card(**changed)).decode())
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        schema.validate(as_chai_xml(card(**changed)).decode().replace("BasicInfo>", "Basic>"))


def test_fhir_has_the_model_as_subject_and_three_renderings() -> None:
    shown = card(governance=stated())
    document = as_fhir(shown)
    device, developer = document["contained"]
    assert (document["subject"], device["version"]) == ({"reference": "#model"}, [{"value": "7"}])
    assert developer["name"] == "A statement about developer.name."
    kinds = {one["attachment"]["contentType"]: one["attachment"]["data"] for one in document["content"]}
    assert base64.b64decode(kinds["text/html"]).decode() == as_html(shown)
    assert ModelCard.model_validate_json(base64.b64decode(kinds["application/json"])) == shown
    assert base64.b64decode(kinds["application/xml"]) == as_chai_xml(shown)
    assert (document["docStatus"], as_fhir(card())["docStatus"]) == ("final", "preliminary")
    assert "author" not in as_fhir(card())


def test_fhir_is_valid_r4() -> None:
    reference = pytest.importorskip("fhir.resources.R4B.documentreference")
    reference.DocumentReference.model_validate(as_fhir(card()))
    reference.DocumentReference.model_validate(as_fhir(card(governance=stated())))


def test_monitoring_does_not_change_what_was_measured_at_training() -> None:
    assert card(monitoring=MONITORING).test == card(monitoring=None).test == facts().test


def test_the_report_links_to_the_card_of_the_champion() -> None:
    summary = Summary(data=DATA, models=(), batches=(), seconds={})
    assert "Model card" not in page(summary, {}, [], None)
    with_card = summary.model_copy(update={"card": "model-card.html"})
    assert '<a href="model-card.html">Model card</a>' in page(with_card, {}, [], None)
