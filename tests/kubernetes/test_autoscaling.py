"""The autoscaler adds pods under load and removes them after it, without a failed request."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from bundles import as_records, draw_encounters
from pods import PYTHON, Pod
from rig import NAMESPACE, Rig, alias, kubectl, wait_until
from traffic import Requests, Traffic, nothing_fails

from healthpredict.config import Settings
from healthpredict.operations.installation import Installation
from healthpredict.operations.put_on_kubernetes import kubernetes_target
from healthpredict.operations.roll_out import roll_out
from healthpredict.rollout.manifests import only_manifest, read_manifests
from healthpredict.rollout.progress import is_ready

pytestmark = pytest.mark.kubernetes
ROWS = 1000
MEASURED = 20
SOONER = ("averageUtilization: 300", "averageUtilization: 100")
CORES = 0.3
"""CPU cores that the load keeps busy in all pods together. Above 0.22, two pods exceed the target of 100 % in `SOONER`; 300 % would
need three times the load."""


@contextmanager
def load(rig: Rig, folder: Path) -> Iterator[Traffic]:
    """Batches that keep so many cores of the pods busy. As dry runs, because they would fill the log."""
    url = f"{kubernetes_target(rig.installation).url}/predict/batch"
    headers = {"Authorization": f"Bearer {rig.key}", "X-Dry-Run": "true"}
    records = [{**record, "diagnosis_coding": "ICD-9-CM"} for record in as_records(draw_encounters(50, seed=9))]
    batch = {"encounters": [*records] * (ROWS // len(records))}
    before = cpu_seconds(rig)
    for _ in range(MEASURED):
        httpx.post(url, json=batch, headers=headers, trust_env=False, timeout=30).raise_for_status()
    rate = CORES * MEASURED / (cpu_seconds(rig) - before)
    # Two, because a pod rejects a third batch at the same time.
    traffic = Traffic(folder, url, Requests(headers, [batch], per_second=rate, clients=2))
    traffic.start()
    try:
        yield traffic
    finally:
        traffic.stop()


def cpu_seconds(rig: Rig) -> float:
    """CPU time of the API's processes in all pods."""
    command = "print(sum(map(int, open('/proc/1/stat').read().rpartition(')')[2].split()[11:13])))"
    pods = filter(is_ready, rig.administrator.find("Pod", {"healthpredict/track": "stable"}))
    ticks = [int(Pod(NAMESPACE, pod["metadata"]["name"]).run(PYTHON, "-c", command).stdout) for pod in pods]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def available(rig: Rig) -> int:
    """The number of pods that serve."""
    found = rig.administrator.read("Deployment", "healthpredict-api")
    assert found is not None
    return int(found["status"].get("availableReplicas", 0))


@contextmanager
def autoscaler_of(rig: Rig, settings: Settings) -> Iterator[None]:
    """The autoscaler of these settings, for the time of a `with` block."""
    apply_autoscaler(rig, settings)
    try:
        yield
    finally:
        apply_autoscaler(rig, rig.settings)


def apply_autoscaler(rig: Rig, settings: Settings) -> None:
    assert settings.source_path is not None
    manifests = read_manifests(settings.source_path / settings.rollout.overlay)
    rig.administrator.apply(only_manifest(manifests, "HorizontalPodAutoscaler"))


def test_pods_are_added_under_load_and_removed_after_it(
    rig: Rig, champion: int, traffic: Traffic, tmp_path: Path
) -> None:
    """A version is rolled out and watched in the middle, while the number of pods changes."""
    if kubectl("get", "--raw=/apis/metrics.k8s.io/v1beta1/nodes", check=False).returncode:
        pytest.skip("the cluster has no metrics-server, so its autoscaler adds no pods")
    wait_until(lambda: kubectl("top", "pods", "--all-namespaces", check=False).returncode == 0, 60)
    alterations = {"k8s/base/autoscaler.yaml": SOONER}
    settings = rig.altered(tmp_path / "source", alterations, watch_seconds=10, watch_mean_seconds=5)
    version = rig.register()
    with autoscaler_of(rig, settings), nothing_fails(traffic) as versions:
        with load(rig, tmp_path) as batches:
            start = time.monotonic()
            wait_until(lambda: available(rig) > 2, 120)
            roll_out(Installation(settings), version)
            assert [answer for answer in batches.since(start) if answer.fault] == []
        wait_until(lambda: available(rig) == 2, 120)
    assert alias(rig.settings) == version
    assert version in versions
