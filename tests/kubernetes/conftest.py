"""A namespace of its own on a real cluster, a registry of images, and versions to roll out.

`HEALTHPREDICT_KUBECONFIG` names an administrator's kubeconfig, `HEALTHPREDICT_ROLLOUT__CONTEXT` its context where it has more than
one, and `HEALTHPREDICT_TEST_REGISTRY` the registry that engine and nodes reach under the same name. If this is a name of ECR, moto
returns its login. `HEALTHPREDICT_TEST_LOG_FOLDER` names a folder that this machine and the node have under the same path.
"""

from __future__ import annotations

import os
import ssl
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from bundles import as_records, build_tiny_bundle, draw_encounters
from pods import Node, Pod, remove_pods, start_pods
from rig import NAMESPACE, NODE_PORT, Rig, copy_source, remove, render, replace
from traffic import Requests, Traffic

from healthpredict.config import Settings
from healthpredict.operations.installation import Installation
from healthpredict.operations.put_on_kubernetes import kubernetes_target
from healthpredict.operations.roll_out import roll_out
from healthpredict.operations.set_up_cluster import set_up_cluster
from healthpredict.rollout.cluster import Cluster
from healthpredict.rollout.ecr import ecr_login
from healthpredict.storage.key_file import add_key

SHARED_FOLDER = os.environ.get("HEALTHPREDICT_TEST_LOG_FOLDER")
REGISTRY = os.environ.get("HEALTHPREDICT_TEST_REGISTRY", "")


@pytest.fixture(scope="session")
def administrator() -> tuple[Path, str]:
    """The administrator's kubeconfig and context."""
    kubeconfig = os.environ.get("HEALTHPREDICT_KUBECONFIG")
    if not kubeconfig or not Path(kubeconfig).exists():
        pytest.skip("no cluster: HEALTHPREDICT_KUBECONFIG names no kubeconfig")
    contexts = [context["name"] for context in yaml.safe_load(Path(kubeconfig).read_text())["contexts"]]
    context = os.environ.get("HEALTHPREDICT_ROLLOUT__CONTEXT") or (contexts[0] if len(contexts) == 1 else None)
    if context is None:
        pytest.skip(f"which cluster: HEALTHPREDICT_ROLLOUT__CONTEXT names none of {', '.join(contexts)}")
    return Path(kubeconfig), context


@pytest.fixture(scope="session")
def registry(moto_endpoint: str) -> Iterator[httpx.Client]:
    """A client of the image registry, which has the login and the certificate that Docker has."""
    if not REGISTRY:
        pytest.skip("no image registry: HEALTHPREDICT_TEST_REGISTRY names none that engine and nodes reach")
    certificate = Path("/etc/docker/certs.d", REGISTRY, "ca.crt")
    secure = certificate.exists()
    aws = {"ENDPOINT_URL": moto_endpoint, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in aws.items():
            environment.setenv(f"AWS_{name}", value)
        login = ecr_login(REGISTRY)
        with httpx.Client(
            base_url=f"http{'s' if secure else ''}://{REGISTRY}/v2/",
            auth=None if login is None else (login["username"], login["password"]),
            verify=ssl.create_default_context(cafile=certificate) if secure else True,
            trust_env=False,
        ) as client:
            try:
                client.get("").raise_for_status()
            except httpx.HTTPError as error:
                pytest.skip(f"no image registry answers at {REGISTRY}: {error}")
            yield client


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory, administrator: tuple[Path, str]) -> Path:
    """A copy of the source with a namespace, a port and a log folder of its own."""
    source = copy_source(tmp_path_factory.mktemp("source"))
    log = Path(SHARED_FOLDER or "/not-shared", str(uuid.uuid4()))
    for path in (source / "k8s").rglob("*.yaml"):
        text = path.read_text().replace("health-predict", NAMESPACE).replace("30080", str(NODE_PORT))
        text = text.replace(f"/var/lib/{NAMESPACE}/prediction-log", str(log))
        path.write_text(text)
    # A volume has no namespace.
    replace(
        source / "k8s/administrator/log-volume.yaml", "name: healthpredict-log\nspec", f"name: {NAMESPACE}-log\nspec"
    )
    replace(source / "k8s/base/log-claim.yaml", "volumeName: healthpredict-log", f"volumeName: {NAMESPACE}-log")
    if SHARED_FOLDER is None:
        deployment = source / "k8s/base/deployment.yaml"
        replace(deployment, "persistentVolumeClaim: {claimName: healthpredict-log}", "emptyDir: {}")
        render(source)
        return source
    render(source)
    log.mkdir(mode=0o750)
    os.chown(log, 10001, 10001)
    return source


@pytest.fixture(scope="session")
def rig(
    tmp_path_factory: pytest.TempPathFactory, source: Path, administrator: tuple[Path, str], registry: httpx.Client
) -> Iterator[Rig]:
    """A cluster that was set up. Tests leave the champion in service."""
    folder = tmp_path_factory.mktemp("installation")
    settings = Settings(
        data_uri=str(folder / "data"),
        state_path=folder / "state",
        reports_uri=str(folder / "reports"),
        kubeconfig=folder / "deployer.kubeconfig",
        image_repository=f"{REGISTRY}/{NAMESPACE}",
        source_path=source,
        rollout={
            "target": "kubernetes",
            "context": "e2e",
            "overlay": "k8s/overlays/local",
            "watch_seconds": 0,
            "p50_seconds": 1,
        },
    )
    key = add_key(settings.api_keys_path, "tests")
    cluster = Cluster(*administrator, NAMESPACE)
    volume = yaml.safe_load((source / "k8s/administrator/log-volume.yaml").read_text())
    log = Path(volume["spec"]["hostPath"]["path"])
    remove(cluster)
    set_up_cluster(Installation(settings), *administrator)

    def register() -> int:
        registry = Installation(settings).registry
        run_id = registry.open_run("test", {"trigger": str(len(registry.versions()))})
        version = registry.reserve_version(run_id)
        bundle = build_tiny_bundle(folder / f"built-{version}", model_version=version, seed=version)
        registry.complete_version(run_id, bundle, {"trigger": "test"})
        registry.close_run(run_id)
        return version

    yield Rig(settings, cluster, log if log.exists() else None, key, register)
    remove(cluster)


@pytest.fixture(scope="session")
def traffic(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    """20 requests a second through the node port, from the first rollout to the last test."""
    url = kubernetes_target(rig.installation).url
    records = [{**record, "diagnosis_coding": "ICD-9-CM"} for record in as_records(draw_encounters(50, seed=9))]
    headers = {"Authorization": f"Bearer {rig.key}"}
    traffic = Traffic(tmp_path_factory.mktemp("traffic"), f"{url}/predict", Requests(headers, records))
    yield traffic
    traffic.stop()


@pytest.fixture(scope="session")
def champion(rig: Rig, traffic: Traffic) -> int:
    """The first version, in service and under constant requests."""
    version = rig.register()
    roll_out(rig.installation, version)
    traffic.start()
    return version


@pytest.fixture(scope="session")
def pods(rig: Rig, champion: int) -> Iterator[tuple[Node, Pod]]:
    """A pod that may change the node, and an ordinary pod of another tenant."""
    remove_pods()
    yield start_pods(rig)
    remove_pods()


@pytest.fixture(scope="session")
def node(pods: tuple[Node, Pod]) -> Node:
    """The node, through a pod with its rights."""
    return pods[0]


@pytest.fixture(scope="session")
def other(pods: tuple[Node, Pod]) -> Pod:
    """A pod in another namespace."""
    return pods[1]
