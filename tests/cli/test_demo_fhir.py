"""What `healthpredict demo-fhir` prints and shows, on a small made-up hospital and the export of one patient."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from copy import deepcopy
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from test_demo import run_demo

from healthpredict.cli.discharge_requests import discharge_requests
from healthpredict.errors import NothingToPredict

HOOK = json.loads((Path(__file__).parents[1] / "hook.json").read_text())


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The resources of the call of the tests, as an export after the discharge. A Medication is referred to."""
    folder = tmp_path_factory.mktemp("export")
    files: dict[str, dict[str, Any]] = defaultdict(dict)
    for sent in filter(None, deepcopy(HOOK["prefetch"]).values()):
        for resource in [entry["resource"] for entry in sent["entry"]] if "entry" in sent else [sent]:
            files[resource["resourceType"]][resource["id"]] = resource
    stay = files["Encounter"]["e3"]
    stay |= {"status": "finished", "period": stay["period"] | {"end": "2026-01-31T10:00:00+00:00"}}
    order = next(iter(files["MedicationRequest"].values()))
    medication = {"resourceType": "Medication", "id": "m", "code": order.pop("medicationCodeableConcept")}
    order["medicationReference"] = {"reference": "Medication/m"}
    files["Medication"]["m"] = medication
    for kind, resources in files.items():
        lines = [*map(json.dumps, resources.values()), '{"resourceType": "Patient"', ""]
        (folder / f"{kind}.ndjson").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def printed(folder: Path, export: Path) -> str:
    done = run_demo(folder, "demo-fhir", export)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_requests_have_all_resources_of_the_patient(export: Path) -> None:
    (request,) = discharge_requests(str(export))
    assert request["context"]["encounterId"] == "e3"
    sent, given = request["prefetch"], HOOK["prefetch"]
    assert sent.keys() == given.keys()
    assert sent["encounter"]["period"]["end"]
    kinds = [entry["resource"]["resourceType"] for entry in sent["medicationRequests"]["entry"]]
    assert kinds.count("Medication") == 1
    assert [entry["resource"] for entry in sent["observations"]["entry"]] == [
        entry["resource"] for entry in given["observations"]["entry"]
    ]


def test_an_export_without_stays_has_no_requests(tmp_path: Path) -> None:
    (tmp_path / "Patient.ndjson").write_text('{"resourceType": "Patient", "id": "p"}\n')
    with pytest.raises(NothingToPredict, match="acute"):
        next(discharge_requests(str(tmp_path)))


@pytest.mark.slow
def test_the_loop_learns_from_the_data_set_and_predicts_the_export(printed: str, folder: Path) -> None:
    summary = json.loads((folder / "reports" / "summary.json").read_text())
    assert summary["data"]["encounters"] == 5000
    assert [(batch["name"], batch["champion"] is not None) for batch in summary["batches"]] == [
        ("batch-01", True),
        ("batch-02", True),
    ]
    assert summary["batches"][1]["rows"] == 1
    assert {"export", "import", "total"} <= summary["seconds"].keys()
    assert re.search(r"^data +import +\d+\.\d s  1 index admissions of 1 persons", printed, re.MULTILINE)
    assert "1 index admissions in 1 batch;" in printed


@pytest.mark.slow
def test_the_card_is_printed_and_on_the_page(printed: str, folder: Path) -> None:
    (summary,) = re.findall(r"^Readmission within 30 days: .*", printed, re.MULTILINE)
    page = unescape((folder / "reports" / "index.html").read_text())
    assert f"<h3>{summary}</h3>" in page
    assert "<strong>The strongest reasons</strong>" in page
    for reason in re.findall(r"^\d\. (.*)", printed, re.MULTILINE):
        assert f"<li>{reason}</li>" in page
