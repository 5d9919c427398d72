"""Canary, watch, and rollback by hand."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import httpx
import pytest
from rig import Installation, alias, template_hash
from traffic import Traffic, nothing_fails

from healthpredict.errors import ConfigurationError, RolloutError
from healthpredict.operations.context import open_ledger
from healthpredict.operations.put_on_kubernetes import kubernetes_target
from healthpredict.operations.roll_back import roll_back
from healthpredict.operations.roll_out import roll_out
from healthpredict.rollout.objects import served
from healthpredict.rollout.params import CanaryParams
from healthpredict.rollout.progress import is_ready

pytestmark = pytest.mark.kubernetes
CANARY = "healthpredict-api-canary"


def test_a_rollback_by_hand_uses_the_image_that_the_version_had(
    installation: Installation, champion: int, traffic: Traffic
) -> None:
    settings = installation.settings
    version = installation.register()
    before = alias(settings)
    image = open_ledger(settings).last("promotion", version=before)["image"]  # type: ignore[index]
    with nothing_fails(traffic):
        roll_out(settings, version)
        done = roll_back(settings)
    assert (done.version, done.previous, done.image, alias(settings)) == (before, version, image, before)
    assert set(done.seconds) == {"rollout", "watch"}, "nothing was built"
    assert open_ledger(settings).events("promotion")[-1]["reason"] == f"rolled back from version {version}"


def test_a_version_that_was_never_in_service_is_no_target_of_a_rollback(
    installation: Installation, champion: int
) -> None:
    version = installation.register()
    with pytest.raises(ConfigurationError, match=f"no going back to version {version}"):
        roll_back(installation.settings, version)


def test_a_good_canary_answers_its_share_and_then_all_requests(
    installation: Installation, champion: int, traffic: Traffic
) -> None:
    params = {"strategy": "canary", "canary": CanaryParams(seconds=5, risk_distance=1)}
    settings = installation.settings
    settings = settings.model_copy(update={"rollout": settings.rollout.model_copy(update=params)})
    before, version = alias(settings), installation.register()
    shares: list[int] = []

    def look() -> None:
        while done.is_alive():
            shares.append(len(installation.administrator.find("Pod", {"healthpredict/track": "canary"})))
            time.sleep(0.5)

    done = threading.Thread(target=roll_out, args=(settings, version))
    with nothing_fails(traffic) as versions:
        done.start()
        look()
    assert versions == {before, version}
    assert max(shares) == 1
    assert installation.administrator.read("Deployment", CANARY) is None
    assert alias(settings) == version


def test_a_canary_with_other_risks_is_deleted(installation: Installation, champion: int, traffic: Traffic) -> None:
    params = {"strategy": "canary", "canary": CanaryParams(seconds=1, risk_distance=1e-9)}
    settings = installation.settings
    settings = settings.model_copy(update={"rollout": settings.rollout.model_copy(update=params)})
    before, template, version = alias(settings), template_hash(installation), installation.register()
    with nothing_fails(traffic), pytest.raises(RolloutError, match=r"lie 0\.\d+ from the champion's"):
        roll_out(settings, version)
    assert (alias(settings), template_hash(installation)) == (before, template)
    assert installation.administrator.read("Deployment", CANARY) is None


def test_a_version_that_fails_in_the_watch_is_rolled_back(
    installation: Installation, champion: int, traffic: Traffic
) -> None:
    """The version is good, but the limit of the response time is close to zero."""
    settings = installation.settings
    params = {"watch_seconds": 30, "watch_mean_seconds": 1e-9}
    strict = settings.model_copy(update={"rollout": settings.rollout.model_copy(update=params)})
    before, version = alias(settings), installation.register()
    with nothing_fails(traffic), pytest.raises(RolloutError, match=r"takes .* s on average") as caught:
        roll_out(strict, version)
    assert f"Version {before} was put back and verified." in str(caught.value)
    assert alias(settings) == before
    replica_set = kubernetes_target(settings).verified()
    assert replica_set is not None
    assert served(replica_set).version == before
    first, second = open_ledger(settings).events("promotion")[-2:]
    assert (first["version"], second["version"]) == (version, before)
    assert "on average" in second["reason"]


def test_the_watch_reports_a_restarted_pod(installation: Installation, champion: int) -> None:
    target = kubernetes_target(installation.settings)
    pods = filter(is_ready, installation.administrator.find("Pod", {"healthpredict/track": "stable"}))
    pod = next(pods)["metadata"]["name"]
    killing = threading.Timer(2, kill_container, args=(pod,))
    killing.start()
    assert target.watch(60) == "A pod was restarted."
    target.wait()


def kill_container(pod: str) -> None:
    import docker

    for container in docker.from_env(version="auto").containers.list(filters={"name": f"k8s_api_{pod}"}):
        container.kill()


def test_every_image_has_a_bill_of_materials(installation: Installation, champion: int) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    settings = installation.settings
    for event in open_ledger(settings).events("promotion"):
        digest = event["image"].rpartition(":")[2]
        text = Path(settings.reports_uri, "images", f"{digest}.cdx.json").read_text()
        names = {component["name"] for component in json.loads(text)["components"]}
        assert {"onnxruntime", "readmission", "libc6"} <= names
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_promoting_again_updates_the_keys(installation: Installation, champion: int, traffic: Traffic) -> None:
    """The API then accepts a new key, and rejects a revoked one."""
    from healthpredict.storage.key_file import add_key, revoke_key

    settings = installation.settings
    version = alias(settings)
    assert version is not None
    key = add_key(settings.api_keys_path, "another")
    with nothing_fails(traffic):
        roll_out(settings, version)
    url = kubernetes_target(settings).url
    asked = httpx.get(f"{url}/model", headers={"Authorization": f"Bearer {key}"}, trust_env=False)
    assert asked.status_code == 200
    revoke_key(settings.api_keys_path, "another")
    roll_out(settings, version)
    asked = httpx.get(f"{url}/model", headers={"Authorization": f"Bearer {key}"}, trust_env=False)
    assert asked.status_code == 401
