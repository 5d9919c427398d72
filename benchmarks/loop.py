"""`make bench-loop`: where the time of the demo goes, and how fast its parts are, into `benchmarks/results/loop.json`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.results import FOLDER, Stopwatch, Target, at_least, at_most, conditions, write
from healthpredict.bundle.model import Bundle
from healthpredict.config import Settings, quiet_vendors
from healthpredict.data.synthetic import synthesize_to_parquet
from healthpredict.features.frame import as_records, encode_frame
from healthpredict.monitoring.data_drift import detect_data_drift
from healthpredict.monitoring.evidently_page import evidently_page
from healthpredict.monitoring.profile import ReferenceProfile
from healthpredict.operations.dataset import arrived_batches
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import read_prepared
from healthpredict.operations.risks import risks_of
from healthpredict.storage.tables import read_frame

SCORED_ROWS = (100_000, 1_000_000)
DRIFT_ROWS = 8_000
RECORDS = 5_000
Measured = tuple[dict[str, Any], list[Target]]

# In a separate process, because peak memory is measured per process.
_SCORE = """
import json, sys, time
from benchmarks.memory import peak_rss_mb
from healthpredict.config import quiet_vendors
quiet_vendors()
from healthpredict.operations.installation import Installation
from healthpredict.operations.score import score
from healthpredict.operations.risks import risks_of
wall, cpu = time.perf_counter(), time.process_time()
scored = score(Installation(), sys.argv[1], sys.argv[2])
print(json.dumps({
    "rows": scored.rows,
    "seconds": time.perf_counter() - wall,
    "cpu_s": time.process_time() - cpu,
    "peak_rss_mb": peak_rss_mb(),
}))
"""


def demo(folder: Path, source: str | None) -> Measured:
    """Run the demo and read where its time went."""
    program = str(Path(sys.executable).with_name("healthpredict"))
    command = [program, "demo", "--fresh", "--state", str(folder / "state")]
    subprocess.run([*command, *(["--source", source] if source else [])], cwd=folder, check=True)
    summary = json.loads(Path(Settings().reports_uri, "summary.json").read_text())
    seconds = {stage: round(value, 1) for stage, value in summary["seconds"].items()}
    share = summary["seconds"]["orchestration"] / summary["seconds"]["total"]
    return seconds, [
        at_most("demo, seconds in total", seconds["total"], 360),
        at_most("orchestration, share of the total", share, 0.10),
    ]


def parts(settings: Settings, bundle: Bundle) -> Measured:
    """The encoder's two evaluations and one drift check, in CPU seconds of this process."""
    installation = Installation(settings)
    layout = installation.layout
    names = arrived_batches(installation)
    encounters = pd.concat([read_frame(layout.processed(name)) for name in names], ignore_index=True)
    frame_cpu = min(_cpu(lambda: encode_frame(bundle.encoder, encounters)) for _ in range(5))
    records = as_records(encounters.head(RECORDS))
    record_cpu = min(_cpu(lambda: [bundle.encode(record) for record in records]) for _ in range(5))

    profile = ReferenceProfile.model_validate(bundle.reference())
    batch = encounters.tail(DRIFT_ROWS).reset_index(drop=True)
    risk = risks_of(bundle, batch)
    # The first check imports Evidently; the second one counts.
    drift_cpu = [
        _cpu(lambda: (detect_data_drift(profile, batch, risk), evidently_page(profile, batch, risk))) for _ in range(3)
    ]
    measured = {
        "encoder_rows_per_cpu_s": len(encounters) / frame_cpu,
        "encoder_rows": len(encounters),
        "encoder_us_per_record": record_cpu / len(records) * 1e6,
        "drift_cpu_s": min(drift_cpu[1:]),
        "drift_cpu_s_with_imports": drift_cpu[0],
        "drift_rows": len(batch),
    }
    return measured, [
        at_least("encoder, rows a CPU second", measured["encoder_rows_per_cpu_s"], 300_000),
        at_most("one drift check of 8,000 rows, CPU seconds", measured["drift_cpu_s"], 3),
    ]


def score(folder: Path) -> Measured:
    """Score synthetic Parquet files of two sizes. The memory must not grow with the rows."""
    runs = []
    for rows in SCORED_ROWS:
        path = folder / f"{rows}.parquet"
        synthesize_to_parquet(path, rows, seed=7)
        command = [sys.executable, "-c", _SCORE, str(path), str(folder / f"{rows}.scored.parquet")]
        run = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        runs.append(run | {"rows_per_s": run["rows"] / run["seconds"], "rows_per_cpu_s": run["rows"] / run["cpu_s"]})
    small, large = runs
    growth = large["peak_rss_mb"] / small["peak_rss_mb"]
    # Ten times the rows: unbounded memory would grow by hundreds of percent.
    return {"runs": runs, "memory_growth": growth}, [
        at_most("memory at 1,000,000 rows, times that at 100,000", growth, 1.3)
    ]


def _cpu(action: Any) -> float:
    watch = Stopwatch()
    action()
    return watch.cpu


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("HEALTHPREDICT_TEST_DATA"), help="default: the UCI archive")
    parser.add_argument("--result", type=Path, default=FOLDER / "loop.json")
    options = parser.parse_args()
    if options.data and "://" not in options.data:
        options.data = str(Path(options.data).resolve())  # the demo runs in another folder
    quiet_vendors()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["HEALTHPREDICT_REPORTS_URI"] = str(folder / "reports")
        os.environ["HEALTHPREDICT_DATA_URI"] = str(folder / "state" / "data")
        os.environ["HEALTHPREDICT_STATE_PATH"] = str(folder / "state")
        measured = {"seconds": demo(folder, options.data)}
        settings = Settings()
        registry = Installation(settings).registry
        champion = registry.by_alias("champion")
        assert champion is not None
        measured["parts"] = parts(settings, registry.fetch_bundle(champion))
        measured["score"] = score(folder)
        prepared = read_prepared(Installation(settings))
    about = conditions(source=Path(prepared.source).name, sha256=prepared.sha256, seed=settings.search.seed)
    passed = [write(options.result, name, *result, about) for name, result in measured.items()]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
