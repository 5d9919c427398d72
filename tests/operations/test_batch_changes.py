"""A batch is compared with the last one that is large enough."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bundles import draw_encounters, register_tiny_bundle

from healthpredict.bundle.model import Bundle
from healthpredict.config import Settings
from healthpredict.data.batches import INITIAL
from healthpredict.monitoring.contributions import Contribution
from healthpredict.monitoring.data_drift import count_batch
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import ReferenceProfile, build_profile
from healthpredict.operations import batch_changes
from healthpredict.operations.batch_changes import changes_since_batch_before, earlier_jumps
from healthpredict.operations.installation import Installation
from healthpredict.storage.tables import write_frame, write_json

INITIAL_DATA = draw_encounters(600, seed=1)
OTHER_PAYER = INITIAL_DATA.assign(payer_code="MC")
STORED = {"age": {"mean": 0.5, "error": 0.01}}


@pytest.fixture(scope="module")
def profile() -> ReferenceProfile:
    rows = len(INITIAL_DATA)
    risk = pd.Series(range(rows)).to_numpy() / rows
    patients = pd.Series(range(rows)).to_numpy()
    return build_profile(
        INITIAL_DATA, risk=risk, unseen_risk=risk, patient_id=patients, policy=DriftPolicy(samples=100)
    )


@pytest.fixture
def installation(rollout_settings: Settings, tmp_path: Path) -> Installation:
    installation = Installation(rollout_settings)
    register_tiny_bundle(rollout_settings, tmp_path)
    write_frame(installation.layout.processed(INITIAL), INITIAL_DATA)
    return installation


@pytest.fixture
def bundle(installation: Installation) -> Bundle:
    return installation.registry.fetch_bundle(installation.registry.version(1))


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows that were explained."""
    rows: list[int] = []

    def explain(_: Bundle, encounters: pd.DataFrame) -> dict[str, Contribution]:
        rows.append(len(encounters))
        return {"age": Contribution(mean=0.0, error=0.0)}

    monkeypatch.setattr(batch_changes, "champion_contributions", explain)
    return rows


def done(installation: Installation, name: str, encounters: pd.DataFrame, **check: Any) -> None:
    installation.ledger.append("batch", batch=name, rows=len(encounters), decision="stable")
    write_frame(installation.layout.processed(name), encounters)
    write_json(installation.layout.check(name), {"batch": name, **check})


def jump_of_payer(
    installation: Installation, bundle: Bundle, profile: ReferenceProfile, encounters: pd.DataFrame = OTHER_PAYER
) -> float | None:
    counts = count_batch(profile, encounters, pd.Series(0.1, encounters.index).to_numpy())
    found = changes_since_batch_before(
        installation, bundle, profile, counts, {"age": Contribution(mean=0.75, error=0.0)}
    )
    return found["payer_code"].jump.size if found else None


def test_the_first_batch_is_compared_with_the_initial_data(
    installation: Installation, bundle: Bundle, profile: ReferenceProfile, explained: list[int]
) -> None:
    jump = jump_of_payer(installation, bundle, profile)
    assert jump is not None
    assert jump > 1
    assert explained == [600]
    installation.ledger.append("batch", batch="batch-01", decision="refused", reasons=[])
    assert jump_of_payer(installation, bundle, profile) == jump, "a refused batch is none"


def test_a_later_batch_is_compared_with_the_one_before_it(
    installation: Installation, bundle: Bundle, profile: ReferenceProfile, explained: list[int]
) -> None:
    done(installation, "batch-01", OTHER_PAYER)
    assert jump_of_payer(installation, bundle, profile) == 0
    # A batch that is too small to be judged changes nothing, and is not compared itself.
    tiny = INITIAL_DATA.iloc[:50].reset_index(drop=True)
    done(installation, "batch-02", tiny)
    assert jump_of_payer(installation, bundle, profile) == 0
    assert jump_of_payer(installation, bundle, profile, tiny) is None


def test_contributions_are_reused_only_for_the_same_model(
    installation: Installation, bundle: Bundle, profile: ReferenceProfile, explained: list[int]
) -> None:
    done(installation, "batch-01", OTHER_PAYER, trained_version=1, contributions=STORED)
    jump_of_payer(installation, bundle, profile)
    assert explained == []
    for name, check in {"batch-02": {"trained_version": 2, "contributions": STORED}, "batch-03": {}}.items():
        done(installation, name, OTHER_PAYER, **check)
        jump_of_payer(installation, bundle, profile)
    assert explained == [600, 600], "another model, and a check by an earlier version of this system"


def test_a_bundle_without_explainer_has_no_contributions(bundle: Bundle) -> None:
    assert "age" in batch_changes.champion_contributions(bundle, INITIAL_DATA)
    without = dataclasses.replace(bundle, explainer=None)
    assert batch_changes.champion_contributions(without, INITIAL_DATA) == {}


def test_jumps_of_earlier_versions_are_unknown(installation: Installation) -> None:
    done(installation, "batch-01", OTHER_PAYER)
    installation.ledger.append("batch", batch="batch-02", rows=600, decision="stable", jumps={"age": 0.5})
    assert earlier_jumps(installation) == [{"age": 0.5}]
