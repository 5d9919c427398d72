"""Put a version into service, verify it, and record the result in the alias and the ledger."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from healthpredict.bundle.model import Bundle
from healthpredict.errors import AlreadyRunning, ConfigurationError, HealthPredictError, RolloutError, RolloutUnknown
from healthpredict.operations.installation import Installation
from healthpredict.operations.patient_key import ensure_patient_key
from healthpredict.operations.put_on_kubernetes import (
    kubernetes_target,
    only_rollout,
    put_on_kubernetes,
    serving_on_kubernetes,
    watch_on_kubernetes,
)
from healthpredict.operations.record_rollout import Rollout, record_nothing_serves, record_rollout
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.rollout.local import CandidateProcess, LocalTarget, ServingProcess
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.objects import served
from healthpredict.rollout.results import InService, PutBack, RolloutResult, Unknown
from healthpredict.storage.lock import exclusive
from healthpredict.storage.uris import read_bytes

_logger = logging.getLogger(__name__)


def roll_out(
    installation: Installation,
    version: int,
    *,
    git_ref: str | None = None,
    image: str | None = None,
    reason: str | None = None,
    forced: bool = False,
    rolled_back: bool = False,
) -> Rollout:
    """Put a version into service at the target in the settings, verify its golden rows there, and then move the alias `champion`.

    If an earlier run was interrupted, alias and ledger are repaired first, see `repair_rollout`. An interrupted rollout can be
    repeated: a version that is already in service is only verified. On Kubernetes, the version is then watched. If it fails, the
    previous one is put back.

    Args:
        installation: where models and API are.
        version: version in the registry.
        git_ref: on Kubernetes, Git ref of the code in the image; by default, the code that runs here.
        image: on Kubernetes, digest of an existing image; by default, one is built.
        reason: see `Rollout`.
        forced: see `Rollout`.
        rolled_back: see `Rollout`.

    Raises:
        RolloutError: the version is not in service. Alias and ledger name the version that is, and the ledger records the problem.
        RolloutUnknown: it could not be determined what serves. The alias was not moved, and the ledger records the problem.
        BundleError: the bundle was altered. The version in service did not change.
        AlreadyRunning: another rollout is running.
    """
    registry, ledger = installation.registry, installation.ledger
    model_version = registry.version(version)
    why = {"git_ref": git_ref, "reason": reason, "forced": forced, "rolled_back": rolled_back}
    seconds: Seconds = {}
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_one_at_a_time(installation))
            if (problem := _repair(installation)) is not None:
                # Continue: this rollout may repair the problem, and its result shows what serves.
                _logger.warning("%s", problem)
            bundle = registry.fetch_bundle(model_version)
            result, before = _put_into_service(installation, bundle, seconds, git_ref=git_ref, image=image)
        except AlreadyRunning:
            raise  # nothing was attempted
        except Exception as error:
            # The version in service did not change. Record the problem, because the caller may be a flow that nobody watches.
            promoted = ledger.last("promotion")
            champion = promoted["version"] if promoted else None
            ledger.append("rollout_failed", version=version, champion=champion, problem=str(error))
            raise
        rollout = record_rollout(installation, result, asked=version, seconds=seconds, **why)
        if isinstance(result, InService) and installation.settings.rollout.target == "kubernetes":
            result = watch_on_kubernetes(installation, result, before, rollout.seconds)
            record_rollout(installation, result, asked=version, seconds=rollout.seconds, **why)
    place = f"serves on {rollout.url}, verified" if rollout.url else "is the champion"
    log_step(f"version {version}", "rollout", sum(rollout.seconds.values()), place)
    return rollout


def repair_rollout(installation: Installation) -> str | None:
    """Determine what serves, and repair alias and ledger if an earlier run left them wrong.

    Returns:
        Why this failed. None if alias and ledger name what serves, if nothing serves, or if the settings do not name the target.
    """
    try:
        with _one_at_a_time(installation):
            return _repair(installation)
    except HealthPredictError as error:
        return str(error)


def _repair(installation: Installation) -> str | None:
    """Do what `repair_rollout` does, inside `_one_at_a_time`."""
    result: RolloutResult | None
    try:
        match installation.settings.rollout.target:
            case "process":
                result = _process_in_service(installation)
            case "kubernetes":
                result = serving_on_kubernetes(installation)
            case "none":
                result = _alias_in_service(installation)
    except ConfigurationError as error:
        _logger.info("What serves cannot be determined from here: %s", error)
        return None
    try:
        if result is None:
            record_nothing_serves(installation)
        else:
            record_rollout(installation, result, asked=None, reason="found in service after an interruption")
    except (RolloutError, RolloutUnknown) as error:
        return str(error)
    return None


def _put_into_service(
    installation: Installation, bundle: Bundle, seconds: Seconds, *, git_ref: str | None, image: str | None
) -> tuple[RolloutResult, KubernetesObject | None]:
    """Put a bundle into service.

    Returns:
        The result; and the previous ReplicaSet, which is put back if the watch finds a problem. That is None if the target is not
        Kubernetes, if there was none, or if it has the same version and image.
    """
    match installation.settings.rollout.target:
        case "process":
            with timed(seconds, "rollout"):
                return _as_process(installation, bundle), None
        case "kubernetes":
            before = kubernetes_target(installation).verified()
            result = put_on_kubernetes(installation, bundle, seconds, git_ref=git_ref, image=image)
            same = before is not None and (served(before).version, served(before).image) == (
                result.version,
                result.image,
            )
            return result, None if same else before
        case "none":
            bundle.verify()
            return InService(bundle.manifest.model_version, image=None, bundle_digest=bundle.digest, url=None), None


def _as_process(installation: Installation, bundle: Bundle) -> RolloutResult:
    target = local_target(installation)
    target.recover()
    running = target.current()
    if running is not None and running.bundle_digest == bundle.digest:
        return InService(running.model_version, image=None, bundle_digest=running.bundle_digest, url=running.url)
    ensure_patient_key(installation)
    try:
        candidate = _start_verified(target, bundle)
    except RolloutError as error:
        return _process_after(target, bundle, running, str(error))
    try:
        problem = _switch(target, candidate) or "The new process ended as soon as the old one had been stopped."
        return _process_after(target, bundle, running, problem)
    except Exception as error:  # either process may serve now
        version = bundle.manifest.model_version
        return Unknown(version, image=None, problem=f"Replacing the process failed: {type(error).__name__}: {error}")


def _start_verified(target: LocalTarget, bundle: Bundle) -> CandidateProcess:
    """Start a process beside the one that serves, and verify it. Raises: RolloutError if it fails."""
    candidate = target.start(bundle.path)
    try:
        target.verify(candidate)
    except Exception:
        target.abandon(candidate)
        raise
    return candidate


def _switch(target: LocalTarget, candidate: CandidateProcess) -> str | None:
    """Replace the process that serves. Returns: the problem, or None if there was none."""
    try:
        target.switch(candidate)
    except RolloutError as error:
        return str(error)
    return None


def _process_after(target: LocalTarget, bundle: Bundle, running: ServingProcess | None, problem: str) -> RolloutResult:
    """Determine the result of a rollout from the process that serves now.

    Args:
        target: the local API.
        bundle: the bundle that was rolled out.
        running: the process that served before, or None.
        problem: why the bundle does not serve, if it does not.
    """
    found = target.current()
    if found is not None and found.bundle_digest == bundle.digest:
        return InService(found.model_version, image=None, bundle_digest=found.bundle_digest, url=found.url)
    if found is not None:
        return PutBack(
            found.model_version, image=None, bundle_digest=found.bundle_digest, url=found.url, problem=problem
        )
    if running is None:
        return PutBack(version=None, image=None, bundle_digest=None, url=None, problem=problem)
    problem = f"{problem}\nNothing answers on {running.url} now."
    return Unknown(bundle.manifest.model_version, image=None, problem=problem)


def _process_in_service(installation: Installation) -> InService | Unknown | None:
    target = local_target(installation)
    running = target.current()
    if running is None:
        if not target.listens():
            return None
        problem = f"The API on port {installation.settings.api_port} does not answer."
        return Unknown(version=None, image=None, problem=problem)
    return InService(running.model_version, image=None, bundle_digest=running.bundle_digest, url=running.url)


def _alias_in_service(installation: Installation) -> InService | None:
    """With the target `none`, the version that the alias names counts as in service."""
    champion = installation.registry.by_alias("champion")
    if champion is None:
        return None
    return InService(champion.version, image=None, bundle_digest=champion.bundle_digest, url=None)


@contextmanager
def _one_at_a_time(installation: Installation) -> Iterator[None]:
    # Two rollouts at the same time would stop each other's candidate.
    with contextlib.ExitStack() as held:
        held.enter_context(exclusive(installation.settings.state_path / "rollout.lock", "A rollout"))
        if installation.settings.rollout.target == "kubernetes":
            held.enter_context(only_rollout(installation))
        installation.ledger.refresh()
        yield


def local_target(installation: Installation) -> LocalTarget:
    """Return the local API. It has a prediction log, and it requires API keys if the settings name a key for rollouts."""
    settings = installation.settings
    options = [f"--log={settings.prediction_log_path}", f"--patient-key={settings.patient_key_path}"]
    key = None
    if settings.api_key_path is not None:
        key = read_bytes(str(settings.api_key_path)).decode().strip()
        options.append(f"--keys={settings.api_keys_path}")
    if settings.cds_hooks_path is not None:
        options.append(f"--cds-hooks={settings.cds_hooks_path.resolve()}")
    options += settings.api_options
    return LocalTarget(settings.state_path, settings.api_host, settings.api_port, options, key)


def serving(installation: Installation) -> str | None:
    """Describe what serves, and where, or return None if nothing serves."""
    match installation.settings.rollout.target:
        case "process":
            running = local_target(installation).current()
            return f"version {running.model_version} on {running.url}" if running else None
        case "kubernetes":
            target = kubernetes_target(installation)
            found = target.verified()
            if found is None:
                return None
            return "\n".join([f"version {served(found).version} on {target.url}", *target.problems()])
        case "none":
            return None
