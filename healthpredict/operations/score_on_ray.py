"""Batch scoring with the nodes of a Ray cluster, through Ray Data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from healthpredict.bundle.model import Bundle, load_bundle
from healthpredict.data.chunks import CSV_OPTIONS, as_raw, is_parquet
from healthpredict.operations.score_chunk import ScoredChunk, score_chunk
from healthpredict.training.search import ray_runtime


def score_on_ray(bundle: Bundle, source: Path, rows: int, address: str) -> Iterator[ScoredChunk]:
    """Score a file chunk by chunk, several at a time; chunks come in the order of the file.

    Args:
        bundle: its folder must be there on every node.
        source: csv or Parquet, there on every node.
        rows: of a chunk.
        address: of the cluster.
    """
    import ray

    with ray_runtime(address):
        # Ray Data draws bars of its own over ours.
        ray.data.DataContext.get_current().enable_progress_bars = False
        ray.data.DataContext.get_current().execution_options.preserve_order = True
        if is_parquet(source):
            encounters = ray.data.read_parquet(str(source))
        else:
            encounters = ray.data.read_csv(str(source), convert_options=CSV_OPTIONS)
        scored = encounters.map_batches(
            _Scorer,
            fn_constructor_args=(bundle.path, str(source)),
            batch_size=rows,
            batch_format="pyarrow",
            concurrency=(1, max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)),
        )
        for chunk in scored.iter_rows():
            yield ScoredChunk(*(pa.ipc.open_stream(chunk[name]).read_all() for name in ScoredChunk._fields))


class _Scorer:
    """Loads the bundle once on a node."""

    def __init__(self, bundle_path: Path, name: str) -> None:
        self._bundle = load_bundle(bundle_path)
        self._name = name

    def __call__(self, batch: pa.Table) -> pa.Table:
        (merged,) = batch.combine_chunks().to_batches() or (pa.RecordBatch.from_pylist([], schema=batch.schema),)
        scored = score_chunk(self._bundle, as_raw(merged, self._name), self._name)
        # Two tables of different columns make one row: Ray Data knows one schema only.
        return pa.table({name: [_to_bytes(table)] for name, table in scored._asdict().items()})


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data
