"""Part of `make bench-serving`: CPU of a CDS Hooks call, beside HealthChain, into `results/serving.json`, section `cds_hooks`."""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import sys
import tempfile
import time
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
RESOURCES = 300
NARRATIVE = {
    "meta": {"profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-observation-lab"], "versionId": "1"},
    "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{"x" * 300}</div>'},
}
"""What servers add to each resource."""
RATE, PACED_SECONDS = 20, 20.0


def call() -> bytes:
    """The call of the tests, with laboratory results until it has `RESOURCES` resources; about 300,000 bytes."""
    body = json.loads((HERE.parent / "tests/hook.json").read_text())
    entries = body["prefetch"]["observations"]["entry"]
    others = sum(len(each["entry"]) if "entry" in each else 1 for each in body["prefetch"].values() if each)
    for i in range(RESOURCES - others):
        result = copy.deepcopy(entries[0])
        result["resource"] |= {**NARRATIVE, "id": f"result-{i}"}
        result["resource"]["code"]["coding"][0]["code"] = "2160-0"
        result["resource"]["valueQuantity"] = {"value": 1.1, "unit": "mg/dL", "code": "mg/dL"}
        entries.append(result)
    return json.dumps(body).encode()


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
    return found | {"bytes": len(body), "resources": RESOURCES}


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
