"""Rollouts and automatic rollbacks, while 20 requests a second go through the node port."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from rig import (
    CRASHES,
    LITTLE_MEMORY,
    NAMESPACE,
    NEVER_READY,
    OTHER_RISKS,
    Alter,
    Rig,
    alias,
    render,
    replace,
    template_hash,
)
from traffic import Traffic, nothing_fails

from healthpredict.errors import RolloutError
from healthpredict.operations import put_on_kubernetes as operation
from healthpredict.operations.installation import Installation
from healthpredict.operations.put_on_kubernetes import kubernetes_target
from healthpredict.operations.roll_out import roll_out
from healthpredict.rollout.objects import served

pytestmark = pytest.mark.kubernetes


def test_the_first_rollout_is_recorded(rig: Rig, champion: int) -> None:
    first = rig.installation.ledger.events("promotion")[0]
    assert (first["version"], first["previous"]) == (champion, None)
    assert first["url"] == kubernetes_target(rig.installation).url
    assert "@sha256:" in first["image"]


def test_the_champion_is_in_service_and_requires_a_key(rig: Rig, champion: int) -> None:
    target = kubernetes_target(rig.installation)
    found = target.verified()
    assert found is not None
    assert served(found).version == alias(rig.settings)
    assert httpx.post(f"{target.url}/predict", json={}, trust_env=False).status_code == 401


def test_a_new_version_replaces_the_old_one_without_one_failed_request(
    rig: Rig, champion: int, traffic: Traffic
) -> None:
    settings = rig.settings
    before, version = alias(settings), rig.register()
    with nothing_fails(traffic) as versions:
        done = roll_out(rig.installation, version)
    assert versions == {before, version}
    assert traffic.since(time.monotonic() - 1)[-1].version == version
    assert alias(settings) == version == done.version
    assert done.previous == before


def test_the_same_version_again_changes_nothing(rig: Rig, champion: int) -> None:
    settings = rig.settings
    current = alias(settings)
    assert current is not None
    before, events = template_hash(rig), rig.installation.ledger.events("promotion")
    roll_out(rig.installation, current)
    assert template_hash(rig) == before
    assert rig.installation.ledger.events("promotion") == events


BILL = operation.bill_of_materials


def and_delete(registry: httpx.Client, reference: str, image_id: str, *others: Any) -> str:
    """Write the bill of materials, the last step before the rollout, then delete the image from registry and engine."""
    bill = BILL(reference, image_id, *others)
    repository, _, digest = reference.partition("@")
    registry.delete(f"{repository.partition('/')[2]}/manifests/{digest}").raise_for_status()
    docker.from_env(version="auto").images.remove(image_id, force=True)
    return bill


FAULTS: dict[str, tuple[Alter, str]] = {
    "missing image": ({}, r"its image cannot be pulled \(ImagePullBackOff"),
    "crash at start": (
        CRASHES,
        r"(?s)crashes repeatedly.*exit code 2.*log: .*unrecognized arguments: --no-such-option",
    ),
    "golden rows differ": (OTHER_RISKS, r"differs from training by 1\.0e-04 on its golden rows"),
    "out of memory": (LITTLE_MEMORY, r"OOMKilled"),
    "never ready": (NEVER_READY, r"(?s)it was not ready within 10 s.*event: Unhealthy: .*statuscode: 401"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_version_that_fails_is_rolled_back(
    fault: str, rig: Rig, champion: int, traffic: Traffic, request: pytest.FixtureRequest
) -> None:
    tmp_path, monkeypatch = request.getfixturevalue("tmp_path"), request.getfixturevalue("monkeypatch")
    alterations, words = FAULTS[fault]
    settings = rig.altered(tmp_path / "source", alterations)
    if fault == "missing image":
        monkeypatch.setattr(operation, "bill_of_materials", partial(and_delete, request.getfixturevalue("registry")))
    if fault == "never ready":
        path = tmp_path / "source" / "k8s/overlays/local/sooner.yaml"
        replace(path, "value: 30", "value: 10")
        render(tmp_path / "source")
    before, template = alias(settings), template_hash(rig)
    version = rig.register()
    with nothing_fails(traffic) as versions, pytest.raises(RolloutError, match=words) as caught:
        roll_out(Installation(settings), version)
    assert f"Version {before} was put back and verified." in str(caught.value)
    assert alias(settings) == before
    assert template_hash(rig) == template
    failure = Installation(settings).ledger.events("rollout_failed")[-1]
    assert (failure["version"], failure["champion"], failure["problem"]) == (version, before, str(caught.value))
    assert versions == ({before, version} if fault == "golden rows differ" else {before})
    assert traffic.since(time.monotonic() - 1)[-1].version == before


def test_the_deployer_has_rights_to_its_namespace_only(rig: Rig, champion: int) -> None:
    from healthpredict.rollout.cluster import Cluster

    settings = rig.settings
    assert settings.kubeconfig is not None
    own = Cluster(settings.kubeconfig, "e2e", rig.administrator.namespace)
    assert own.find("Pod")
    other = Cluster(settings.kubeconfig, "e2e", "kube-system")
    for kind in ("Secret", "Pod", "ConfigMap", "Deployment"):
        with pytest.raises(RolloutError, match="forbidden"):
            other.find(kind)
    with pytest.raises(RolloutError, match="forbidden"):
        own.read("Namespace", rig.administrator.namespace)


def test_a_rollout_to_a_namespace_that_was_not_set_up_is_refused(rig: Rig, champion: int, tmp_path: Path) -> None:
    nowhere = {"k8s/overlays/local/kustomization.yaml": (f"namespace: {NAMESPACE}", "namespace: nowhere")}
    settings = rig.altered(tmp_path / "source", nowhere)
    with pytest.raises(RolloutError, match=r"Kubernetes did not read Lease .* forbidden"):
        roll_out(Installation(settings), rig.register())


def test_predictions_are_shipped_from_the_log_of_the_pods(rig: Rig, champion: int) -> None:
    from healthpredict.operations.ship_log import ship_log

    if rig.log is None:
        pytest.skip("HEALTHPREDICT_TEST_LOG_FOLDER names no folder that node and host share")
    deadline = time.monotonic() + 90
    shipped: Any = None
    while time.monotonic() < deadline:
        shipped = ship_log(rig.installation, rig.log)
        if shipped.predictions:
            break
        time.sleep(2)
    assert shipped.predictions > 0
