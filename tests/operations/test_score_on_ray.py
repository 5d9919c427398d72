"""A cluster of two nodes scores a file as this machine does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from healthpredict.bundle.model import Bundle
from healthpredict.data.chunks import read_chunks
from healthpredict.data.raw import OUTCOME_COLUMN, format_raw
from healthpredict.data.synthetic import synthesize, synthesize_to_parquet
from healthpredict.operations.score_chunk import score_chunk
from healthpredict.operations.score_on_ray import score_on_ray

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROWS = 1000


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 1024**2}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes.add_node(**node)
    yield nodes.address
    ray.shutdown()
    nodes.shutdown()


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_the_cluster_gives_the_same_rows_in_the_same_order(
    cluster: str, bundle: Bundle, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"encounters.{kind}"
    if kind == "parquet":
        synthesize_to_parquet(path, 5 * ROWS, seed=3, chunk=ROWS)
    else:
        raw = synthesize(5 * ROWS, seed=3).drop(columns=OUTCOME_COLUMN)
        raw.loc[[7, 4321], "time_in_hospital"] = "99"
        path.write_bytes(format_raw(raw))
    chunks = list(score_on_ray(bundle, path, ROWS, cluster))
    assert len(chunks) > 1
    here = [score_chunk(bundle, raw, str(path)) for raw in read_chunks(path, ROWS)]
    predicted, expected = (pa.concat_tables([c.predicted for c in of]).to_pandas() for of in (chunks, here))
    pd.testing.assert_frame_equal(predicted, expected, rtol=0, atol=1e-12)
    # Within a chunk bad rows come before those of the dead, and chunks of a csv are not cut at the same places.
    rejected, reasons = (
        pa.concat_tables([c.rejected for c in of]).to_pandas().sort_values("encounter_id", ignore_index=True)
        for of in (chunks, here)
    )
    pd.testing.assert_frame_equal(rejected, reasons)
    assert ("time_in_hospital is outside 1 to 14" in set(rejected["reason"])) == (kind == "csv")
