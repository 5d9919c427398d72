"""Canary, watch, and rollback by hand."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import httpx
import pytest
from pods import PYTHON
from rig import NAMESPACE, Rig, alias, kubectl, template_hash
from traffic import Traffic, nothing_fails

from healthpredict.errors import ConfigurationError, RolloutError
from healthpredict.operations.installation import Installation
from healthpredict.operations.put_on_kubernetes import kubernetes_target
from healthpredict.operations.roll_back import roll_back
from healthpredict.operations.roll_out import roll_out
from healthpredict.rollout.objects import served
from healthpredict.rollout.params import CanaryParams
from healthpredict.rollout.progress import is_ready

pytestmark = pytest.mark.kubernetes
CANARY = "healthpredict-api-canary"


def test_a_rollback_by_hand_uses_the_image_that_the_version_had(rig: Rig, champion: int, traffic: Traffic) -> None:
    settings = rig.settings
    version = rig.register()
    before = alias(settings)
    image = rig.installation.ledger.last("promotion", version=before)["image"]  # type: ignore[index]
    with nothing_fails(traffic):
        roll_out(rig.installation, version)
        done = roll_back(rig.installation)
    assert (done.version, done.previous, done.image, alias(settings)) == (before, version, image, before)
    assert set(done.seconds) == {"rollout", "watch"}, "nothing was built"
    assert rig.installation.ledger.events("promotion")[-1]["reason"] == f"rolled back from version {version}"


def test_a_version_that_was_never_in_service_is_no_target_of_a_rollback(rig: Rig, champion: int) -> None:
    version = rig.register()
    with pytest.raises(ConfigurationError, match=f"Version {version} cannot be rolled back to"):
        roll_back(rig.installation, version)


def test_a_good_canary_answers_its_share_and_then_all_requests(rig: Rig, champion: int, traffic: Traffic) -> None:
    params = {"strategy": "canary", "canary": CanaryParams(seconds=5, risk_distance=1)}
    settings = rig.settings
    settings = settings.model_copy(update={"rollout": settings.rollout.model_copy(update=params)})
    before, version = alias(settings), rig.register()
    shares: list[int] = []

    def look() -> None:
        while done.is_alive():
            shares.append(len(rig.administrator.find("Pod", {"healthpredict/track": "canary"})))
            time.sleep(0.5)

    done = threading.Thread(target=roll_out, args=(Installation(settings), version))
    with nothing_fails(traffic) as versions:
        done.start()
        look()
    assert versions == {before, version}
    assert max(shares) == 1
    assert rig.administrator.read("Deployment", CANARY) is None
    assert alias(settings) == version


def test_a_canary_with_other_risks_is_deleted(rig: Rig, champion: int, traffic: Traffic) -> None:
    params = {"strategy": "canary", "canary": CanaryParams(seconds=1, risk_distance=1e-9)}
    settings = rig.settings
    settings = settings.model_copy(update={"rollout": settings.rollout.model_copy(update=params)})
    before, template, version = alias(settings), template_hash(rig), rig.register()
    with nothing_fails(traffic), pytest.raises(RolloutError, match=r"lie 0\.\d+ from the champion's"):
        roll_out(Installation(settings), version)
    assert (alias(settings), template_hash(rig)) == (before, template)
    assert rig.administrator.read("Deployment", CANARY) is None


def test_a_version_that_fails_in_the_watch_is_rolled_back(rig: Rig, champion: int, traffic: Traffic) -> None:
    """The version is good, but the limit of the response time is close to zero."""
    settings = rig.settings
    params = {"watch_seconds": 30, "watch_mean_seconds": 1e-9}
    strict = settings.model_copy(update={"rollout": settings.rollout.model_copy(update=params)})
    before, version = alias(settings), rig.register()
    with nothing_fails(traffic), pytest.raises(RolloutError, match=r"takes .* s on average") as caught:
        roll_out(Installation(strict), version)
    assert f"Version {before} was put back and verified." in str(caught.value)
    assert alias(settings) == before
    replica_set = kubernetes_target(rig.installation).verified()
    assert replica_set is not None
    assert served(replica_set).version == before
    first, second = rig.installation.ledger.events("promotion")[-2:]
    assert (first["version"], second["version"]) == (version, before)
    assert "on average" in second["reason"]


def test_the_watch_reports_a_restarted_pod(rig: Rig, champion: int) -> None:
    target = kubernetes_target(rig.installation)
    pods = filter(is_ready, rig.administrator.find("Pod", {"healthpredict/track": "stable"}))
    pod = next(pods)["metadata"]["name"]
    killing = threading.Timer(2, end_container, args=(pod,))
    killing.start()
    assert target.watch(60) == f"Pod {pod} was restarted."
    target.wait()


def end_container(pod: str) -> None:
    """End the first process of a pod. The image may have no `kill`."""
    command = [PYTHON, "-c", "import os, signal; os.kill(1, signal.SIGTERM)"]
    kubectl(f"--namespace={NAMESPACE}", "exec", pod, "--", *command)


def test_every_image_has_a_bill_of_materials(rig: Rig, champion: int) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    settings = rig.settings
    for event in rig.installation.ledger.events("promotion"):
        digest = event["image"].rpartition(":")[2]
        text = Path(settings.reports_uri, "images", f"{digest}.cdx.json").read_text()
        names = {component["name"] for component in json.loads(text)["components"]}
        assert {"onnxruntime", "readmission", "libc6"} <= names
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_promoting_again_updates_the_keys(rig: Rig, champion: int, traffic: Traffic) -> None:
    """The API then accepts a new key, and rejects a revoked one."""
    from healthpredict.storage.key_file import add_key, revoke_key

    settings = rig.settings
    version = alias(settings)
    assert version is not None
    key = add_key(settings.api_keys_path, "another")
    with nothing_fails(traffic):
        roll_out(rig.installation, version)
    url = kubernetes_target(rig.installation).url
    asked = httpx.get(f"{url}/model", headers={"Authorization": f"Bearer {key}"}, trust_env=False)
    assert asked.status_code == 200
    revoke_key(settings.api_keys_path, "another")
    roll_out(rig.installation, version)
    asked = httpx.get(f"{url}/model", headers={"Authorization": f"Bearer {key}"}, trust_env=False)
    assert asked.status_code == 401
