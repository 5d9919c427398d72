"""Promote a version. The command, the deploy flow and the drift loop all promote through this, so none can skip the gate."""

from __future__ import annotations

import logging

from healthpredict.errors import ConfigurationError
from healthpredict.operations.governance import read_governance
from healthpredict.operations.installation import Installation
from healthpredict.operations.record_rollout import Rollout
from healthpredict.operations.roll_out import roll_out

_logger = logging.getLogger(__name__)


def promote(
    installation: Installation,
    version: int,
    *,
    force: bool = False,
    because: str | None = None,
    git_ref: str | None = None,
) -> Rollout:
    """Roll out a version, verify it, and make it the champion, if it passed the gate, or by force with a reason.

    A recalibration counts as passed: its model is that of a champion.

    Args:
        installation: where models and API are.
        version: version in the registry. The version in service may be rolled out again, for instance with other keys.
        force: promote even if it did not pass the gate, or if required texts of governance.yaml are empty.
        because: the reason, which the ledger records; required with `force`.
        git_ref: see `roll_out`.

    Raises:
        ConfigurationError: the version did not pass the gate, a reason is missing, governance.yaml cannot be read, or its required
            texts are empty and the settings reject that. Nothing was changed.
        RolloutError, RolloutUnknown, BundleError, AlreadyRunning: see `roll_out`.
    """
    if force and not (because and because.strip()):
        raise ConfigurationError("To promote a version by force, give a reason for the ledger: --because REASON.")
    ledger = installation.ledger
    gate, promoted = ledger.last("gate", version=version), ledger.last("promotion")
    recalibrated = ledger.last("recalibration", version=version) is not None
    passed = recalibrated or (gate is not None and bool(gate["promote"]))
    in_service = promoted is not None and promoted["version"] == version
    if not (passed or in_service or force):
        raise ConfigurationError(
            f"Version {version} has not passed the gate (`healthpredict trace {version}`). To promote it anyway: --force "
            "--because REASON."
        )
    rejected = not in_service and _governance_rejects(installation, version, force=force)
    forced = force and (rejected or not passed)
    return roll_out(installation, version, git_ref=git_ref, reason=because, forced=forced)


def _governance_rejects(installation: Installation, version: int, *, force: bool) -> bool:
    """Return whether required texts of governance.yaml are empty and the settings reject that. If they are empty, log a warning.

    Raises:
        ConfigurationError: the promotion is rejected and not by force, or the file cannot be read.
    """
    missing = read_governance(installation).missing
    if not missing:
        return False
    rejected = installation.settings.promotion.require_governance == "reject"
    problem = f"the model card of version {version} lacks {len(missing)} required texts of the hospital"
    if rejected and not force:
        raise ConfigurationError(
            f"Not promoted: {problem}: {', '.join(missing)}. Write them into the file at HEALTHPREDICT_GOVERNANCE_PATH "
            "(`healthpredict card --template` prints an empty one) and promote it again. To promote it anyway: --force --because "
            "REASON."
        )
    _logger.warning("Promoting although %s: `healthpredict card` lists them.", problem)
    return rejected
