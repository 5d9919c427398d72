"""Scoring and importing on a cluster of two nodes, one of which is killed: the result is that of one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from healthpredict.bundle.model import Bundle
from healthpredict.config import Settings
from healthpredict.data.synthetic import synthesize
from healthpredict.errors import ClusterError
from healthpredict.operations import score as scoring
from healthpredict.operations import sort_export as sorting
from healthpredict.operations.export_fhir import export_fhir
from healthpredict.operations.import_fhir import import_fhir
from healthpredict.operations.installation import Installation
from healthpredict.operations.score import score_with
from tests.two_nodes import TwoNodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROWS = 400
CHUNKS = 10


@pytest.fixture
def encounters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is scored in ten chunks."""
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", ROWS)
    path = tmp_path / "encounters.parquet"
    synthesize(CHUNKS * ROWS, seed=3).to_parquet(path, index=False)
    return path


def test_scoring_survives_a_node(two_nodes: TwoNodes, bundle: Bundle, encounters: Path, tmp_path: Path) -> None:
    def progress(rows: int) -> None:
        if rows and not two_nodes.killed:
            two_nodes.kill_second()

    here = score_with(bundle, str(encounters), str(tmp_path / "here.csv"))
    there = score_with(bundle, str(encounters), str(tmp_path / "there.csv"), progress, ray_address=two_nodes.address)
    assert two_nodes.killed
    assert here.predicted + here.rejected == CHUNKS * ROWS
    for uri in ("result_uri", "rejected_uri"):
        assert Path(getattr(there, uri)).read_bytes() == Path(getattr(here, uri)).read_bytes()


def test_an_import_survives_a_node(
    two_nodes: TwoNodes, settings: Settings, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Installation(settings)
    export_fhir(here, source, str(tmp_path / "export"), compress=False)
    size = sum(path.stat().st_size for path in (tmp_path / "export").iterdir())
    monkeypatch.setattr(sorting, "_GROUP_BYTES", size // CHUNKS)
    there = Installation(
        settings.model_copy(update={"data_uri": str(tmp_path / "there"), "ray_address": two_nodes.address})
    )
    shares = []

    def progress(share: float) -> None:
        shares.append(share)
        if 0.6 < share < 0.9 and not two_nodes.killed:
            two_nodes.kill_second()

    reports = import_fhir(here, str(tmp_path / "export")), import_fhir(there, str(tmp_path / "export"), progress)
    assert two_nodes.killed
    assert reports[0] == reports[1]
    assert shares == sorted(shares)
    written = files_below(here.layout.root)
    assert {"raw/fhir.csv", "raw/fhir-import.json"} < written.keys()
    assert written == files_below(there.layout.root)


def files_below(root: str) -> dict[str, bytes]:
    """What an import writes, without the files that hold times."""
    folders = (Path(root) / name for name in ("raw", "batches", "outcomes", "quarantine"))
    paths = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def test_a_cluster_that_is_not_there_is_reported_soon(bundle: Bundle, encounters: Path, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"The Ray cluster at 127\.0\.0\.1:1 failed \(its head does not respond"):
        score_with(bundle, str(encounters), str(tmp_path / "risks.csv"), ray_address="127.0.0.1:1")
    assert not list(tmp_path.glob("risks*"))
