"""`make bench-scale`: one process, our map over a Ray cluster, and `ray.data`, scoring the same rows on the cores of this machine.

Each run is a process of its own. CPU is that of all processes that it started.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.memory import peak_rss_mb
from benchmarks.results import FOLDER, Target, at_least, at_most, conditions, write
from benchmarks.serving_models import build_served_bundle
from healthpredict.bundle.model import Bundle, load_bundle
from healthpredict.config import quiet_vendors
from healthpredict.data.columns import ID_COLUMNS
from healthpredict.data.contract import RECORD_COLUMNS
from healthpredict.data.params import ContractParams
from healthpredict.data.synthetic import synthesize_to_parquet
from healthpredict.data.table import ROWS_AT_ONCE
from healthpredict.operations.score import score_with
from healthpredict.operations.score_chunk import score_chunk
from healthpredict.storage.table_writer import TableWriter
from healthpredict.training.params import FamilyName
from healthpredict.training.ray_cluster import ray_runtime
from tests.labelled import labelled_encounters

ROWS = 10_000_000
FAMILY: FamilyName = "catboost"
"""What a search tries first."""


def in_one_process(bundle_path: Path, source: Path, result: Path) -> None:
    score_with(load_bundle(bundle_path), str(source), str(result))


def with_our_map(bundle_path: Path, source: Path, result: Path) -> None:
    """As `healthpredict score` with RAY_ADDRESS."""
    score_with(load_bundle(bundle_path), str(source), str(result), ray_address="auto")


def with_ray_data(bundle_path: Path, source: Path, result: Path) -> None:
    """Without the search for repeated ids and the file of rejected rows, which need all rows in order."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    scored = ray.data.read_parquet(str(source)).map_batches(
        partial(_score_batch, bundle_path), batch_format="pyarrow", batch_size=ROWS_AT_ONCE, zero_copy_batch=True
    )
    with TableWriter(result, ".parquet") as writer:
        for batch in scored.iter_batches(batch_size=None, batch_format="pyarrow"):
            writer.write(batch)


def _score_batch(bundle_path: Path, batch: pa.Table) -> pa.Table:
    bundle = _bundle(bundle_path)
    texts = {
        column.name: values if column.name in ID_COLUMNS else values.dictionary_encode()
        for column in RECORD_COLUMNS
        for values in [batch[column.field].cast(pa.string())]
    }
    chunk = score_chunk(bundle, pa.table(texts).to_pandas(), ContractParams().diagnosis_coding)
    predicted = np.equal(chunk.reason, "").astype(bool)
    risk = chunk.risk[predicted]
    return pa.table(
        {
            "encounter_id": chunk.encounter_id[predicted],
            "readmission_risk": risk,
            "high_risk": risk >= bundle.manifest.threshold,
        }
    )


@cache
def _bundle(path: Path) -> Bundle:
    return load_bundle(path)


ONE = "one process"
WAYS: dict[str, Callable[[Path, Path, Path], None]] = {
    ONE: in_one_process,
    "our map": with_our_map,
    "ray.data": with_ray_data,
}


def measure(way: str, bundle: Path, source: Path, result: Path) -> dict[str, float]:
    """Score once, in this process and in those of Ray, whose start is not counted: a cluster runs already.

    The peaks of the processes are added, so memory that they share counts more than once.
    """
    with nullcontext() if way == ONE else ray_runtime(None):
        cpu, start = cpu_seconds(), time.perf_counter()
        WAYS[way](bundle, source, result)
        return {
            "seconds": time.perf_counter() - start,
            "cpu_s": cpu_seconds() - cpu,
            "peak_rss_mb": sum(peak_rss_mb(process.pid) for process in processes()),
        }


def processes() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def cpu_seconds() -> float:
    """CPU seconds of all processes, and of those that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in processes())


def scale(folder: Path, rows: int) -> dict[str, Any]:
    """Score the same file in each way."""
    source = folder / "encounters.parquet"
    synthesize_to_parquet(source, rows, seed=7)
    bundle = build_served_bundle(folder / "bundle", labelled_encounters(20_000, 0), FAMILY)
    found: dict[str, Any] = {"rows": rows}
    results = {way: folder / f"{number}.parquet" for number, way in enumerate(WAYS)}
    for way, result in results.items():
        # Not as `__main__`, whose functions Ray cannot import.
        program = "from benchmarks.scale import main; main()"
        command = [sys.executable, "-c", program, "--run", way, *map(str, (bundle.path, source, result))]
        found[way] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
        found[way] |= compare(result, results[ONE])
        print(way, found[way], flush=True)
    return found


def compare(result: Path, expected: Path) -> dict[str, bool]:
    """Whether two results have the same encounters with the same risks, and whether these are in the same order."""
    ours, theirs = pq.read_table(result), pq.read_table(expected)
    same_order = ours["encounter_id"].equals(theirs["encounter_id"])
    if not same_order:
        ours, theirs = (table.sort_by("encounter_id") for table in (ours, theirs))
    same = ours["encounter_id"].equals(theirs["encounter_id"]) and np.allclose(
        ours["readmission_risk"], theirs["readmission_risk"], rtol=0, atol=1e-12
    )
    return {"same_risks": bool(same), "same_order": same_order}


def targets(found: dict[str, Any]) -> list[Target]:
    """A way that does not save wall time does not pay."""
    same = [at_least(f"{way}, risks as in one process", found[way]["same_risks"], 1) for way in WAYS]
    return same + [
        at_most(f"{way} / one process, {words}", found[way][unit] / found[ONE][unit], 1)
        for way in WAYS
        if way != ONE
        for unit, words in (("seconds", "wall time"), ("cpu_s", "CPU"))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--result", type=Path, default=FOLDER / "scale.json")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    quiet_vendors()
    if options.run:
        way, *paths = options.run
        print(json.dumps(measure(way, *map(Path, paths))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        found = scale(Path(temporary), options.rows)
    write(options.result, "score", found, targets(found), conditions())


if __name__ == "__main__":
    main()
