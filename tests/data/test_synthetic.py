"""Synthetic encounters match the contract and the published shares, depend only on the seed, and have the planted drift."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from healthpredict.data.params import ContractParams
from healthpredict.data.schema import build_schema, check_encounters
from healthpredict.data.synthetic import DriftKind, DriftPlan, synthesize, synthesize_to_parquet
from healthpredict.evaluation.metrics import auroc

N = 20_000
RAW = synthesize(N, seed=3)


def test_every_row_keeps_the_contract() -> None:
    checked = check_encounters(RAW, "synthetic", ContractParams(max_bad_share=0))
    assert checked.encounters["encounter_id"].is_monotonic_increasing


def test_same_seed_gives_the_same_encounters() -> None:
    pd.testing.assert_frame_equal(synthesize(100, seed=3), synthesize(100, seed=3))
    assert not synthesize(100, seed=4).equals(synthesize(100, seed=3))


def test_figures_are_near_those_of_the_published_data_set() -> None:
    """1.42 encounters per patient, 11 % readmitted within 30 days, 35 % later, visits as in the file."""
    inpatient = RAW["number_inpatient"].astype(int)
    assert N / RAW["patient_nbr"].nunique() == pytest.approx(1.42, abs=0.02)
    assert (RAW["readmitted"] == "<30").mean() == pytest.approx(0.112, abs=0.01)
    assert (RAW["readmitted"] == ">30").mean() == pytest.approx(0.349, abs=0.02)
    assert inpatient.mean() == pytest.approx(0.636, abs=0.05)
    assert (inpatient == 0).mean() == pytest.approx(0.665, abs=0.03)
    assert (RAW["payer_code"].isna()).mean() == pytest.approx(0.396, abs=0.02)


def test_readmission_can_be_predicted_as_well_as_in_reality() -> None:
    """`number_inpatient` alone has an AUROC of .612 in the published data set."""
    label = (RAW["readmitted"] == "<30").to_numpy()
    assert auroc(label, RAW["number_inpatient"].to_numpy(dtype=float)) == pytest.approx(0.612, abs=0.02)


def test_dead_are_not_readmitted() -> None:
    assert set(RAW.loc[RAW["discharge_disposition_id"].isin(["11", "13", "14"]), "readmitted"]) == {"NO"}


def shift(kind: DriftKind) -> dict[str, float]:
    """The difference between the two halves if drift of one kind is planted in the second."""
    raw = synthesize(N, seed=3, plant=DriftPlan(start=0.5, kinds=(kind,)))
    label = (raw["readmitted"] == "<30").to_numpy()
    visits = raw["number_inpatient"].to_numpy(dtype=float)
    halves = []
    for half in (slice(0, N // 2), slice(N // 2, N)):
        rows = raw.iloc[half]
        halves.append(
            {
                "covariate": visits[half].mean(),
                "new_category": (rows["medical_specialty"] == "Telemedicine").mean(),
                "missing": rows["race"].isna().mean(),
                "concept": auroc(label[half], visits[half]),
            }
        )
    return {name: abs(halves[1][name] - halves[0][name]) for name in halves[0]}


@pytest.mark.parametrize(
    ("kind", "least"), [("covariate", 0.5), ("new_category", 0.25), ("missing", 0.4), ("concept", 0.08)]
)
def test_planted_drift_is_there_and_no_other(kind: DriftKind, least: float) -> None:
    found = shift(kind)
    assert found[kind] > least
    assert all(size < 0.05 for name, size in found.items() if name != kind)


def test_drift_of_no_strength_is_none() -> None:
    pd.testing.assert_frame_equal(synthesize(500, seed=3, plant=DriftPlan(strength=0)), synthesize(500, seed=3))


def test_large_file_is_written_in_chunks_that_keep_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "encounters.parquet"
    synthesize_to_parquet(path, 2_500, seed=5, chunk=1_000)
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [1000, 1000, 500]
    encounters = pd.read_parquet(path)
    build_schema().validate(encounters)
    chunk_of = np.arange(2_500) // 1_000
    assert encounters.groupby("patient_id")["encounter_id"].agg(lambda ids: len(set(chunk_of[ids.index]))).max() == 1
