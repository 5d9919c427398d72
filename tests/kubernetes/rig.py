"""A copy of the source that tests may alter, and an installation that rolls it out."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from healthpredict.config import Settings
from healthpredict.operations.installation import Installation
from healthpredict.operations.put_on_kubernetes import kubernetes_target
from healthpredict.rollout.cluster import Cluster
from healthpredict.rollout.manifests import RENDERED

ROOT = Path(__file__).parents[2]
NAMESPACE = "health-predict-e2e"
NODE_PORT = 30180

Alter = dict[str, tuple[str, str]]
"""The text to replace, and its replacement, by file."""

DEPLOYMENT = "k8s/base/deployment.yaml"
CRASHES: Alter = {"k8s/base/arguments": ("--port=8080", "--port=8080\n--no-such-option")}
OTHER_RISKS: Alter = {
    "healthpredict/serving/predictions.py": (
        "classified(bundle, bundle.risk(record))",
        "classified(bundle, bundle.risk(record) + 1e-4)",
    )
}
LITTLE_MEMORY: Alter = {
    DEPLOYMENT: (
        'memory: 128Mi}\n            limits: {cpu: "1", memory: 384Mi}',
        'memory: 16Mi}\n            limits: {cpu: "1", memory: 24Mi}',
    )
}
NEVER_READY: Alter = {DEPLOYMENT: ("path: /health/ready, port: http", "path: /nothing, port: http")}
ALTERATIONS = (CRASHES, OTHER_RISKS, LITTLE_MEMORY, NEVER_READY)


def copy_source(folder: Path) -> Path:
    """Copy the code that images are built from, and the Kubernetes manifests."""
    for name in ("healthpredict", "k8s"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("docker-compose/Dockerfile.serving", "requirements.serving.lock"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new))


def render(source: Path) -> None:
    """Render the Kubernetes manifests of a source again, as `make manifests` does."""
    for folder in (source / "k8s/administrator", source / "k8s/overlays/local", source / "k8s/overlays/minikube"):
        done = subprocess.run(["kubectl", "kustomize", str(folder)], check=True, capture_output=True)
        (folder / RENDERED).write_bytes(done.stdout)


@dataclass(frozen=True)
class Rig:
    """An installation on the cluster, with what tests do to it. The log is None if only the node has its folder."""

    settings: Settings
    administrator: Cluster
    log: Path | None
    key: str
    register: Callable[[], int]

    @property
    def installation(self) -> Installation:
        """A newly opened one, which sees what others have written."""
        return Installation(self.settings)

    def altered(self, folder: Path, alterations: Alter, **params: Any) -> Settings:
        """Settings with an altered copy of the source and other rollout parameters."""
        assert self.settings.source_path is not None
        shutil.copytree(self.settings.source_path, folder)
        for name, (old, new) in alterations.items():
            replace(folder / name, old, new)
        render(folder)
        rollout = self.settings.rollout.model_copy(update=params)
        return self.settings.model_copy(update={"source_path": folder, "rollout": rollout})


def remove(cluster: Cluster) -> None:
    """Delete the namespace and the volume, and wait until they are gone."""
    for kind, name in (("Namespace", NAMESPACE), ("PersistentVolume", f"{NAMESPACE}-log")):
        cluster.delete(kind, name)
    while cluster.read("Namespace", NAMESPACE) or cluster.read("PersistentVolume", f"{NAMESPACE}-log"):
        time.sleep(0.3)


def kubectl(*arguments: str, given: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run kubectl as the administrator. Args: given, on standard input."""
    context = os.environ.get("HEALTHPREDICT_ROLLOUT__CONTEXT")
    options = [f"--kubeconfig={os.environ['HEALTHPREDICT_KUBECONFIG']}", *([f"--context={context}"] if context else [])]
    return subprocess.run(
        ["kubectl", *options, *arguments], input=given, capture_output=True, text=True, check=check, timeout=120
    )


def wait_until(condition: Callable[[], object], seconds: float) -> float:
    """Wait until a condition holds, and fail if it takes longer. Returns: the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"not within {seconds:.0f} s: {condition}"
        time.sleep(0.5)
    return time.monotonic() - start


def alias(settings: Settings) -> int | None:
    found = Installation(settings).registry.by_alias("champion")
    return found.version if found else None


def template_hash(rig: Rig) -> str:
    replica_set = kubernetes_target(rig.installation).verified()
    assert replica_set is not None
    return str(replica_set["metadata"]["labels"]["pod-template-hash"])
