"""Two pods in a namespace of their own: an ordinary pod of another tenant, and one that may change the node."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass

from rig import NAMESPACE, Rig, kubectl

from healthpredict.operations.put_on_kubernetes import kubernetes_target
from healthpredict.rollout.objects import PULL, served

OTHERS = f"{NAMESPACE}-others"
PYTHON = "/opt/healthpredict/bin/python"
"""In the API's image, which may have no shell."""
_SLEEP = [PYTHON, "-c", "import time; time.sleep(1e6)"]
_ON_THE_NODE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.chdir("/")
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Runs a command with the node's files instead of the pod's."""
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"


@dataclass(frozen=True)
class Pod:
    """A running pod."""

    namespace: str
    name: str

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in its container."""
        return kubectl(f"--namespace={self.namespace}", "exec", self.name, "--", *command, check=check)

    def reaches(self, host: str, port: int) -> bool:
        """Whether it can open a connection."""
        return self.run(PYTHON, "-c", _CONNECT, host, str(port), check=False).returncode == 0


class Node(Pod):
    """The node, through a pod with its rights."""

    def run_on_node(self, *command: str, check: bool = True) -> str:
        """Run a command on the node. Returns: its output."""
        return self.run(PYTHON, "-c", _ON_THE_NODE, *command, check=check).stdout

    def has(self, command: str) -> bool:
        """Whether the node has a command."""
        return bool(self.run_on_node("sh", "-c", f"command -v {command} || true").strip())

    def lose_image(self, reference: str) -> None:
        """Delete an image, as the node's garbage collection does."""
        if self.has("crictl"):
            self.run_on_node("crictl", "rmi", reference)
            return
        lines = self.run_on_node("ctr", "--namespace=k8s.io", "images", "list").splitlines()
        (digest,) = {line.split()[2] for line in lines if line.split()[0] == reference}
        self.run_on_node(
            "ctr", "--namespace=k8s.io", "images", "remove", *(line.split()[0] for line in lines if digest in line)
        )


def start_pods(rig: Rig) -> tuple[Node, Pod]:
    """Start both from the image of the version in service, and wait until they run."""
    before = kubernetes_target(rig.installation).verified()
    assert before is not None
    image = served(before).image
    kubectl("create", "namespace", OTHERS)
    pull = rig.administrator.read("Secret", PULL)
    pulls = [] if pull is None else [{**pull, "metadata": {"name": PULL, "namespace": OTHERS}}]
    node = {
        "runAsUser": 0,
        "seccompProfile": {"type": "Unconfined"},
        "capabilities": {"add": ["SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE", "NET_ADMIN", "KILL"]},
    }
    pods = [
        _pod("node", image, {"hostPID": True, "hostNetwork": True}, node),
        _pod("other", image, {}, {}),
    ]
    kubectl("apply", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*pulls, *pods]}))
    kubectl(f"--namespace={OTHERS}", "wait", "--for=condition=Ready", "pod/node", "pod/other", "--timeout=60s")
    return Node(OTHERS, "node"), Pod(OTHERS, "other")


def _pod(name: str, image: str, options: dict[str, bool], security: dict[str, object]) -> dict[str, object]:
    container = {"name": name, "image": image, "command": _SLEEP, "securityContext": security}
    spec = {"containers": [container], "imagePullSecrets": [{"name": PULL}], "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": OTHERS},
        "spec": spec | options,
    }


def remove_pods() -> None:
    """Delete the namespace with both pods."""
    kubectl("delete", "namespace", OTHERS, "--ignore-not-found", "--timeout=60s")
