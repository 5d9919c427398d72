"""A Kubernetes Lease, so that only one machine at a time rolls out to a namespace."""

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
_LEASE_SECONDS: Final = 30
"""A holder that does not renew the lease in this time loses it."""
_RENEW_EVERY_SECONDS: Final = 8.0
_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


@contextmanager
def hold(cluster: Cluster, name: str, holder: str) -> Iterator[None]:
    """Hold a lease for the time of a `with` block.

    Args:
        cluster: of the lease.
        name: of the lease.
        holder: name of this holder. A lease with the same holder is taken over without waiting, so only one process at a time
            may use the name.

    Raises:
        AlreadyRunning: another holder has it.
    """
    lease = _acquire(cluster, name, holder)
    ended = threading.Event()

    def renew() -> None:
        nonlocal lease
        while not ended.wait(_RENEW_EVERY_SECONDS):
            try:
                lease = cluster.replace(_with_holder(lease, holder))
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
            cluster.replace(_with_holder(lease, ""))
        except RolloutError as error:
            _logger.warning("The lease %s was not released and expires in %d s: %s", name, _LEASE_SECONDS, error)


def _acquire(cluster: Cluster, name: str, holder: str) -> KubernetesObject:
    found = cluster.read("Lease", name)
    try:
        if found is None:
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
            return cluster.create(_with_holder(lease, holder))
        spec = found["spec"]
        ends = datetime.fromisoformat(spec["renewTime"]) + timedelta(seconds=_LEASE_SECONDS)
        if spec.get("holderIdentity") not in (None, "", holder) and ends > datetime.now(UTC):
            raise AlreadyRunning("A rollout", spec["holderIdentity"])
        return cluster.replace(_with_holder(found, holder))
    except Conflict as error:
        raise AlreadyRunning("A rollout", "just starting") from error


def _with_holder(lease: KubernetesObject, holder: str) -> KubernetesObject:
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": _LEASE_SECONDS,
        "renewTime": datetime.now(UTC).strftime(_TIME),
    }
    return {**lease, "spec": spec}
