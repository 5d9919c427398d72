"""Put a version into service, verify it, and record the result in alias and ledger."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from healthpredict.bundle.model import Bundle
from healthpredict.config import Settings
from healthpredict.errors import AlreadyRunning, ConfigurationError, HealthPredictError, RolloutError, RolloutUnknown
from healthpredict.operations.context import Seconds, log_step, open_ledger, open_registry, timed
from healthpredict.operations.patient_key import ensure_patient_key
from healthpredict.operations.put_on_kubernetes import (
    alone,
    find_out_on_kubernetes,
    kubernetes_target,
    put_on_kubernetes,
    watch_on_kubernetes,
)
from healthpredict.operations.record_rollout import Rollout, record_nothing_serves, record_rollout
from healthpredict.rollout.local import LocalTarget, ServingProcess
from healthpredict.rollout.manifests import KubernetesObject
from healthpredict.rollout.objects import served
from healthpredict.rollout.results import InService, PutBack, RolloutResult, Unknown
from healthpredict.storage.lock import exclusive
from healthpredict.storage.uris import read_bytes

_logger = logging.getLogger(__name__)


def roll_out(
    settings: Settings,
    version: int,
    *,
    git_ref: str | None = None,
    image: str | None = None,
    reason: str | None = None,
    forced: bool = False,
    rolled_back: bool = False,
) -> Rollout:
    """Put a version where `rollout.target` says, check its golden rows there, and move the alias `champion`, in this order.

    If an earlier run was interrupted, alias and ledger are repaired first, see `settle`. A rollout that was interrupted can be
    repeated: a version that is in service already is only verified. On Kubernetes, the version is then watched; if it fails, the
    previous one is put back.

    Args:
        settings: where the API is.
        version: of the registry.
        git_ref: of the code in the image; None for the code that runs here. On Kubernetes only.
        image: that was built before, by digest; None to build one. On Kubernetes only.
        reason: see `Rollout`.
        forced: see `Rollout`.
        rolled_back: see `Rollout`.

    Raises:
        RolloutError: the version is not in service. The previous one is; alias and ledger name it, and the ledger says why.
        RolloutUnknown: it could not be determined what serves. The alias was not moved, and the ledger records the problem.
        BundleError: the bundle was altered; nothing was touched.
        AlreadyRunning: another rollout is going on.
    """
    registry = open_registry(settings)
    model_version = registry.version(version)
    why = {"git_ref": git_ref, "reason": reason, "forced": forced, "rolled_back": rolled_back}
    seconds: Seconds = {}
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_one_at_a_time(settings))
            if (problem := _settle(settings)) is not None:
                # Go on, because this rollout may repair the problem, and its result shows what serves.
                _logger.warning("%s", problem)
            bundle = registry.fetch_bundle(model_version)
            result, before = _put_into_service(settings, bundle, seconds, git_ref=git_ref, image=image)
        except AlreadyRunning:
            raise  # nothing was tried
        except Exception as error:
            # What serves was not touched. The ledger tells the operator, because the caller may be a flow that nobody watches.
            promoted = open_ledger(settings).last("promotion")
            champion = promoted["version"] if promoted else None
            open_ledger(settings).append("rollout_failed", version=version, champion=champion, problem=str(error))
            raise
        rollout = record_rollout(settings, result, asked=version, seconds=seconds, **why)
        assert rollout is not None, "a result without a version raises"
        if isinstance(result, InService) and settings.rollout.target == "kubernetes":
            result = watch_on_kubernetes(settings, result, before, rollout.seconds)
            record_rollout(settings, result, asked=version, seconds=rollout.seconds, **why)
    place = f"serves on {rollout.url}, verified" if rollout.url else "is the champion"
    log_step(f"version {version}", "rollout", sum(rollout.seconds.values()), place)
    return rollout


def settle(settings: Settings) -> str | None:
    """Determine what serves, and repair alias and ledger if an earlier run left them wrong.

    Returns:
        Why this failed; None if alias and ledger name what serves, or nothing serves.
    """
    try:
        with _one_at_a_time(settings):
            return _settle(settings)
    except HealthPredictError as error:
        return str(error)


def _settle(settings: Settings) -> str | None:
    result: RolloutResult | None
    try:
        match settings.rollout.target:
            case "process":
                result = _process_in_service(settings)
            case "kubernetes":
                result = find_out_on_kubernetes(settings)
            case "none":
                result = _alias_in_service(settings)
    except ConfigurationError as error:
        _logger.info("What serves cannot be determined from here: %s", error)
        return None
    try:
        if result is None:
            record_nothing_serves(settings)
        else:
            record_rollout(settings, result, asked=None, reason="found in service after an interruption")
    except (RolloutError, RolloutUnknown) as error:
        return str(error)
    return None


def _put_into_service(
    settings: Settings, bundle: Bundle, seconds: Seconds, *, git_ref: str | None, image: str | None
) -> tuple[RolloutResult, KubernetesObject | None]:
    """Put a bundle into service.

    Returns:
        The result; and on Kubernetes, the template to go back to if the watch shows a fault, or None if it is the same.
    """
    match settings.rollout.target:
        case "process":
            with timed(seconds, "rollout"):
                return _as_process(settings, bundle), None
        case "kubernetes":
            before = kubernetes_target(settings).verified()
            result = put_on_kubernetes(settings, bundle, seconds, git_ref=git_ref, image=image)
            same = before is not None and (served(before).version, served(before).image) == (
                result.version,
                result.image,
            )
            return result, None if same else before
        case "none":
            bundle.verify()
            return InService(bundle.manifest.model_version, None, bundle.digest, None), None


def _as_process(settings: Settings, bundle: Bundle) -> RolloutResult:
    target = local_target(settings)
    target.recover()
    running = target.current()
    if running is not None and running.bundle_digest == bundle.digest:
        return InService(running.model_version, None, running.bundle_digest, running.url)
    ensure_patient_key(settings)
    try:
        candidate = target.start(bundle.path)
        try:
            target.verify(candidate)
        except Exception:
            target.abandon(candidate)
            raise
    except RolloutError as error:
        return _process_after(target, bundle, running, str(error))
    try:
        try:
            target.switch(candidate)
            problem = "The new process ended as soon as the old one had been stopped."
        except RolloutError as error:
            problem = str(error)
        return _process_after(target, bundle, running, problem)
    except Exception as error:  # of any class: either process may serve now
        version = bundle.manifest.model_version
        return Unknown(version, None, f"Replacing the process failed: {type(error).__name__}: {error}")


def _process_after(target: LocalTarget, bundle: Bundle, running: ServingProcess | None, problem: str) -> RolloutResult:
    """The result of a rollout: the process table shows what serves.

    Args:
        target: the local API.
        bundle: that was rolled out.
        running: what served before.
        problem: what went wrong if the bundle does not serve.
    """
    found = target.current()
    if found is not None and found.bundle_digest == bundle.digest:
        return InService(found.model_version, None, found.bundle_digest, found.url)
    if found is not None:
        return PutBack(found.model_version, None, found.bundle_digest, found.url, problem)
    if running is None:
        return PutBack(None, None, None, None, problem)
    return Unknown(bundle.manifest.model_version, None, f"{problem}\nNothing answers on {running.url} now.")


def _process_in_service(settings: Settings) -> InService | Unknown | None:
    target = local_target(settings)
    running = target.current()
    if running is None:
        return (
            Unknown(None, None, f"The API on port {settings.api_port} does not answer.") if target.listens() else None
        )
    return InService(running.model_version, None, running.bundle_digest, running.url)


def _alias_in_service(settings: Settings) -> InService | None:
    """With the target `none`, the version that the alias names counts as in service."""
    champion = open_registry(settings).by_alias("champion")
    return None if champion is None else InService(champion.version, None, champion.bundle_digest, None)


@contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    # Two rollouts at once would end each other's candidate.
    with exclusive(settings.state_path / "rollout.lock", "A rollout"):
        if settings.rollout.target == "kubernetes":
            with alone(settings):
                yield
        else:
            yield


def local_target(settings: Settings) -> LocalTarget:
    """The local API of these settings, with a prediction log, and with API keys if the settings name a key."""
    options = [f"--log={settings.prediction_log_path}", f"--patient-key={settings.patient_key_path}"]
    key = None
    if settings.api_key_path is not None:
        key = read_bytes(str(settings.api_key_path)).decode().strip()
        options.append(f"--keys={settings.api_keys_path}")
    return LocalTarget(settings.state_path, settings.api_host, settings.api_port, options, key)


def serving(settings: Settings) -> str | None:
    """Describe what serves, and where, for people; None if nothing serves."""
    match settings.rollout.target:
        case "process":
            running = local_target(settings).current()
            return f"version {running.model_version} on {running.url}" if running else None
        case "kubernetes":
            target = kubernetes_target(settings)
            found = target.verified()
            return f"version {served(found).version} on {target.url}" if found else None
        case "none":
            return None
