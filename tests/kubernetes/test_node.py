"""A node that breaks: it loses images and room, its login expires, its folder becomes read-only, it stops, its API is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import docker
import httpx
import pytest
from pods import Node
from rig import NAMESPACE, Rig, alias, kubectl, template_hash, wait_until
from traffic import Traffic, nothing_fails

from healthpredict.errors import RolloutError, RolloutUnknown
from healthpredict.operations.put_on_kubernetes import kubernetes_target, refresh_login
from healthpredict.operations.record_rollout import last_unknown
from healthpredict.operations.roll_out import repair_rollout, roll_out
from healthpredict.operations.status import status
from healthpredict.rollout.ecr import ecr_login
from healthpredict.rollout.kubernetes import KubernetesTarget
from healthpredict.rollout.objects import served
from healthpredict.rollout.progress import is_ready

pytestmark = pytest.mark.kubernetes
STABLE = {"healthpredict/track": "stable"}
INGEST = "/var/lib/containerd/io.containerd.content.v1.content/ingest"
"""Where containerd stores a layer while it pulls it."""


def ready_pods(rig: Rig) -> list[str]:
    return [pod["metadata"]["name"] for pod in rig.administrator.find("Pod", STABLE) if is_ready(pod)]


def pod_names(rig: Rig) -> set[str]:
    """The pods that are not being deleted."""
    pods = rig.administrator.find("Pod", STABLE)
    return {pod["metadata"]["name"] for pod in pods if not pod["metadata"].get("deletionTimestamp")}


def lose_image_and_pod(rig: Rig, node: Node) -> None:
    """Delete the image in service from the node, and then one of its two pods."""
    wait_until(lambda: len(ready_pods(rig)) == 2, 30)
    found = kubernetes_target(rig.installation).verified()
    assert found is not None
    node.lose_image(served(found).image)
    kubectl(f"--namespace={NAMESPACE}", "delete", "pod", ready_pods(rig)[0], "--wait=false")
    wait_until(lambda: len(ready_pods(rig)) == 1, 10)


def test_a_pod_restarts_on_a_node_that_deleted_its_image(rig: Rig, champion: int, traffic: Traffic, node: Node) -> None:
    with nothing_fails(traffic):
        lose_image_and_pod(rig, node)
        wait_until(lambda: len(ready_pods(rig)) == 2, 60)


def test_an_expired_login_is_reported_within_a_minute_and_can_be_renewed(
    rig: Rig, champion: int, traffic: Traffic, node: Node
) -> None:
    repository = str(rig.settings.image_repository)
    if ecr_login(repository) is None:
        pytest.skip("the registry requires no login")
    kubernetes_target(rig.installation).keep_login(repository, {"username": "AWS", "password": "expired"})
    with nothing_fails(traffic):
        lose_image_and_pod(rig, node)
        wait_until(lambda: "`healthpredict cluster refresh-login`" in (status(rig.installation).serving or ""), 60)
        (waiting,) = pod_names(rig) - set(ready_pods(rig))
        assert refresh_login(rig.installation)
        assert waiting not in pod_names(rig), "it was not replaced, and the node would not retry soon"
        wait_until(lambda: len(ready_pods(rig)) == 2, 60)
    assert (
        status(rig.installation).serving
        == f"version {alias(rig.settings)} on {kubernetes_target(rig.installation).url}"
    )


def assert_rolled_back(rig: Rig, traffic: Traffic, words: str) -> None:
    """Roll out a version, which fails with these words, and leaves the version in service without a failed request."""
    before, template, version = alias(rig.settings), template_hash(rig), rig.register()
    with nothing_fails(traffic) as versions, pytest.raises(RolloutError, match=words) as caught:
        roll_out(rig.installation, version)
    assert f"Version {before} was put back and verified." in str(caught.value)
    assert (alias(rig.settings), template_hash(rig), versions) == (before, template, {before})


def test_a_full_image_store_is_reported_and_the_version_in_service_stays(
    rig: Rig, champion: int, traffic: Traffic, node: Node
) -> None:
    if not node.run_on_node("sh", "-c", f"ls -d {INGEST} || true").strip():
        pytest.skip("the node's container runtime is not containerd")
    node.run_on_node("mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", INGEST)
    try:
        assert_rolled_back(rig, traffic, "(?s)its image cannot be pulled.*no space left on device")
    finally:
        node.run_on_node("umount", INGEST)


def test_a_read_only_log_folder_is_reported_and_the_version_in_service_stays(
    rig: Rig, champion: int, traffic: Traffic, node: Node
) -> None:
    if rig.log is None:
        pytest.skip("HEALTHPREDICT_TEST_LOG_FOLDER names no folder that node and host share")
    log = str(rig.log)
    node.run_on_node("mount", "--bind", log, log)
    node.run_on_node("mount", "-o", "remount,bind,ro", log)
    try:
        words = r"(?s)crashes repeatedly.*The prediction log /var/log/healthpredict cannot be written \(Read-only file system\)"
        assert_rolled_back(rig, traffic, words)
    finally:
        node.run_on_node("umount", log)


def api_server(rig: Rig) -> str:
    """URL of the cluster's API."""
    return str(rig.administrator.address()["server"])


@contextmanager
def unreachable(rig: Rig, node: Node, seconds: float) -> Iterator[None]:
    """From outside the node, the API server is unreachable for so many seconds. The end of the block waits for them."""
    rule = f"! -i lo -p tcp --dport {urlsplit(api_server(rig)).port} -j REJECT --reject-with tcp-reset"
    script = f"iptables -I INPUT {rule}; sleep {seconds}; iptables -D INPUT {rule}"
    ends = time.monotonic() + seconds + 1
    node.run_on_node("sh", "-c", f"setsid sh -c '{script}' >/dev/null 2>&1 &")
    try:
        wait_until(lambda: not answers(rig), 5)
        yield
        assert not answers(rig), "it answered during the outage"
    finally:
        time.sleep(max(0.0, ends - time.monotonic()))
        wait_until(lambda: answers(rig), 10)


def answers(rig: Rig) -> bool:
    try:
        httpx.get(f"{api_server(rig)}/readyz", verify=False, trust_env=False, timeout=5)
    except httpx.TransportError:
        return False
    return True


def test_a_rollout_during_which_the_api_server_is_unreachable_is_unknown_and_then_repaired(
    rig: Rig, champion: int, traffic: Traffic, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, version = alias(rig.settings), rig.register()
    verify = KubernetesTarget._verify
    with nothing_fails(traffic) as versions:
        with ExitStack() as outage:

            def lose_api_server(*arguments: Any) -> None:
                outage.enter_context(unreachable(rig, node, 30))
                monkeypatch.setattr(KubernetesTarget, "_verify", verify)
                verify(*arguments)

            monkeypatch.setattr(KubernetesTarget, "_verify", lose_api_server)
            with pytest.raises(RolloutUnknown, match="did not respond"):
                roll_out(rig.installation, version)
            assert alias(rig.settings) == before
            assert (status(rig.installation).serving or "").startswith("unknown: ")
            assert repair_rollout(rig.installation) is not None
        assert repair_rollout(rig.installation) is None
    assert last_unknown(rig.installation) is None
    assert alias(rig.settings) == version
    assert versions == {before, version}
    assert [event["version"] for event in rig.installation.ledger.events("promotion")][-2:] == [before, version]


def container_of_the_node(host: str) -> Any:
    """The container that Minikube runs the node in, or None."""
    for container in docker.from_env(version="auto").containers.list():
        networks = container.attrs["NetworkSettings"]["Networks"].values()
        if host in [network["IPAddress"] for network in networks]:
            return container
    return None


def test_the_champion_responds_within_a_minute_after_the_node_was_stopped(rig: Rig, champion: int) -> None:
    """And nothing new is recorded."""
    host = urlsplit(api_server(rig)).hostname
    container = container_of_the_node(str(host))
    if container is None:
        pytest.skip(f"the node {host} is not a container of the local Docker engine")
    events, url = rig.installation.ledger.events(), kubernetes_target(rig.installation).url

    def version() -> int | None:
        try:
            headers = {"Authorization": f"Bearer {rig.key}"}
            response = httpx.get(f"{url}/model", headers=headers, trust_env=False, timeout=2)
        except httpx.TransportError:
            return None
        found: int | None = response.json()["model_version"] if response.status_code == httpx.codes.OK else None
        return found

    assert version() == alias(rig.settings)
    container.stop(timeout=30)
    try:
        assert version() is None
    finally:
        container.start()
    wait_until(lambda: version() == alias(rig.settings), 60)
    wait_until(lambda: answers(rig), 60)
    wait_until(lambda: len(ready_pods(rig)) == 2, 60)
    assert repair_rollout(rig.installation) is None
    assert rig.installation.ledger.events() == events
