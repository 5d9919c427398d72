"""`healthpredict doctor` asks the cluster for each right of the deployer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from rig import Rig

from healthpredict.doctor.kubernetes import deployer_problem
from healthpredict.errors import RolloutError
from healthpredict.operations.installation import Installation
from healthpredict.operations.set_up_cluster import ADMINISTRATOR
from healthpredict.rollout.manifests import only_manifest, read_manifests

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def role(rig: Rig) -> dict[str, Any]:
    assert rig.settings.source_path is not None
    found: dict[str, Any] = only_manifest(read_manifests(rig.settings.source_path / ADMINISTRATOR), "Role")
    return found


def test_a_deployer_with_all_rights_is_no_problem(rig: Rig) -> None:
    started = time.monotonic()
    assert deployer_problem(rig.installation) is None
    print(f"all rights were checked in {time.monotonic() - started:.2f} s")  # noqa: T201


def test_rights_that_the_role_lacks_are_reported(rig: Rig, role: dict[str, Any]) -> None:
    rules = [rule for rule in role["rules"] if rule["resources"] != ["pods/portforward"]]
    (deployments,) = (rule for rule in rules if rule["resources"] == ["deployments"])
    fewer = {**deployments, "verbs": [verb for verb in deployments["verbs"] if verb != "patch"]}
    older = {**role, "rules": [fewer if rule is deployments else rule for rule in rules]}
    deadline = time.monotonic() + 10
    rig.administrator.apply(older)
    try:
        # The API server learns of the change within a moment.
        while (found := deployer_problem(rig.installation)) is None:
            assert time.monotonic() < deadline
    finally:
        rig.administrator.apply(role)
    assert "may not patch deployments, get pods/portforward, create pods/portforward." in found.sentence
    assert f"HEALTHPREDICT_KUBECONFIG={rig.settings.kubeconfig} " in found.fix
    assert ".venv/bin/healthpredict cluster set-up " in found.fix


def test_a_token_that_is_no_longer_valid_is_reported(rig: Rig, tmp_path: Path) -> None:
    assert rig.settings.kubeconfig is not None
    content = yaml.safe_load(rig.settings.kubeconfig.read_text())
    content["users"][0]["user"]["token"] = "of an earlier cluster"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
    settings = rig.settings.model_copy(update={"kubeconfig": tmp_path / "kubeconfig"})
    with pytest.raises(RolloutError, match="Unauthorized"):
        deployer_problem(Installation(settings))
