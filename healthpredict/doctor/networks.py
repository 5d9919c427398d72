"""Networks of Docker, and whether the deploy worker reaches the cluster through them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from healthpredict.doctor.files import KUBECONFIG, NOTHING
from healthpredict.doctor.problem import Check, Problem
from healthpredict.doctor.project import DEPLOY_WORKER, ComposeProject, run


def network_checks(project: ComposeProject) -> Iterator[Check]:
    """Checks of the networks that others create, and of the way to the cluster."""
    for network in project.model.get("networks", {}).values():
        if network.get("external"):
            yield Check("networks", partial(network_problem, network["name"]))
    if project.rolls_out_to_kubernetes:
        yield Check("the way to the cluster", partial(way_to_cluster_problem, project))


def network_problem(name: str) -> Problem | None:
    """Whether a network exists."""
    if run(["docker", "network", "inspect", name]).returncode == 0:
        return None
    return Problem(
        f"The Docker network {name!r} does not exist.",
        "start the cluster that creates it (minikube start), or correct HEALTHPREDICT_KUBERNETES_NETWORK",
    )


def way_to_cluster_problem(project: ComposeProject) -> Problem | None:
    """Whether the settings of rollouts to Kubernetes are there, and the deploy worker joins the cluster's network of Docker.

    Nothing is sent to the cluster. The check in the container does that.
    """
    kubeconfig = next((m.source for m in project.mounts() if m.target == KUBECONFIG), NOTHING)
    given = project.environment(DEPLOY_WORKER)
    required = {
        "HEALTHPREDICT_KUBECONFIG": kubeconfig != NOTHING,
        "HEALTHPREDICT_ROLLOUT__CONTEXT": "HEALTHPREDICT_ROLLOUT__CONTEXT" in given,
        "HEALTHPREDICT_IMAGE_REPOSITORY": "HEALTHPREDICT_IMAGE_REPOSITORY" in given,
    }
    if missing := [name for name, there in required.items() if not there]:
        return Problem(
            f"Rollouts go to Kubernetes, but these are not set: {', '.join(missing)}.",
            "set them in docker-compose/.env; docs/operate.md shows all lines",
        )
    if not kubeconfig.is_file():
        return None  # reported as a file
    return _address_problem(project, kubeconfig, given["HEALTHPREDICT_ROLLOUT__CONTEXT"])


def _address_problem(project: ComposeProject, kubeconfig: Path, context: str) -> Problem | None:
    server = _server_of(kubeconfig, context)
    if server is None:
        return Problem(
            f"The kubeconfig {kubeconfig} has no context {context!r}.", "correct HEALTHPREDICT_ROLLOUT__CONTEXT"
        )
    host = urlsplit(server).hostname or ""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return None  # a name, which the check in the container resolves
    if address.is_loopback or address.is_unspecified:
        return Problem(
            f"The kubeconfig {kubeconfig} names {server}, which in a container is the container itself.",
            "run healthpredict cluster set-up with a kubeconfig that has the address of the node",
        )
    joined = project.networks_of(DEPLOY_WORKER)
    for name, subnets in _subnets().items():
        if name not in joined and any(address in subnet for subnet in subnets):
            return Problem(
                f"The cluster {server} is in the Docker network {name!r}, which the deploy worker does not join.",
                f"set HEALTHPREDICT_KUBERNETES_NETWORK={name} and HEALTHPREDICT_KUBERNETES_NETWORK_EXTERNAL=true in "
                "docker-compose/.env",
            )
    return None


def _server_of(kubeconfig: Path, context: str) -> str | None:
    try:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster = next(each["context"]["cluster"] for each in content["contexts"] if each["name"] == context)
        return str(next(each["cluster"]["server"] for each in content["clusters"] if each["name"] == cluster))
    except (yaml.YAMLError, StopIteration, KeyError, TypeError, UnicodeDecodeError):
        return None


def _subnets() -> dict[str, list[ipaddress.IPv4Network | ipaddress.IPv6Network]]:
    """Name and subnets of each network of the engine."""
    names = run(["docker", "network", "ls", "--quiet"]).stdout.split()
    found = json.loads(run(["docker", "network", "inspect", *names]).stdout or "[]") if names else []
    return {
        network["Name"]: [ipaddress.ip_network(each["Subnet"]) for each in network["IPAM"].get("Config") or ()]
        for network in found
    }
