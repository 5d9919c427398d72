"""One rollout at a time in a namespace, from whatever machine: a Lease of Kubernetes, renewed while it is held."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from healthpredict.errors import AlreadyRunning, RolloutError
from healthpredict.rollout.cluster import Cluster, Conflict
from healthpredict.rollout.manifests import KubernetesObject

_logger = logging.getLogger(__name__)
_SECONDS: Final = 30
"""After which a holder that no longer renews it, because it was killed, has lost it."""
_RENEW_EVERY_SECONDS: Final = 8.0
_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


@contextmanager
def hold(cluster: Cluster, name: str, holder: str) -> Iterator[None]:
    """Hold a lease for the time of a `with` block.

    Args:
        cluster: with its namespace.
        name: of the lease.
        holder: who holds it. The same name may take it again at once: the caller sees to it that only one uses it.

    Raises:
        AlreadyRunning: someone else holds it.
    """
    lease = _acquire(cluster, name, holder)
    ended = threading.Event()

    def renew() -> None:
        nonlocal lease
        while not ended.wait(_RENEW_EVERY_SECONDS):
            try:
                lease = cluster.replace(_held(lease, holder))
            except RolloutError as error:
                _logger.warning("The lease %s was not renewed: %s", name, error)

    renewing = threading.Thread(target=renew, name="lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        try:
            cluster.replace(_held(lease, ""))
        except RolloutError as error:
            _logger.warning("The lease %s ends by itself in %d s: %s", name, _SECONDS, error)


def _acquire(cluster: Cluster, name: str, holder: str) -> KubernetesObject:
    found = cluster.read("Lease", name)
    try:
        if found is None:
            metadata = {"name": name}
            return cluster.create(
                _held({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}, holder)
            )
        spec = found["spec"]
        ends = datetime.fromisoformat(spec["renewTime"]) + timedelta(seconds=_SECONDS)
        if spec.get("holderIdentity") not in (None, "", holder) and ends > datetime.now(UTC):
            raise AlreadyRunning("A rollout", spec["holderIdentity"])
        return cluster.replace(_held(found, holder))
    except Conflict as error:
        raise AlreadyRunning("A rollout", "started just now") from error


def _held(lease: KubernetesObject, holder: str) -> KubernetesObject:
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": _SECONDS,
        "renewTime": datetime.now(UTC).strftime(_TIME),
    }
    return {**lease, "spec": spec}
