"""`k8s/set-up-cluster`, which the AWS host runs, does what `healthpredict cluster set-up` does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from rig import NAMESPACE, ROOT, Rig

from healthpredict.errors import RolloutError
from healthpredict.rollout.cluster import Cluster

pytestmark = pytest.mark.kubernetes
SCRIPT = ROOT / "k8s/set-up-cluster"


def test_the_deployer_of_the_host_has_rights_to_its_namespace_only(
    rig: Rig, administrator: tuple[Path, str], tmp_path: Path
) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not there")
    kubeconfig = yaml.safe_load(administrator[0].read_text())
    (context,) = [context for context in kubeconfig["contexts"] if context["name"] == administrator[1]]
    context["name"] = "minikube"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    assert rig.settings.source_path is not None
    (tmp_path / "source").symlink_to(rig.settings.source_path)
    script = tmp_path / "set-up-cluster"
    script.write_text(SCRIPT.read_text().replace("health-predict", NAMESPACE))
    for _ in range(2):  # it is safe to repeat
        subprocess.run(["bash", str(script)], cwd=tmp_path, check=True, capture_output=True)
    deployer = tmp_path / "deployer-kubeconfig"
    assert Cluster(deployer, "minikube", NAMESPACE).find("Secret")
    with pytest.raises(RolloutError, match="forbidden"):
        Cluster(deployer, "minikube", "default").find("Secret")
    assert {path.name for path in tmp_path.iterdir()} == {"kubeconfig", "source", "set-up-cluster", deployer.name}
