"""What a cluster offers and enforces: valid manifests, restricted pods, network policies, evictions, metrics."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from bundles import build_tiny_bundle
from moto.server import ThreadedMotoServer
from pods import PYTHON, Node, Pod
from rig import NAMESPACE, Rig, alias, kubectl, wait_until
from traffic import Traffic, nothing_fails

from healthpredict.operations.put_on_kubernetes import kubernetes_target
from healthpredict.operations.roll_out import roll_out
from healthpredict.operations.status import status
from healthpredict.rollout.manifests import KubernetesObject, only_manifest, read_manifests
from healthpredict.rollout.objects import canary_of, objects_to_apply, pull_secret
from healthpredict.rollout.progress import is_complete, is_ready

pytestmark = pytest.mark.kubernetes
API = "healthpredict-api"
METADATA = "169.254.169.254"
STABLE = {"healthpredict/track": "stable"}


def dry_run(*manifests: KubernetesObject) -> subprocess.CompletedProcess[str]:
    """Let the API server check manifests as if they were applied. Unknown fields and warnings are errors."""
    options = ["--server-side", "--force-conflicts", "--field-manager=healthpredict", "--dry-run=server"]
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    return kubectl(
        "apply", *options, "--validate=strict", "--warnings-as-errors", "--filename=-", given=given, check=False
    )


@pytest.mark.parametrize("overlay", ["minikube", "local"])
def test_the_api_server_accepts_all_manifests_without_a_warning(
    overlay: str, rig: Rig, champion: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert rig.settings.source_path is not None
    k8s = rig.settings.source_path / "k8s"
    bundle = build_tiny_bundle(tmp_path_factory.mktemp("bundle") / "one")
    applied = objects_to_apply(read_manifests(k8s / "overlays" / overlay), bundle, "registry/image", {"keys": b""})
    login = pull_secret("registry/image", {"username": "u", "password": "p"})
    login["metadata"]["namespace"] = NAMESPACE
    every = [*read_manifests(k8s / "administrator"), *applied, canary_of(only_manifest(applied, "Deployment")), login]
    done = dry_run(*every)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(every)


def test_the_api_server_reports_unknown_fields_and_deprecated_kinds(rig: Rig, champion: int) -> None:
    metadata = {"name": "checked", "namespace": NAMESPACE}
    misspelt = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringdata": {}}
    deprecated = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": []}
    assert "stringdata" in dry_run(misspelt).stderr
    assert "deprecated" in dry_run(deprecated).stderr


def test_the_namespace_admits_only_restricted_pods(rig: Rig, champion: int) -> None:
    """The pods of the API are restricted; the same pod on the host's network is refused."""
    (pod, *_) = rig.administrator.find("Pod", STABLE)
    metadata = {"name": "checked", "namespace": NAMESPACE}
    # The volume of the token and the node are the API server's own additions to a running pod.
    spec = {name: value for name, value in pod["spec"].items() if name != "nodeName"}
    restricted = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    assert dry_run(restricted).returncode == 0
    on_host_network = {**restricted, "spec": {**spec, "hostNetwork": True}}
    assert 'violates PodSecurity "restricted' in dry_run(on_host_network).stderr


@pytest.fixture
def store(rig: Rig) -> Iterator[tuple[str, int]]:
    """A store on this machine, at the address that the cluster reaches."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as towards:
        towards.connect((api_address()[0], 9))
        address = towards.getsockname()[0]
    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


def api_address() -> tuple[str, int]:
    """Host and port of the cluster's API, as pods reach them."""
    (endpoints,) = json.loads(
        kubectl(
            "get",
            "endpointslices",
            "--namespace=default",
            "--selector=kubernetes.io/service-name=kubernetes",
            "--output=json",
        ).stdout
    )["items"]
    return endpoints["endpoints"][0]["addresses"][0], endpoints["ports"][0]["port"]


@contextmanager
def metadata_service(node: Node) -> Iterator[None]:
    """Something that listens on the metadata address, on the node."""
    node.run_on_node("ip", "address", "add", f"{METADATA}/32", "dev", "lo")
    serve = f"""
import subprocess, sys
server = [sys.executable, "-m", "http.server", "80", "--bind={METADATA}"]
subprocess.Popen(server, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""
    try:
        node.run(PYTHON, "-c", serve)
        wait_until(lambda: node.reaches(METADATA, 80), 10)
        yield
    finally:
        node.run_on_node("pkill", "-f", f"http.server 80 --bind={METADATA}", check=False)
        node.run_on_node("ip", "address", "delete", f"{METADATA}/32", "dev", "lo")


def test_a_pod_of_the_api_opens_no_connection(
    rig: Rig, champion: int, node: Node, other: Pod, store: tuple[str, int]
) -> None:
    """Neither to the store, nor to the metadata of the host, nor to the API server; another pod reaches all of them."""
    (name, *_) = [pod["metadata"]["name"] for pod in rig.administrator.find("Pod", STABLE) if is_ready(pod)]
    api = Pod(NAMESPACE, name)
    targets = {"store": store, "metadata": (METADATA, 80), "API server": api_address()}
    with metadata_service(node):
        assert {target for target, address in targets.items() if other.reaches(*address)} == set(targets)
        assert {target for target, address in targets.items() if api.reaches(*address)} == set()
    assert api.reaches("127.0.0.1", 8080), "the command itself does not work in this pod"


def test_a_pod_of_another_namespace_does_not_reach_the_api(rig: Rig, champion: int, other: Pod) -> None:
    """Neither directly, nor through the Service, nor through the node port. Callers outside the cluster reach its metrics."""
    pod = next(filter(is_ready, rig.administrator.find("Pod", STABLE)))
    service = rig.administrator.read("Service", API)
    assert service is not None
    url = httpx.URL(kubernetes_target(rig.installation).url)
    ways = [(pod["status"]["podIP"], 8080), (service["spec"]["clusterIP"], 80), (url.host, url.port or 80)]
    assert [way for way in ways if other.reaches(*way)] == []
    response = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {rig.key}"}, trust_env=False)
    assert "healthpredict_requests_total" in response.text
    assert other.reaches(*api_address())


@contextmanager
def second_node() -> Iterator[str]:
    """A node that takes pods and never runs them, because it has no kubelet."""
    name = "second"
    labels = {"kubernetes.io/hostname": name}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    room = {"cpu": "2", "memory": "4Gi", "pods": "10"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "for a test"}
    kubectl("create", "--filename=-", given=json.dumps(node))
    try:
        patch = json.dumps({"status": {"conditions": [ready], "capacity": room, "allocatable": room}})
        kubectl("patch", "node", name, "--subresource=status", "--type=merge", f"--patch={patch}")
        kubectl("taint", "node", name, "node.kubernetes.io/not-ready-", check=False)
        yield name
    finally:
        kubectl("delete", "node", name)


def evict(pod: str, *, only_ask: bool = False) -> str:
    """Evict a pod, as `kubectl drain` does, or only ask for it. Returns: why it was refused, or an empty string."""
    eviction: dict[str, Any] = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": NAMESPACE},
    }
    if only_ask:
        eviction["deleteOptions"] = {"dryRun": ["All"]}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    return kubectl("create", f"--raw={path}", "--filename=-", given=json.dumps(eviction), check=False).stderr


def running(rig: Rig) -> list[KubernetesObject]:
    return [pod for pod in rig.administrator.find("Pod", STABLE) if not pod["metadata"].get("deletionTimestamp")]


def is_settled(rig: Rig) -> bool:
    deployment = rig.administrator.read("Deployment", API)
    return deployment is not None and is_complete(deployment)


def test_a_node_is_drained_one_pod_after_the_other(rig: Rig, champion: int, traffic: Traffic) -> None:
    """The replacement of the first pod goes to another node. Until it is ready, the second pod stays."""
    wait_until(lambda: is_settled(rig), 30)
    first, second = (pod["metadata"]["name"] for pod in running(rig))
    with nothing_fails(traffic), second_node() as name:
        assert evict(first) == ""
        wait_until(lambda: [pod["spec"].get("nodeName") for pod in running(rig)].count(name) == 1, 20)
        assert "violate the pod's disruption budget" in evict(second)
    # Nothing runs on that node, so nothing would ever confirm that the pod ended.
    for pod in running(rig):
        if pod["spec"].get("nodeName") == name:
            kubectl(f"--namespace={NAMESPACE}", "delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    wait_until(lambda: is_settled(rig), 60)


def test_a_single_pod_does_not_block_a_drain(rig: Rig, champion: int) -> None:
    """It is evicted, and the API is away until the replacement is ready."""
    limits = kubectl(
        f"--namespace={NAMESPACE}", "get", "hpa", API, "--output=jsonpath={.spec.minReplicas} {.spec.maxReplicas}"
    ).stdout.split()
    limit_replicas("1", "1")
    try:
        kubectl(f"--namespace={NAMESPACE}", "scale", "deployment", API, "--replicas=1")
        wait_until(lambda: len(running(rig)) == 1 and is_settled(rig), 30)
        wait_until(lambda: evict(running(rig)[0]["metadata"]["name"], only_ask=True) == "", 10)
    finally:
        limit_replicas(*limits)
    wait_until(lambda: len(running(rig)) == int(limits[0]) and is_settled(rig), 60)


def limit_replicas(least: str, most: str) -> None:
    patch = json.dumps({"spec": {"minReplicas": int(least), "maxReplicas": int(most)}})
    kubectl(f"--namespace={NAMESPACE}", "patch", "hpa", API, f"--patch={patch}")


@contextmanager
def no_metrics() -> Iterator[None]:
    """Stop metrics-server, if there is one."""
    server = ["deployment/metrics-server", "--namespace=kube-system"]
    had = kubectl("get", *server, check=False).returncode == 0
    if had:
        kubectl("scale", *server, "--replicas=0")
    try:
        wait_until(lambda: kubectl("get", "--raw=/apis/metrics.k8s.io/v1beta1", check=False).returncode != 0, 30)
        yield
    finally:
        if had:
            kubectl("scale", *server, "--replicas=1")


def test_without_metrics_server_a_rollout_succeeds_and_the_status_reports_it(
    rig: Rig, champion: int, traffic: Traffic
) -> None:
    version = rig.register()
    with nothing_fails(traffic), no_metrics():
        roll_out(rig.installation, version)
        wait_until(lambda: "Does metrics-server run?" in (status(rig.installation).serving or ""), 60)
    assert alias(rig.settings) == version
    assert len(running(rig)) == 2
