"""A Bulk Data export becomes batches and outcomes: every resource is accounted for, and broken lines are named."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from healthpredict.config import Settings
from healthpredict.data.contract import RECORD_COLUMNS
from healthpredict.data.import_params import ImportParams
from healthpredict.data.prepared import PreparedData
from healthpredict.data.raw import format_raw, read_encounters, read_history, read_outcomes
from healthpredict.data.schema import check_rows
from healthpredict.data.synthetic import synthesize
from healthpredict.errors import BatchRefused, ConfigurationError, NothingToPredict, SourceError
from healthpredict.fhir.encounter import encounter_from_fhir
from healthpredict.operations.export_fhir import export_fhir
from healthpredict.operations.fhir_report import ImportedExport
from healthpredict.operations.import_fhir import import_fhir
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare, read_prepared
from healthpredict.storage.layout import Layout
from healthpredict.storage.ledger import Ledger
from healthpredict.storage.uris import delete, exists, read_bytes
from tests.summaries import DATA

AS_IT_IS = ImportParams(
    exclude_against_advice=False,
    exclude_transferred=False,
    exclude_psychiatric=False,
    exclude_rehabilitation=False,
    exclude_cancer=False,
)
"""The data set keeps the stays that CMS's measure leaves out."""
REAL = os.environ.get("HEALTHPREDICT_TEST_DATA", "")
SYNTHEA = os.environ.get("HEALTHPREDICT_TEST_FHIR", "")


@pytest.fixture
def installation(settings: Settings) -> Installation:
    return Installation(settings.model_copy(update={"fhir": AS_IT_IS}))


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A csv of 400 synthetic encounters with outcomes."""
    path = tmp_path / "source.csv"
    path.write_bytes(format_raw(consistent(synthesize(400, seed=11))))
    return str(path)


def consistent(raw: pd.DataFrame) -> pd.DataFrame:
    """Synthetic rows may list more diagnoses than they count; an export counts those that it lists."""
    listed = raw[["diag_1", "diag_2", "diag_3"]].notna().mul([1, 2, 3]).max(axis=1)
    return raw.assign(number_diagnoses=pd.to_numeric(raw["number_diagnoses"]).clip(lower=listed).astype("str"))


@pytest.fixture
def exported(installation: Installation, source: str, tmp_path: Path) -> Path:
    """The 400 synthetic encounters as an export, as plain NDJSON."""
    folder = tmp_path / "export"
    export_fhir(installation, source, str(folder), compress=False)
    return folder


def typed(raw: pd.DataFrame) -> pd.DataFrame:
    """The raw frame as the contract reads it, in the order of `encounter_id`, None where missing."""
    checked = check_rows(raw, RECORD_COLUMNS, "ICD-9-CM")
    assert checked.valid.all()
    frame = checked.frame.assign(readmitted=raw["readmitted"]).sort_values("encounter_id").reset_index(drop=True)
    return frame.astype(object).where(frame.notna(), None)


def all_accounted(report: ImportedExport) -> bool:
    left_out = sum(entry.number for entry in report.left_out)
    return sum(report.used.values()) + left_out == sum(report.resources.values())


def test_rows_come_back_as_they_were(installation: Installation, source: str, exported: Path) -> None:
    report = import_fhir(installation, str(exported))
    layout = installation.layout
    imported = read_history(read_bytes(layout.raw("fhir.csv")), "imported").frame
    pd.testing.assert_frame_equal(typed(imported), typed(read_history(Path(source), "source").frame))
    assert (report.stays, report.broken_lines, report.no_outcome) == (400, 0, {})
    assert all_accounted(report)
    assert json.loads(read_bytes(layout.raw("fhir-import.json"))) == report.model_dump(mode="json")


def test_batches_and_outcomes_are_those_of_the_data_set(
    installation: Installation, source: str, exported: Path, tmp_path: Path
) -> None:
    report = import_fhir(installation, str(exported))
    direct = Installation(installation.settings.model_copy(update={"data_uri": str(tmp_path / "direct")}))
    assert prepare(direct, source).batches == report.batches
    for name in report.batches:
        ours, theirs = (
            read_encounters(read_bytes(layout.batch(name)), name).frame.assign(readmitted=None)
            for layout in (installation.layout, direct.layout)
        )
        pd.testing.assert_frame_equal(typed(ours), typed(theirs))
        ours, theirs = (
            read_outcomes(read_bytes(layout.outcomes(name)), name).frame
            for layout in (installation.layout, direct.layout)
        )
        pd.testing.assert_frame_equal(ours, theirs)


@pytest.mark.skipif(not REAL, reason="HEALTHPREDICT_TEST_DATA is not set")
def test_real_rows_come_back_as_they_were(installation: Installation, tmp_path: Path) -> None:
    raw = read_history(Path(REAL), REAL).frame
    # Every row of some patients: the end of the file has those whose ids are not in the order of time.
    patients = raw["patient_nbr"].drop_duplicates().iloc[::40]
    some = raw[raw["patient_nbr"].isin(patients)].reset_index(drop=True)
    source = tmp_path / "real.csv"
    source.write_bytes(format_raw(some))
    export_fhir(installation, str(source), str(tmp_path / "export"))
    report = import_fhir(installation, str(tmp_path / "export"))
    imported = read_history(read_bytes(installation.layout.raw("fhir.csv")), "imported").frame
    pd.testing.assert_frame_equal(typed(imported), typed(some))
    assert all_accounted(report)


def test_what_is_written_is_valid_fhir(exported: Path) -> None:
    validated = 0
    for path in exported.glob("*.ndjson"):
        module = __import__(f"fhir.resources.R4B.{path.stem.lower()}", fromlist=[path.stem])
        for line in path.read_text().splitlines()[:40]:
            getattr(module, path.stem).model_validate_json(line)
            validated += 1
    assert validated > 200


def test_a_broken_line_is_named_and_quarantined_and_the_rest_is_read(
    installation: Installation, exported: Path
) -> None:
    path = exported / "Observation.ndjson"
    lines = path.read_text().splitlines()
    malformed = json.dumps({"resourceType": "Observation", "id": "x", "valueQuantity": {"value": "secret"}})
    path.write_text("\n".join([lines[0], '{"resourceType": "Obser', "", malformed, "\x00", *lines[1:]]))
    report = import_fhir(installation, str(exported))
    assert (report.broken_lines, report.stays) == (3, 400)
    assert [text.split(":")[0] for text in report.broken] == [
        f"Observation.ndjson, line {number}" for number in (2, 4, 5)
    ]
    assert "secret" not in report.model_dump_json()
    assert any("3 lines are in quarantine/fhir-lines.ndjson" in sentence for sentence in report.sentences)
    kept = read_bytes(f"{installation.layout.root}/quarantine/fhir-lines.ndjson").splitlines()
    assert [json.loads(line)["line"] for line in kept] == [2, 4, 5]
    assert json.loads(kept[1])["content"] == malformed


def test_a_damaged_gzip_file_is_read_up_to_the_damage(installation: Installation, exported: Path) -> None:
    (exported / "manifest.json").unlink()
    path = exported / "Procedure.ndjson"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    (exported / "Procedure.ndjson.gz").write_bytes(packed[: len(packed) // 2])
    report = import_fhir(installation, str(exported))
    assert report.broken_lines == 1
    assert "damaged" in report.broken[0]
    assert 0 < report.resources["Procedure"] < 10_000


def test_damaged_patients_and_a_file_that_is_no_gzip_file_are_reported(
    installation: Installation, exported: Path
) -> None:
    (exported / "manifest.json").unlink()
    path = exported / "Patient.ndjson"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    (exported / "Patient.ndjson.gz").write_bytes(packed[: len(packed) // 2])
    (exported / "Procedure.ndjson").rename(exported / "Procedure.ndjson.gz")
    report = import_fhir(installation, str(exported))
    assert [text.partition(",")[0] for text in report.broken] == ["Patient.ndjson.gz", "Procedure.ndjson.gz"]
    assert all("damaged" in text for text in report.broken)
    assert 0 < report.stays < 400
    assert all_accounted(report)


@pytest.mark.parametrize(
    ("status", "day"), [("planned", "2025-01-01"), ("entered-in-error", "2025-01-01"), ("finished", "2999-01-01")]
)
def test_visits_that_did_not_take_place_yet_do_not_extend_the_export(
    installation: Installation, exported: Path, status: str, day: str
) -> None:
    (exported / "manifest.json").unlink()
    path = exported / "Encounter.ndjson"
    days = [resource["period"].get("end", "")[:10] for resource in map(json.loads, path.read_text().splitlines())]
    visit = {"class": {"code": "AMB"}, "subject": {"reference": "Patient/x"}, "period": {"start": day}}
    with path.open("a") as file:
        file.write(json.dumps({"resourceType": "Encounter", "id": "visit", "status": status, **visit}) + "\n")
    report = import_fhir(installation, str(exported))
    assert report.until == max(days) < "2025"
    assert sum(report.no_outcome.values()) > 0
    assert any("after today were ignored (encounters: 1)" in notice for notice in report.notices) is (day > "2900")


def test_other_types_and_persons_without_a_patient_are_left_out_with_a_reason(
    installation: Installation, exported: Path
) -> None:
    (exported / "manifest.json").unlink()
    (exported / "Claim.ndjson").write_text(json.dumps({"resourceType": "Claim", "type": {"text": "x"}}) + "\n")
    with (exported / "Condition.ndjson").open("a") as file:
        file.write(json.dumps({"resourceType": "Condition", "subject": {"reference": "Patient/nobody"}}) + "\n")
        file.write(json.dumps({"resourceType": "Condition"}) + "\n")
    report = import_fhir(installation, str(exported))
    reasons = {(entry.kind, entry.reason): entry.number for entry in report.left_out}
    assert reasons["Claim", "this type is not needed"] == 1
    assert reasons["Condition", "its patient is not in the export"] == 1
    assert reasons["Condition", "names no patient"] == 1
    assert all_accounted(report)


def test_an_incomplete_export_is_refused(installation: Installation, exported: Path, tmp_path: Path) -> None:
    (exported / "Patient.ndjson").unlink()
    with pytest.raises(SourceError, match=r"names Patient\.ndjson"):
        import_fhir(installation, str(exported))
    (exported / "manifest.json").write_text("{}")
    with pytest.raises(SourceError, match="not the manifest"):
        import_fhir(installation, str(exported))
    with pytest.raises(SourceError, match="no NDJSON file"):
        import_fhir(installation, str(tmp_path / "nothing"))


def test_an_export_without_index_admissions_says_why(installation: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "Patient.ndjson").write_text('{"resourceType": "Patient", "id": "a"}\n')
    with pytest.raises(NothingToPredict, match="no inpatient stay"):
        import_fhir(installation, str(folder))


def test_an_export_that_cannot_be_read_leaves_its_lines_and_a_report(
    installation: Installation, exported: Path
) -> None:
    (exported / "manifest.json").unlink()
    (exported / "Encounter.ndjson").write_text('{"resourceType": "Encounter", "period": 1}\n' * 3)
    with pytest.raises(NothingToPredict, match=r"no inpatient stay; 3 lines cannot be read, see quarantine/fhir-lines"):
        import_fhir(installation, str(exported))
    layout = installation.layout
    assert len(read_bytes(f"{layout.root}/quarantine/fhir-lines.ndjson").splitlines()) == 3
    report = ImportedExport.model_validate_json(read_bytes(layout.raw("fhir-import.json")))
    assert (report.broken_lines, report.stays, report.batches) == (3, 0, [])


def test_broken_lines_are_those_of_the_last_import(installation: Installation, exported: Path) -> None:
    path = exported / "Observation.ndjson"
    complete = path.read_text()
    path.write_text(complete + "{\n")
    import_fhir(installation, str(exported))
    kept = f"{installation.layout.root}/quarantine/fhir-lines.ndjson"
    assert exists(kept)
    path.write_text(complete)
    assert import_fhir(installation, str(exported)).broken_lines == 0
    assert not exists(kept)


def test_an_import_replaces_a_data_set_even_after_an_earlier_import(
    installation: Installation, source: str, exported: Path
) -> None:
    import_fhir(installation, str(exported))
    prepare(installation, source)
    report = import_fhir(installation, str(exported))
    assert report.batches == read_prepared(installation).batches
    assert read_prepared(installation).from_fhir


def test_an_import_that_was_killed_before_its_report_can_be_repeated(
    installation: Installation, exported: Path
) -> None:
    import_fhir(installation, str(exported))
    delete(installation.layout.raw("fhir-import.json"))
    installation.ledger.append("decision", key="done")
    assert import_fhir(installation, str(exported)).batches == []
    assert exists(installation.layout.raw("fhir-import.json"))


def test_the_origin_of_data_that_an_earlier_version_imported_follows_from_its_source() -> None:
    stored = DATA.model_dump(exclude={"from_fhir"})
    assert not PreparedData.model_validate(stored).from_fhir
    assert PreparedData.model_validate(stored | {"source": "FHIR export var/export"}).from_fhir


def test_a_later_export_adds_a_batch_and_outcomes(installation: Installation, source: str, tmp_path: Path) -> None:
    raw = read_history(Path(source), "source").frame
    ordered = raw.iloc[pd.to_numeric(raw["encounter_id"]).argsort()]
    first, everything = tmp_path / "first.csv", tmp_path / "all.csv"
    patients = ordered["patient_nbr"].drop_duplicates()
    early = ordered[ordered["patient_nbr"].isin(patients.iloc[:-30])]
    first.write_bytes(format_raw(early))
    everything.write_bytes(format_raw(ordered))
    export_fhir(installation, str(first), str(tmp_path / "one"))
    export_fhir(installation, str(everything), str(tmp_path / "two"))
    import_fhir(installation, str(tmp_path / "one"))
    before = {name: read_bytes(installation.layout.batch(name)) for name in ("initial", "batch-01", "batch-02")}
    installation.ledger.append("decision", key="done")
    report = import_fhir(installation, str(tmp_path / "two"))
    assert report.batches == ["batch-03"]
    assert before == {name: read_bytes(installation.layout.batch(name)) for name in before}
    added = read_encounters(read_bytes(installation.layout.batch("batch-03")), "added").frame
    assert len(added) == len(ordered) - len(early)
    assert import_fhir(installation, str(tmp_path / "two")).batches == []


def test_outcomes_that_a_partial_export_lacks_stay_known(
    installation: Installation, source: str, tmp_path: Path
) -> None:
    everything = read_history(Path(source), "source").frame
    part = tmp_path / "part.csv"
    part.write_bytes(format_raw(everything.iloc[::2]))
    export_fhir(installation, source, str(tmp_path / "one"))
    export_fhir(installation, str(part), str(tmp_path / "two"))
    layout = installation.layout
    names = import_fhir(installation, str(tmp_path / "one")).batches
    before = {name: read_bytes(layout.outcomes(name)) for name in names}
    assert len(read_outcomes(before["initial"], "initial").frame) > 100
    report = import_fhir(installation, str(tmp_path / "two"))
    assert report.batches == []
    assert any(
        "200 encounters of earlier batches are no index admissions of this export" in notice
        for notice in report.notices
    )
    assert before == {name: read_bytes(layout.outcomes(name)) for name in names}


def test_other_data_with_a_ledger_is_not_replaced(settings: Settings, source: str, exported: Path) -> None:
    prepare(Installation(settings), source)
    Ledger(Layout(settings.data_uri).ledger).append("decision", key="done")
    with pytest.raises(ConfigurationError, match="its ledger refers to them"):
        import_fhir(Installation(settings.model_copy(update={"fhir": AS_IT_IS})), str(exported))


def test_a_map_that_cannot_be_read_is_named(settings: Settings, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text("snomed,icd\n44054006,E11.9\n123,nonsense!\n")
    params = AS_IT_IS.model_copy(update={"snomed_map": path})
    with pytest.raises(ConfigurationError, match="line 3"):
        import_fhir(Installation(settings.model_copy(update={"fhir": params})), str(exported))


def test_an_export_needs_an_empty_folder(installation: Installation, source: str, exported: Path) -> None:
    with pytest.raises(ConfigurationError, match="not empty"):
        export_fhir(installation, source, str(exported))


def test_a_data_set_without_outcomes_is_not_exported(installation: Installation, tmp_path: Path) -> None:
    source, folder = tmp_path / "unknown.csv", tmp_path / "export"
    source.write_bytes(format_raw(synthesize(20, seed=1).assign(readmitted=None)))
    with pytest.raises(BatchRefused, match="nothing to export"):
        export_fhir(installation, str(source), str(folder))
    assert not folder.exists()


def test_an_export_on_s3_is_written_and_read(installation: Installation, source: str, s3_bucket: str) -> None:
    export_fhir(installation, source, f"{s3_bucket}/export")
    report = import_fhir(installation, f"{s3_bucket}/export")
    assert (report.stays, report.broken_lines) == (400, 0)
    assert all_accounted(report)


def test_rows_that_contradict_each_other_belong_to_linked_patients(installation: Installation, tmp_path: Path) -> None:
    raw = consistent(synthesize(30, seed=3)).assign(patient_nbr="77", race=["Asian", "Other", "Asian"] * 10)
    source = tmp_path / "one.csv"
    source.write_bytes(format_raw(raw))
    export_fhir(installation, str(source), str(tmp_path / "export"), compress=False)
    report = import_fhir(installation, str(tmp_path / "export"))
    assert (report.persons, report.stays) == (1, 30)
    assert report.resources["Patient"] > 1
    imported = read_history(read_bytes(installation.layout.raw("fhir.csv")), "imported").frame
    pd.testing.assert_frame_equal(typed(imported), typed(read_history(source, "source").frame))


def test_links_are_found_in_a_file_of_several_types(installation: Installation, tmp_path: Path) -> None:
    raw = consistent(synthesize(30, seed=3)).assign(patient_nbr="77", race=["Asian", "Other", "Asian"] * 10)
    source, folder = tmp_path / "one.csv", tmp_path / "export"
    source.write_bytes(format_raw(raw))
    export_fhir(installation, str(source), str(folder), compress=False)
    (folder / "manifest.json").unlink()
    mixed = folder / "Condition.ndjson"
    mixed.write_bytes(mixed.read_bytes() + (folder / "Patient.ndjson").read_bytes())
    (folder / "Patient.ndjson").unlink()
    report = import_fhir(installation, str(folder))
    assert (report.persons, report.stays) == (1, 30)


@pytest.mark.slow
@pytest.mark.skipif(not SYNTHEA, reason="HEALTHPREDICT_TEST_FHIR is not set")
def test_a_synthea_export_is_imported_without_losing_a_resource(settings: Settings) -> None:
    report = import_fhir(Installation(settings), SYNTHEA)
    assert sum(report.resources.values()) == 193_733
    assert all_accounted(report)
    assert (report.persons, report.broken_lines) == (358, 0)
    assert report.unfit_to_train
    assert {"payer_code", "weight", "admission_type_id", "discharge_disposition_id"} <= set(report.mostly_unknown)
    assert "http://snomed.info/sct|160903007" in report.unknown_codes


@pytest.mark.slow
@pytest.mark.skipif(not SYNTHEA, reason="HEALTHPREDICT_TEST_FHIR is not set")
def test_every_patient_of_a_synthea_export_gets_a_prediction_unless_deceased() -> None:
    charts = read_charts(Path(SYNTHEA))
    predicted, deceased = 0, 0
    for resources in charts.values():
        stays = [r for r in resources if r["resourceType"] == "Encounter" and r["class"]["code"] == "IMP"]
        last = max(stays, key=lambda stay: stay["period"]["start"])
        reading = encounter_from_fhir(resources, encounter_id=last["id"])
        if reading.record is None:
            assert reading.no_prediction == ("The patient is deceased.",)
            assert "deceasedDateTime" in next(r for r in resources if r["resourceType"] == "Patient")
            deceased += 1
        else:
            predicted += 1
    assert (predicted, deceased) == (332, 26)


def read_charts(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The resources of each patient of the export, and the medications that they refer to."""
    medications = {resource["id"]: resource for resource in lines_of(folder / "Medication.ndjson.gz")}
    charts: dict[str, list[dict[str, Any]]] = {r["id"]: [r] for r in lines_of(folder / "Patient.ndjson.gz")}
    for kind in ("Encounter", "Condition", "Procedure", "MedicationRequest", "Observation"):
        for resource in lines_of(folder / f"{kind}.ndjson.gz"):
            chart = charts[resource["subject"]["reference"].removeprefix("Patient/")]
            chart.append(resource)
            if "medicationReference" in resource:
                chart.append(medications[resource["medicationReference"]["reference"].removeprefix("Medication/")])
    return charts


def lines_of(path: Path) -> Iterable[dict[str, Any]]:
    with gzip.open(path) as file:
        for line in file:
            yield json.loads(line)
