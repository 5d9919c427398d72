"""Roll out a version, and end this process with SIGKILL at a given point: `python killed_rollout.py POINT VERSION`.

The settings come as JSON on standard input.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from healthpredict.config import Settings
from healthpredict.operations.installation import Installation
from healthpredict.operations.roll_out import roll_out
from healthpredict.registry.models import Registry
from healthpredict.rollout.deployment import LiveDeployment
from healthpredict.rollout.kubernetes import KubernetesTarget


def die(*_: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def arm(point: str) -> None:
    match point:
        case "pods are being replaced":
            LiveDeployment.wait = die  # type: ignore[method-assign]
        case "replaced, not verified":
            KubernetesTarget._verify = die  # type: ignore[method-assign]
        case "verified, not the champion":
            Registry.make_champion = die  # type: ignore[method-assign]
        case _:
            raise ValueError(point)


if __name__ == "__main__":
    arm(sys.argv[1])
    roll_out(Installation(Settings.model_validate_json(sys.stdin.read())), int(sys.argv[2]))
