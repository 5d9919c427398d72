"""Part of `make bench-serving`: CPU of a CDS Hooks call, beside HealthChain, into `results/serving.json`, section `cds_hooks`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Target, at_least, at_most
from benchmarks.serving import (
    KEYS,
    PATIENT_KEY,
    Service,
    measure_in_turn,
    our_params,
    parse_options,
    start,
    write_section,
)
from benchmarks.serving_load import connect, http
from benchmarks.serving_models import build_served_bundle
from healthpredict.config import quiet_vendors
from healthpredict.prediction_log.patient_key import make_patient_key
from healthpredict.rollout.ports import free_port
from healthpredict.serving.cds_hooks.endpoints import PATH
from healthpredict.storage.key_file import add_key
from tests.labelled import labelled_encounters

HERE = Path(__file__).parent
PEER_PYTHON = HERE.parent / ".venv-healthchain/bin/python"
ADDED = {"observations": 201, "conditions": 35, "medicationRequests": 30, "procedures": 20, "encounters": 6}
"""Resources that are added to the call of the tests."""
CODINGS = {
    "observations": ("http://loinc.org", "2160-0", "Creatinine [Mass/volume] in Serum or Plasma"),
    "conditions": ("http://hl7.org/fhir/sid/icd-10-cm", "N18.31", "Chronic kidney disease, stage 3a"),
    "medicationRequests": ("http://www.nlm.nih.gov/research/umls/rxnorm", "314076", "lisinopril 10 MG Oral Tablet"),
    "procedures": ("http://www.ama-assn.org/go/cpt", "93000", "Electrocardiogram, routine"),
    "encounters": ("http://snomed.info/sct", "185349003", "Encounter for check up (procedure)"),
}
RATE, PACED_SECONDS = 20, 20.0


def call() -> bytes:
    """The call of the tests with more resources, each with the elements that a server of US Core sends; about 300,000 bytes."""
    body = json.loads((HERE.parent / "tests/hook.json").read_text())
    for key, number in ADDED.items():
        entries = (body["prefetch"][key] or {}).get("entry", [])
        entries += ({"resource": _added(key, i)} for i in range(number))
        body["prefetch"][key] = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
    return json.dumps(body).encode()


def _added(key: str, i: int) -> dict[str, Any]:
    terminology, day = "http://terminology.hl7.org/CodeSystem", f"2026-01-{26 + i % 3}"
    start, end = f"{day}T{i % 24:02}:15:00-05:00", f"{day}T{i % 24:02}:45:00-05:00"
    code = _concept(*CODINGS[key])
    resource: dict[str, Any] = {
        "id": str(uuid.UUID(int=i)),
        "meta": {"profile": [f"http://hl7.org/fhir/us/core/StructureDefinition/us-core-{key}"]},
        "subject": {"reference": "Patient/p1", "display": "Shaw, Amy"},
        "encounter": {"reference": "Encounter/e3", "display": "Inpatient stay"},
    }
    practitioner = {"reference": "Practitioner/00000000-0000-0000-0000-000000000815", "display": "Dr. Ronald Bone"}
    if key == "observations":
        category = _concept(f"{terminology}/observation-category", "laboratory", "Laboratory")
        unit = {"unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}
        measured = {"value": 1.1 + i / 1000, **unit}
        limits = [{"low": {"value": 0.6, **unit}, "high": {"value": 1.2, **unit}, "text": "0.6 to 1.2 mg/dL"}]
        own = {"resourceType": "Observation", "status": "final", "category": [category], "code": code, "issued": end}
        own |= {"effectiveDateTime": start, "performer": [practitioner], "valueQuantity": measured}
        own |= {"referenceRange": limits}
    elif key == "conditions":
        category = _concept(f"{terminology}/condition-category", "encounter-diagnosis", "Encounter Diagnosis")
        own = {"resourceType": "Condition", "category": [category], "code": code, "recordedDate": start}
        own["clinicalStatus"] = _concept(f"{terminology}/condition-clinical", "active", "Active")
        own["verificationStatus"] = _concept(f"{terminology}/condition-ver-status", "confirmed", "Confirmed")
    elif key == "medicationRequests":
        dose = {"doseQuantity": {"value": 1, "unit": "tablet"}}
        repeat = {"frequency": 1, "period": 1, "periodUnit": "d"}
        own = {"resourceType": "MedicationRequest", "status": "active", "intent": "order", "requester": practitioner}
        own |= {"medicationCodeableConcept": code, "authoredOn": start}
        own |= {"dosageInstruction": [{"text": "1 a day", "timing": {"repeat": repeat}, "doseAndRate": [dose]}]}
    elif key == "procedures":
        own = {"resourceType": "Procedure", "status": "completed", "code": code}
        own |= {"performedPeriod": {"start": start, "end": end}, "performer": [{"actor": practitioner}]}
    else:
        visit = {"system": f"{terminology}/v3-ActCode", "code": "AMB", "display": "ambulatory"}
        own = {"resourceType": "Encounter", "status": "finished", "class": visit, "type": [code]}
        own |= {"period": {"start": start, "end": end}, "participant": [{"individual": practitioner}]}
        del resource["encounter"]
    return resource | own


def _concept(system: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


async def paced(service: Service, rate: int, seconds: float) -> list[float]:
    """Send so many requests a second on one connection. Returns: the seconds until each response."""
    waits: list[float] = []
    (asking,) = await connect(service.port, 1, waits)
    start = time.perf_counter()
    for i in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + i / rate - time.perf_counter()))
        await asking.begin(service.request, partial(next, iter((True, False))))
    asking.transport.close()
    if len(waits) != int(rate * seconds):
        raise RuntimeError(f"{len(waits)} responses to {int(rate * seconds)} requests")
    return waits


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all services."""
    bundle = build_served_bundle(folder / "bundle", labelled_encounters(20_000, 0))
    key = f"Authorization: Bearer {add_key(folder / KEYS, 'benchmark')}"
    make_patient_key(folder / PATIENT_KEY)
    body = call()
    with ExitStack() as stack:
        port = free_port()
        command = [sys.executable, "-m", "healthpredict.serving", *our_params(folder, bundle, port)]
        services = [start(stack, "ours", command, port, http(PATH, body, key))]
        for what in ("constant", "parse"):
            port = free_port()
            # -P, because HealthChain imports a package `fhir`, and there is a module of this name beside the script.
            command = [str(PEER_PYTHON), "-P", str(HERE / "serving_healthchain.py"), str(port), what]
            services.append(start(stack, f"healthchain_{what}", command, port, http("/cds/cds-services/risk", body)))
        found = measure_in_turn(services, options)
        waits = asyncio.run(paced(services[0], RATE, PACED_SECONDS))
    found["ours"]["p99_ms_paced"] = float(np.quantile(waits, 0.99)) * 1e3
    return found | {"bytes": len(body), "resources": sum(ADDED.values()) + 8}


def targets(found: dict[str, Any]) -> list[Target]:
    ours, constant, parse = (found[name]["cpu_ms_1"] for name in ("ours", "healthchain_constant", "healthchain_parse"))
    return [
        at_most("CPU of a card with reasons, ms", ours, 2),
        at_most(f"p99 at {RATE} requests a second, ms", found["ours"]["p99_ms_paced"], 10),
        at_least("CPU, HealthChain with a constant card / ours", constant / ours, 3),
        at_least("CPU, HealthChain that parses the resources / ours", parse / ours, 30),
    ]


def main() -> None:
    options = parse_options(__doc__)
    quiet_vendors()
    with tempfile.TemporaryDirectory() as temporary:
        measured = run(Path(temporary), options)
    write_section("cds_hooks", measured, targets(measured), options)


if __name__ == "__main__":
    main()
