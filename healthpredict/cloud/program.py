"""Run the Pulumi program, and cancel spot requests, which Pulumi does not do."""

from __future__ import annotations

import shutil
import subprocess
from typing import Final

from healthpredict.cloud.account import Stack, client, describe_instances, translated
from healthpredict.cloud.errors import CloudError
from healthpredict.errors import ConfigurationError

_OPEN_REQUESTS: Final = ["open", "active", "disabled"]


def bring_up(stack: Stack, *, confirmed: bool = False) -> None:
    """Create the stack, or change it to its configuration. Pulumi shows a preview and asks for confirmation.

    Args:
        stack: to create. Its `Pulumi.<stack>.yaml` must exist.
        confirmed: skip the question.

    Raises:
        ConfigurationError: Pulumi or the configuration is missing.
        CloudError: Pulumi failed and has printed the error.
    """
    file = stack.folder / f"Pulumi.{stack.name}.yaml"
    if not file.exists():
        raise ConfigurationError(f"There is no {file}. Copy Pulumi.example.yaml there and fill in its first lines.")
    _pulumi(stack, "stack", "select", "--create", "--secrets-provider", "passphrase", stack.name)
    _pulumi(stack, "up", "--stack", stack.name, *(["--yes"] if confirmed else []))


def take_down(stack: Stack, *, confirmed: bool = False) -> None:
    """Destroy the stack with all its data. Pulumi shows a preview and asks for confirmation.

    Args:
        stack: to destroy.
        confirmed: skip the question.

    Raises:
        ConfigurationError: Pulumi is missing.
        CloudError: Pulumi failed and has printed the error.
    """
    _find_pulumi()
    # The provider can leave a persistent spot request, with which EC2 would start the host again:
    # https://github.com/hashicorp/terraform-provider-aws/issues/38142
    cancel_spot_requests(stack)
    _pulumi(stack, "destroy", "--stack", stack.name, *(["--yes"] if confirmed else []))


def spot_requests(stack: Stack) -> list[str]:
    """List the ids of spot requests with which EC2 would start a host of the stack again."""
    hosts = {each["InstanceId"] for each in describe_instances(stack)}
    with translated("look for spot requests"):
        pages = (
            client(stack, "ec2")
            .get_paginator("describe_spot_instance_requests")
            .paginate(Filters=[{"Name": "state", "Values": _OPEN_REQUESTS}])
        )
        requests = [each for page in pages for each in page["SpotInstanceRequests"]]
    return [each["SpotInstanceRequestId"] for each in requests if each.get("InstanceId") in hosts]


def cancel_spot_requests(stack: Stack) -> list[str]:
    """Cancel the spot requests that `spot_requests` lists. The host keeps running. Returns: their ids."""
    found = spot_requests(stack)
    if found:
        with translated("cancel the spot request"):
            client(stack, "ec2").cancel_spot_instance_requests(SpotInstanceRequestIds=found)
    return found


def _find_pulumi() -> str:
    path = shutil.which("pulumi")
    if path is None:
        raise ConfigurationError("pulumi is not installed: https://www.pulumi.com/docs/install/")
    return path


def _pulumi(stack: Stack, *words: str) -> None:
    done = subprocess.run([_find_pulumi(), "--cwd", str(stack.folder), *words], check=False)
    if done.returncode:
        raise CloudError(f"`pulumi {words[0]}` failed with exit code {done.returncode}. Its output above says why.")
