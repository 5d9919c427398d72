"""`make bench-fhir`: time and memory of the import of a FHIR export, and CPU of one request.

Without `EXPORT`, synthetic encounters are exported. A smaller export is repeated until it has a gigabyte, with other ids in each
copy.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.memory import peak_rss_mb
from benchmarks.results import FOLDER, Target, at_most, conditions, write
from healthpredict.config import Settings
from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize
from healthpredict.fhir.encounter import encounter_from_fhir
from healthpredict.fhir.resources import TYPES, AnyResource
from healthpredict.operations.export_fhir import export_fhir
from healthpredict.operations.import_fhir import import_fhir
from healthpredict.operations.installation import Installation

GIGABYTE = 1e9
RESOURCES = 300
REPEATS = 300
ROWS = 4000
_UUID = re.compile(rb"[0-9a-f]{8}(?=-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
_OURS = re.compile(rb'(?<=[/"])([a-z]{1,2})([0-9]+)(?=["-])')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", type=Path, help="folder of an export; by default synthetic encounters")
    parser.add_argument("--only-import", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only_import:
        imported = import_fhir(Installation(), arguments.only_import)
        result = {"resources": sum(imported.resources.values()), "index_admissions": imported.stays}
        print(json.dumps(result | {"import_peak_mb": peak_rss_mb()}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = arguments.export or exported(folder / "synthetic")
        decoding = measure_decoding(source)
        request = measure_request(source)
        size = repeat(source, folder / "large")
        measured = measure_import(folder / "large", folder)
    section = "synthetic" if arguments.export is None else "given"
    figures = {"bytes": size, "typed_decoding_mb_per_cpu_second": decoding, **measured, **request}
    write(FOLDER / "fhir.json", section, figures, targets(figures), conditions())


def targets(figures: dict[str, Any]) -> list[Target]:
    per_gigabyte = GIGABYTE / figures["bytes"]
    return [
        at_most("import of 1 GB, CPU s", figures["import_cpu_seconds"] * per_gigabyte, 30),
        at_most("import of 1 GB, peak memory MB", figures["import_peak_mb"], 1000),
        at_most("one request of 300 resources, CPU ms", figures["request_cpu_ms"], 1),
    ]


def exported(folder: Path) -> Path:
    """Export synthetic encounters. Returns: the folder."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "synthetic.csv"
        source.write_bytes(format_raw(synthesize(ROWS, seed=0)))
        installation = Installation(Settings(data_uri=temporary, state_path=Path(temporary)))
        export_fhir(installation, str(source), str(folder), compress=False)
    return folder


def lines_of(path: Path) -> Iterator[bytes]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from file


def files_of(source: Path) -> list[Path]:
    return [path for path in sorted(source.iterdir()) if ".ndjson" in path.name]


def repeat(source: Path, folder: Path) -> int:
    """Write copies of an export with other ids until they have a gigabyte. Returns: bytes."""
    folder.mkdir()
    size = copy = 0
    while size < GIGABYTE:
        for path in files_of(source):
            with (folder / path.name.removesuffix(".gz")).open("ab") as file:
                for line in lines_of(path):
                    changed = _UUID.sub(f"{copy:08x}".encode(), line) if copy else line
                    changed = _OURS.sub(rf"\g<1>{copy}0\2".encode(), changed) if copy else changed
                    size += file.write(changed)
        copy += 1
    return size


def measure_import(source: Path, folder: Path) -> dict[str, Any]:
    """Import in a process of its own."""
    variables = {"HEALTHPREDICT_DATA_URI": str(folder / "data"), "HEALTHPREDICT_STATE_PATH": str(folder / "state")}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.fhir", "--only-import", str(source)]
    done = subprocess.run(command, env=os.environ | variables, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads(done.stdout)
    return {
        "import_seconds": time.perf_counter() - start,
        "import_cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        **result,
    }


def measure_decoding(source: Path) -> float:
    """Return how fast typed decoding alone is, in MB per CPU second: it shows how fast the machine is in this run."""
    path = next(path for path in files_of(source) if path.name.startswith("Observation"))
    lines = list(itertools.islice(lines_of(path), 50_000))
    decode = msgspec.json.Decoder(AnyResource).decode
    start = time.process_time()
    for line in lines:
        decode(line)
    return sum(map(len, lines)) / 1e6 / (time.process_time() - start)


def measure_request(source: Path) -> dict[str, Any]:
    """Read the last stay of the person whose resources are nearest to 300."""
    charts: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in files_of(source):
        for line in lines_of(path):
            found = json.loads(line)
            subject = found.get("subject") or found.get("beneficiary")
            if found["resourceType"] in TYPES and (subject or found["resourceType"] == "Patient"):
                charts[subject["reference"].partition("/")[2] if subject else found["id"]].append(found)
    chart = min(charts.values(), key=lambda resources: abs(len(resources) - RESOURCES))
    del charts
    stays = [item for item in chart if item["resourceType"] == "Encounter" and item["class"]["code"] == "IMP"]
    named = max(
        (stay for stay in stays if "diagnosis" in stay or "reasonCode" in stay),
        key=lambda stay: stay["period"]["start"],
    )
    text = json.dumps({"resourceType": "Bundle", "entry": [{"resource": item} for item in chart]}).encode()
    return {
        "request_resources": len(chart),
        "request_bytes": len(text),
        "request_cpu_ms": cpu_ms([text], named["id"]),
        "request_cpu_ms_objects": cpu_ms(chart, named["id"]),
    }


def cpu_ms(resources: list[Any], encounter_id: str) -> float:
    """The least CPU time of five series, in ms for each call: other processes only add to it."""
    series = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(REPEATS // 5):
            encounter_from_fhir(resources, encounter_id=encounter_id)
        series.append((time.process_time() - start) / (REPEATS // 5) * 1000)
    return min(series)


if __name__ == "__main__":
    main()
