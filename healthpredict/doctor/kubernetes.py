"""Rollouts to Kubernetes: the login for images, the cluster's API, and what the deployer may do there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from healthpredict.doctor.files import KUBECONFIG
from healthpredict.doctor.problem import Check, Problem
from healthpredict.doctor.set_up_command import set_up_command
from healthpredict.operations.installation import Installation
from healthpredict.rollout.ecr import ecr_login

_SHOWN: Final = 3


def kubernetes_checks(installation: Installation) -> Iterator[Check]:
    """Checks of a rollout's requirements, if rollouts go to Kubernetes."""
    if installation.settings.rollout.target == "kubernetes":
        yield Check("the login for images", partial(login_problem, installation.settings.image_repository))
        yield Check("the cluster", partial(deployer_problem, installation))


def login_problem(repository: str | None) -> Problem | None:
    """Whether there is a repository for images, and ECR gives a login for it."""
    if repository is None:
        return Problem("There is no repository for images.", "set HEALTHPREDICT_IMAGE_REPOSITORY=HOST/NAME")
    ecr_login(repository)
    return None


def deployer_problem(installation: Installation) -> Problem | None:
    """Whether the cluster responds, and the deployer may do all that a rollout does."""
    from healthpredict.operations.put_on_kubernetes import kubernetes_target, source_path
    from healthpredict.operations.set_up_cluster import ADMINISTRATOR
    from healthpredict.rollout.manifests import only_manifest, read_manifests

    target = kubernetes_target(installation)
    role = only_manifest(read_manifests(source_path(installation) / ADMINISTRATOR), "Role")
    missing = [_words(each) for each in _permissions(role, target.namespace) if not target.allows(each)]
    if not missing:
        return None
    settings = installation.settings
    kubeconfig, context = settings.kubeconfig, settings.rollout.context
    assert kubeconfig is not None and context is not None  # `kubernetes_target` needs them
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return Problem(
        f"In namespace {target.namespace}, the user of context {context!r} may not {', '.join(missing[:_SHOWN])}{more}.",
        _fix(kubeconfig, context),
    )


def _fix(kubeconfig: Path, context: str) -> str:
    """The command that renews the deployer. It runs outside the containers, where the file has another path."""
    if kubeconfig == Path(KUBECONFIG):
        return f"{set_up_command('FILE', context)}, FILE is HEALTHPREDICT_KUBECONFIG of docker-compose/.env"
    return set_up_command(shlex.quote(str(kubeconfig)), context, for_containers=False)


def _permissions(role: dict[str, Any], namespace: str) -> Iterator[dict[str, str]]:
    """Each right of the deployer's role, as the attributes of a review."""
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                name, _, subresource = resource.partition("/")
                for verb in rule["verbs"]:
                    right = {"namespace": namespace, "verb": verb, "group": group, "resource": name}
                    yield right | ({"subresource": subresource} if subresource else {})


def _words(right: dict[str, str]) -> str:
    subresource = f"/{right['subresource']}" if "subresource" in right else ""
    return f"{right['verb']} {right['resource']}{subresource}"
