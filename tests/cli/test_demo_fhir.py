"""What `healthpredict demo-fhir` prints and shows, on a small made-up hospital and the export of one patient."""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from copy import deepcopy
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_demo import run_demo

from healthpredict.cli import demo_fhir
from healthpredict.cli.discharge_requests import discharge_requests
from healthpredict.config import Settings
from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize
from healthpredict.errors import ConfigurationError, NothingToPredict
from healthpredict.operations.installation import Installation

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


def encounter(patient: str, end: str, **elements: Any) -> str:
    """The line of an inpatient encounter with its patient's id."""
    return json.dumps(
        {
            "resourceType": "Encounter",
            "id": f"of-{patient}",
            "status": "finished",
            "class": {"code": "IMP"},
            "subject": {"reference": f"Patient/{patient}"},
            "period": {"start": "2026-01-01T00:00:00Z", "end": end},
            **elements,
        }
    )


def test_the_newest_stays_are_those_of_acute_care_that_took_place(tmp_path: Path) -> None:
    skilled_nursing = [{"coding": [{"system": "http://snomed.info/sct", "code": "449411000124106"}]}]
    lines = [
        encounter("west", "2026-01-31T20:00:00-08:00"),
        encounter("east", "2026-02-01T01:00:00+09:00"),
        encounter("acute", "2026-01-31T23:00:00Z", **{"class": {"code": "ACUTE"}}),
        encounter("nursed", "2026-02-09T00:00:00Z", type=skilled_nursing),
        encounter("expected", "2026-02-09T00:00:00Z", status="planned"),
        encounter("absent", "2026-02-09T00:00:00Z", status="cancelled"),
        encounter("visitor", "2026-02-09T00:00:00Z", **{"class": {"code": "AMB"}}),
    ]
    (tmp_path / "Encounter.ndjson").write_text("\n".join(lines))
    requests = discharge_requests(str(tmp_path))
    assert [request["context"]["patientId"] for request in requests] == ["west", "acute", "east"]


DEEP = b'{"resourceType": "Observation", "id": "o", "note": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    "line",
    [
        b'{"resourceType": "Patient", "id": "\xff"}',
        b'{"resourceType": "Patient", "id": "p", "name": "\xff"}',
        DEEP,
    ],
    ids=["not UTF-8", "not UTF-8 where nothing reads it", "nested too deeply"],
)
def test_lines_that_the_import_survives_are_left_out_of_requests(tmp_path: Path, line: bytes) -> None:
    content = encounter("p", "2026-01-31T00:00:00Z").encode()
    (tmp_path / "All.ndjson").write_bytes(line + b"\n" + content)
    (request,) = discharge_requests(str(tmp_path))
    assert request["prefetch"]["encounter"] == json.loads(content)
    assert "patient" not in request["prefetch"]


def test_lines_before_the_damage_of_a_gzip_file_are_sent(tmp_path: Path) -> None:
    content = "\n".join(encounter(f"p{number}", "2026-01-31T00:00:00Z") for number in range(5000))
    compressed = gzip.compress(content.encode())
    (tmp_path / "Encounter.ndjson.gz").write_bytes(compressed[: len(compressed) // 2])
    assert len(list(discharge_requests(str(tmp_path)))) == 20


CARD = {"summary": "A risk.", "detail": "Reasons.", "source": {"label": "The model"}}


@pytest.mark.parametrize(
    "refusal", ['{"title": "A key is missing", "status": 412}', '{"cards": []}', "Internal Server Error"]
)
def test_a_patient_without_a_card_is_followed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refusal: str
) -> None:
    lines = [encounter("first", "2026-02-01T00:00:00Z"), encounter("second", "2026-01-01T00:00:00Z")]
    (tmp_path / "Encounter.ndjson").write_text("\n".join(lines))
    answers, shown = [refusal, json.dumps({"cards": [CARD]})], []
    monkeypatch.setattr(demo_fhir, "ask_api", lambda *_: answers.pop(0))
    monkeypatch.setattr(demo_fhir, "write_report", lambda _, card: shown.append(card))
    demo_fhir._discharge(SimpleNamespace(installation=None), str(tmp_path))
    assert shown == [CARD]
    assert refusal in capsys.readouterr().out


def test_another_data_set_needs_a_new_folder(tmp_path: Path) -> None:
    demo = SimpleNamespace(
        state=tmp_path / "demo", seconds={}, installation=Installation(Settings(data_uri=str(tmp_path)))
    )
    demo.state.mkdir()
    first, same, other = (tmp_path / name for name in ("first.csv", "same.csv", "other.csv"))
    for path, seed in ((first, 3), (same, 3), (other, 4)):
        path.write_bytes(format_raw(synthesize(100, seed)))
    folder = demo_fhir._write_history(demo, str(first))
    manifest = Path(folder, "manifest.json").stat()
    assert demo_fhir._write_history(demo, str(same)) == demo_fhir._write_history(demo, None) == folder
    with pytest.raises(ConfigurationError, match=r"another data set than .*other\.csv.*--fresh"):
        demo_fhir._write_history(demo, str(other))
    assert Path(folder, "manifest.json").stat() == manifest


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
