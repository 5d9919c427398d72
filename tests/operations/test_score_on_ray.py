"""A cluster of two nodes scores a file as this machine does."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from healthpredict.bundle.model import Bundle
from healthpredict.data.columns import OUTCOME_COLUMN
from healthpredict.data.raw import format_raw
from healthpredict.data.schema import DUPLICATE
from healthpredict.data.synthetic import synthesize
from healthpredict.operations import score as scoring
from healthpredict.operations.score import Scored, score_with

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROWS = 1000


def scored(path: Path, bundle: Bundle, ray_address: str | None) -> Scored:
    folder = path.parent / ("cluster" if ray_address else "here")
    return score_with(bundle, str(path), str(folder / "risks.parquet"), ray_address=ray_address)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_the_cluster_gives_the_same_rows_in_the_same_order(
    ray_nodes: str, bundle: Bundle, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", ROWS)
    path = tmp_path / f"encounters.{kind}"
    raw = synthesize(5 * ROWS, seed=3).drop(columns=OUTCOME_COLUMN)
    raw.loc[[7, 4321], "time_in_hospital"] = "99"
    raw.loc[4999, "encounter_id"] = raw.loc[0, "encounter_id"]
    if kind == "parquet":
        raw.to_parquet(path, index=False)
    else:
        path.write_bytes(format_raw(raw))
    there, here = scored(path, bundle, ray_nodes), scored(path, bundle, None)
    assert (there.rows, there.predicted, there.rejected) == (here.rows, here.predicted, here.rejected)
    for uri in ("result_uri", "rejected_uri"):
        frames = (pd.read_parquet(getattr(run, uri)) for run in (there, here))
        pd.testing.assert_frame_equal(next(frames), next(frames), rtol=0, atol=1e-12)
    reasons = pd.read_parquet(there.rejected_uri)["reason"]
    assert {"time_in_hospital is outside 1 to 14", DUPLICATE} <= set(reasons)
