"""The Job that Prefect's Kubernetes worker makes of a flow run in a pool of type kubernetes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import kubernetes_validate
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.variables import Variable
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from flows.pools import KUBERNETES, POOL_NAMES, SETTINGS_VARIABLE, set_up_pools
from healthpredict.config import Settings
from healthpredict.errors import ConfigurationError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]
TRAINING, ROLLOUTS = POOL_NAMES
PARAMS = {
    "type": KUBERNETES,
    "image": "registry.example/health-predict/worker@sha256:" + "0" * 64,
    "prefect_api_url": "https://prefect.example/api",
    "tracking_uri": "https://mlflow.example",
}
SETTINGS: dict[str, Any] = {
    "data_uri": "s3://hospitals/data",
    "reports_uri": "s3://hospitals/reports",
    "work_pool": PARAMS,
}


@pytest.fixture(scope="module")
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    """Of a server on which a team has set a number of trials."""
    with get_client(sync_client=True) as client:
        Variable.set(SETTINGS_VARIABLE, {"HEALTHPREDICT_SEARCH__N_TRIALS": "20"})
        yield client


@pytest.fixture(scope="module")
def job(client: SyncPrefectClient) -> dict[str, Any]:
    """The manifest for a run, with the labels and commands of Prefect's worker."""
    set_up_pools(client, Settings(**SETTINGS))
    pool = client.read_work_pool(TRAINING)
    assert pool.type == KUBERNETES
    configuration = asyncio.run(KubernetesWorkerJobConfiguration.from_template_and_values(pool.base_job_template, {}))
    run = FlowRun(id=uuid4(), name="drift-loop of tonight", flow_id=uuid4())
    configuration.prepare_for_flow_run(run, work_pool=pool, worker_name="worker")
    manifest: dict[str, Any] = configuration.job_manifest
    return manifest


def container(job: dict[str, Any]) -> dict[str, Any]:
    (one,) = job["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = one
    return found


def test_kubernetes_accepts_it(job: dict[str, Any]) -> None:
    pod = job["spec"]["template"]["spec"]
    plain = {name: value for name, value in pod.items() if name not in ("parallelism", "completions")}
    checked = job | {"spec": job["spec"] | {"template": job["spec"]["template"] | {"spec": plain}}}
    kubernetes_validate.validate(checked, kubernetes_validate.latest_version(), strict=True)
    assert not re.search(r"\{\{", yaml.safe_dump(job)), "a placeholder is left"


def test_it_runs_the_flow_in_our_image(job: dict[str, Any]) -> None:
    assert container(job)["image"] == PARAMS["image"]
    assert container(job)["args"][0] == "prefect"
    assert job["metadata"]["namespace"] == "health-predict"
    assert job["metadata"]["generateName"] == "drift-loop-of-tonight-"


def test_it_has_the_settings_and_takes_passwords_from_a_secret(job: dict[str, Any]) -> None:
    variables = {entry["name"]: entry["value"] for entry in container(job)["env"]}
    assert variables["HEALTHPREDICT_DATA_URI"] == "s3://hospitals/data"
    assert variables["HEALTHPREDICT_TRACKING_URI"] == "https://mlflow.example"
    assert variables["HEALTHPREDICT_SEARCH__N_TRIALS"] == "20", "what a team sets"
    assert len(variables) == len(container(job)["env"])
    assert container(job)["envFrom"] == [{"secretRef": {"name": "healthpredict-jobs"}}]
    assert not [name for name in variables if "PASSWORD" in name or "AUTH" in name or "SECRET" in name]


def test_it_has_the_least_rights_and_bounded_resources(job: dict[str, Any]) -> None:
    """As the restricted profile of the Pod Security Standards demands."""
    pod = job["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert (
        pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    )
    limits = container(job)["securityContext"]
    assert limits == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    size = {"cpu": "2", "memory": "3Gi"}
    assert container(job)["resources"] == {"requests": size, "limits": size}
    assert {frozenset(volume) - {"name"} for volume in pod["volumes"]} == {
        frozenset({"emptyDir"}),
        frozenset({"persistentVolumeClaim"}),
    }
    assert job["spec"]["ttlSecondsAfterFinished"] == 86_400
    assert job["spec"]["backoffLimit"] == 0


def test_rollouts_stay_with_the_worker_that_has_the_passwords(client: SyncPrefectClient, job: dict[str, Any]) -> None:
    assert client.read_work_pool(ROLLOUTS).type == "process"


def test_the_type_of_a_pool_is_never_changed_silently(client: SyncPrefectClient, job: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"{TRAINING} is of type kubernetes.*prefect work-pool delete {TRAINING}"
    ):
        set_up_pools(client, Settings())


def test_data_in_a_folder_is_reported(client: SyncPrefectClient) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot reach the folder /data: set HEALTHPREDICT_DATA_URI to s3://"):
        set_up_pools(client, Settings(**SETTINGS | {"data_uri": "/data"}))


def test_what_pods_need_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"HEALTHPREDICT_WORK_POOL.*need image, prefect_api_url, tracking_uri"):
        Settings(work_pool={"type": KUBERNETES})


def test_the_worker_in_the_cluster_may_only_run_jobs() -> None:
    """The manifests that an administrator applies once."""
    manifests = list(yaml.safe_load_all(Path("k8s/jobs.yaml").read_text()))
    for manifest in manifests:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    kinds = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    settings = Settings(**SETTINGS).work_pool
    assert ("ServiceAccount", settings.service_account) in kinds
    assert ("PersistentVolumeClaim", settings.state_claim) in kinds
    (role,) = [manifest for manifest in manifests if manifest["kind"] == "Role"]
    writes = {
        resource
        for rule in role["rules"]
        if {"create", "delete", "patch", "update"} & set(rule["verbs"])
        for resource in rule["resources"]
    }
    assert writes == {"jobs"}
