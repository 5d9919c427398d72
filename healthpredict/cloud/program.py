"""Run the Pulumi program."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Final

from healthpredict.cloud.account import Stack
from healthpredict.cloud.errors import CloudError
from healthpredict.cloud.leftovers import find_leftovers
from healthpredict.cloud.spot import cancel_spot_requests
from healthpredict.errors import ConfigurationError

_KEPT: Final = {"bucket": "aws:s3/bucket:Bucket", "repository": "aws:ecr/repository:Repository"}
"""What `keepData` leaves behind, with its type in Pulumi."""


def bring_up(stack: Stack, *, confirmed: bool = False) -> None:
    """Create the stack, or change it to its configuration. Pulumi shows a preview and asks for confirmation.

    Args:
        stack: to create. Its `Pulumi.<stack>.yaml` must exist.
        confirmed: skip the question.

    Raises:
        ConfigurationError: Pulumi or the configuration is missing, or an earlier stack kept bucket and images.
        CloudError: Pulumi failed and has printed the error.
    """
    file = stack.folder / f"Pulumi.{stack.name}.yaml"
    if not file.exists():
        raise ConfigurationError(f"There is no {file}. Copy Pulumi.example.yaml there and fill in its first lines.")
    _pulumi(stack, "stack", "select", "--create", "--secrets-provider", "passphrase", stack.name)
    # Not the commented line of the example.
    if not re.search(r"^\s*['\"]?health-predict:adoptBucket", file.read_text(), re.MULTILINE):
        _reject_kept(stack)
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


def _find_pulumi() -> str:
    path = shutil.which("pulumi")
    if path is None:
        raise ConfigurationError("pulumi is not installed: https://www.pulumi.com/docs/install/")
    return path


def _reject_kept(stack: Stack) -> None:
    """Raise if an earlier stack kept a bucket or a repository: `pulumi up` would stop midway or create a second bucket."""
    exported = subprocess.run(
        [_find_pulumi(), "--cwd", str(stack.folder), "stack", "export", "--stack", stack.name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if exported.returncode:
        raise CloudError(f"`pulumi stack export` failed: {exported.stderr.strip()}")
    resources = json.loads(exported.stdout)["deployment"].get("resources", [])
    own = {each["type"] for each in resources}
    kept = {each.kind: each.name for each in find_leftovers(stack, _KEPT) if _KEPT[each.kind] not in own}
    if not kept:
        return
    found = " and ".join(f"{kind} {name}" for kind, name in kept.items())
    advice = (
        f"To use them again, run: pulumi config set adoptBucket {kept['bucket']}"
        if kept.keys() == _KEPT.keys()
        else "Delete it, or create the other one again: only both can be adopted"
    )
    raise ConfigurationError(f"An earlier stack left the {found}. {advice}. docs/aws.md says more.")


def _pulumi(stack: Stack, *words: str) -> None:
    done = subprocess.run([_find_pulumi(), "--cwd", str(stack.folder), *words], check=False)
    if done.returncode:
        raise CloudError(f"`pulumi {words[0]}` failed with exit code {done.returncode}. Its output above says why.")
