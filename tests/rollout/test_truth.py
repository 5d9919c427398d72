"""Whatever response is lost in a rollout, the alias names what serves, or the result is reported as unknown."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from bundles import champion
from fake_cluster import FakeCluster, install

from healthpredict.config import Settings
from healthpredict.errors import ConfigurationError, RegistryError, RolloutError, RolloutUnknown
from healthpredict.operations.installation import Installation
from healthpredict.operations.promote import promote
from healthpredict.operations.put_on_kubernetes import kubernetes_target
from healthpredict.operations.record_rollout import in_service, last_unknown
from healthpredict.operations.resume import resume
from healthpredict.operations.roll_back import roll_back
from healthpredict.operations.roll_out import repair_rollout, roll_out
from healthpredict.operations.status import status

OLD, NEW = "registry/hp@sha256:old", "registry/hp@sha256:new"
pytestmark = pytest.mark.slow


@pytest.fixture
def settings(rollout_settings: Settings, tmp_path: Path) -> Settings:
    """Rollouts to a cluster, watched for three polls."""
    rollout = {"target": "kubernetes", "context": "fake", "watch_seconds": 10}
    return rollout_settings.model_copy(
        update={
            "image_repository": "registry/hp",
            "kubeconfig": tmp_path / "kubeconfig",
            "rollout": rollout_settings.rollout.model_copy(update=rollout),
        }
    )


@pytest.fixture
def cluster(settings: Settings, register: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A cluster on which version 1 serves; version 2 is registered."""
    register(), register()
    registry = Installation(settings).registry
    bundles = {v.bundle_digest: registry.fetch_bundle(v) for v in registry.versions()}
    fake = FakeCluster(bundles)
    install(fake, monkeypatch)
    roll_out(Installation(settings), 1, image=OLD)
    fake.calls = 0
    return fake


def promotions(settings: Settings) -> list[tuple[int, str]]:
    return [(event["version"], event["image"]) for event in Installation(settings).ledger.events("promotion")]


def assert_true(settings: Settings, cluster: FakeCluster) -> None:
    """Alias and ledger name what serves, and the ledger records it once."""
    serving = cluster.serving()
    assert serving is not None
    assert champion(settings) == serving[0]
    recorded = promotions(settings)
    assert recorded[-1] == serving[:2]
    assert all(one != two for one, two in pairwise(recorded))


def digest(settings: Settings, version: int) -> str:
    return Installation(settings).registry.version(version).bundle_digest


def interrupt_when(cluster: FakeCluster, condition: Callable[[], bool]) -> None:
    """Interrupt the next rollout at the first response after which a condition holds."""

    def interrupt(_call: int) -> None:
        if condition():
            raise KeyboardInterrupt

    cluster.on_call = interrupt


def test_a_rollout_moves_alias_and_ledger_to_what_serves(settings: Settings, cluster: FakeCluster) -> None:
    roll_out(Installation(settings), 2, image=NEW)
    assert promotions(settings) == [(1, OLD), (2, NEW)]
    assert_true(settings, cluster)


@pytest.mark.parametrize("from_then_on", [False, True], ids=["once", "from then on"])
def test_whatever_response_is_lost_nothing_false_is_recorded(
    settings: Settings, cluster: FakeCluster, from_then_on: bool
) -> None:
    """Lose each response of a rollout and its watch in turn; the next run then repairs alias and ledger."""
    roll_out(Installation(settings), 2, image=NEW)
    calls = cluster.calls
    assert calls > 30
    outcomes = set()
    for lost in range(0, calls, 3 if from_then_on else 1):
        version, image = (1, OLD) if cluster.serving()[0] == 2 else (2, NEW)  # type: ignore[index]
        before, cluster.calls = champion(settings), 0
        cluster.loses = lambda call, lost=lost: call >= lost if from_then_on else call == lost
        try:
            roll_out(Installation(settings), version, image=image)
            outcomes.add("in service")
        except RolloutUnknown:
            outcomes.add("unknown")
            assert last_unknown(Installation(settings)) is not None
        except RolloutError:
            outcomes.add("put back")
        serving = cluster.serving()
        assert serving is not None
        if last_unknown(Installation(settings)) is None:
            assert champion(settings) == serving[0], f"response {lost}"
        else:
            assert champion(settings) in (before, version)
        cluster.heal()
        assert repair_rollout(Installation(settings)) is None
        assert last_unknown(Installation(settings)) is None
        assert_true(settings, cluster)
    assert from_then_on or "in service" in outcomes
    assert outcomes & {"put back", "unknown"}


def test_one_lost_response_does_not_fail_the_watch(settings: Settings, cluster: FakeCluster) -> None:
    roll_out(Installation(settings), 2, image=NEW)
    last = cluster.calls - 8
    roll_back(Installation(settings))
    cluster.calls = 0
    cluster.loses = lambda call: call == last
    roll_out(Installation(settings), 2, image=NEW)
    assert cluster.serving() == (2, NEW, digest(settings, 2))
    assert_true(settings, cluster)


def test_a_version_that_fails_verification_is_put_back_and_recorded(settings: Settings, cluster: FakeCluster) -> None:
    cluster.broken = {digest(settings, 2)}
    with pytest.raises(RolloutError, match="Version 1 was put back and verified"):
        roll_out(Installation(settings), 2, image=NEW)
    assert promotions(settings) == [(1, OLD)], "version 2 never was in service"
    assert_true(settings, cluster)
    assert Installation(settings).ledger.events("rollout_failed")[-1]["version"] == 2


def test_a_failed_rollback_is_unknown_and_the_alias_stays(
    settings: Settings, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old version is not in service, and the new one did not pass verification."""
    cluster.broken = {digest(settings, 1), digest(settings, 2)}
    with pytest.raises(RolloutUnknown) as caught:
        roll_out(Installation(settings), 2, image=NEW)
    assert caught.value.exit_code == 13
    assert champion(settings) == 1
    assert promotions(settings) == [(1, OLD)]
    (event,) = Installation(settings).ledger.events("rollout_unknown")
    assert "Putting version 1 back failed too" in event["problem"]
    assert "unknown" in str(status(Installation(settings)).serving)
    cluster.broken = set()
    assert repair_rollout(Installation(settings)) is None
    assert_true(settings, cluster)
    assert "unknown" not in str(status(Installation(settings)).serving)


def test_the_same_version_with_a_new_image_is_recorded_and_rolled_back_to(
    settings: Settings, cluster: FakeCluster
) -> None:
    roll_out(Installation(settings), 1, image=NEW)
    roll_out(Installation(settings), 2, image=NEW)
    assert promotions(settings) == [(1, OLD), (1, NEW), (2, NEW)]
    roll_back(Installation(settings))
    assert cluster.serving() == (1, NEW, digest(settings, 1)), "with its last image"
    roll_back(Installation(settings))
    assert cluster.serving() == (1, OLD, digest(settings, 1))
    with pytest.raises(ConfigurationError, match="nothing to roll back to"):
        roll_back(Installation(settings))


def test_a_rollout_that_was_interrupted_is_completed_or_put_back(settings: Settings, cluster: FakeCluster) -> None:
    for broken in (set(), {digest(settings, 2)}):
        if cluster.serving() != (1, OLD, digest(settings, 1)):
            roll_back(Installation(settings))
        interrupt_when(cluster, lambda: cluster.serving() == (2, NEW, digest(settings, 2)))
        with pytest.raises(KeyboardInterrupt):
            roll_out(Installation(settings), 2, image=NEW)
        cluster.on_call, cluster.broken = lambda _: None, broken
        assert champion(settings) == 1
        repair_rollout(Installation(settings))
        assert cluster.serving() == ((1, OLD) if broken else (2, NEW)) + (digest(settings, 1 if broken else 2),)
        assert_true(settings, cluster)


def test_an_interrupted_rollback_counts_as_one_and_the_next_goes_further_back(
    settings: Settings, cluster: FakeCluster
) -> None:
    roll_out(Installation(settings), 1, image=NEW)
    roll_out(Installation(settings), 2, image=NEW)
    interrupt_when(cluster, lambda: cluster.serving() == (1, NEW, digest(settings, 1)))
    with pytest.raises(KeyboardInterrupt):
        roll_back(Installation(settings))
    cluster.on_call = lambda _: None
    assert roll_back(Installation(settings)).image == OLD, "the interrupted one is found in service first"
    assert promotions(settings) == [(1, OLD), (1, NEW), (2, NEW), (1, NEW), (1, OLD)]
    assert_true(settings, cluster)


def test_resume_after_an_interrupted_promotion_keeps_what_serves(settings: Settings, cluster: FakeCluster) -> None:
    interrupt_when(cluster, lambda: cluster.serving() == (2, NEW, digest(settings, 2)))
    with pytest.raises(KeyboardInterrupt):
        roll_out(Installation(settings), 2, image=NEW)
    cluster.on_call = lambda _: None
    rollout = resume(Installation(settings))
    assert rollout is not None
    assert (rollout.version, rollout.image) == (2, NEW)
    assert_true(settings, cluster)


def test_a_version_that_cannot_be_verified_is_never_removed(
    settings: Settings, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interrupted first rollout, MLflow, Kubernetes or the API does not respond."""
    interrupt_when(cluster, lambda: cluster.serving() == (2, NEW, digest(settings, 2)))
    with pytest.raises(KeyboardInterrupt):
        roll_out(Installation(settings), 2, image=NEW)
    cluster.on_call = lambda _: None
    cluster.forget_verified()
    serving = cluster.serving()

    def away(*_: object) -> object:
        raise RegistryError("MLflow does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr("healthpredict.registry.models.Registry.fetch_bundle", away)
        assert "MLflow does not answer" in str(repair_rollout(Installation(settings)))
    assert cluster.serving() == serving
    for lost in range(12):
        cluster.calls = 0
        cluster.loses = lambda call, lost=lost: call >= lost
        repair_rollout(Installation(settings))
        assert cluster.serving() == serving, f"without responses from {lost} on"
    cluster.heal()
    assert repair_rollout(Installation(settings)) is None
    assert_true(settings, cluster)


@pytest.mark.parametrize("seconds", [0.5, 10, 60])
def test_a_watch_without_responses_raises_however_short_it_is(
    settings: Settings, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    roll_out(Installation(settings), 2, image=NEW)
    target = kubernetes_target(Installation(settings))
    cluster.loses = lambda _call: True
    with pytest.raises(RolloutError):
        target.watch(seconds)
    cluster.heal()
    assert target.watch(seconds) is None
    cluster.silent = {"/metrics"}
    with pytest.raises(RolloutError, match="No pod responds"):
        target.watch(seconds)


def test_rollbacks_in_a_row_go_further_back() -> None:
    def event(version: int, *, back: bool = False) -> dict[str, object]:
        return {"version": version, "image": None, "rolled_back": back, "reason": None}

    three = [event(1), event(2), event(3)]
    assert in_service(three) == [(1, None), (2, None), (3, None)]
    assert in_service([*three, event(2, back=True)]) == [(1, None), (2, None)]
    assert in_service([*three, event(2, back=True), event(1, back=True)]) == [(1, None)]
    assert in_service([*three, event(1, back=True), event(4)]) == [(1, None), (4, None)]
    assert in_service([*three, event(2, back=True), event(3)]) == [(1, None), (2, None), (3, None)]
    older = [{"version": 1}, {"version": 2}, {"version": 1, "reason": "rolled back from version 2"}]
    assert in_service(older) == [(1, None)], "events of earlier versions"


def test_only_what_passed_the_gate_is_promoted_unless_somebody_gives_a_reason(
    settings: Settings, cluster: FakeCluster
) -> None:
    ledger = Installation(settings).ledger
    for arguments in ({}, {"force": True}, {"force": True, "because": "  "}, {"because": "it is good"}):
        with pytest.raises(ConfigurationError, match=r"because|gate"):
            promote(Installation(settings), 2, **arguments)  # type: ignore[arg-type]
    assert cluster.serving() == (1, OLD, digest(settings, 1))
    ledger.append("gate", version=2, promote=True)
    ledger.append("gate", version=2, promote=False)
    with pytest.raises(ConfigurationError, match="has not passed the gate"):
        promote(Installation(settings), 2)
    assert len(ledger.events("promotion")) == 1


def test_a_forced_promotion_is_recorded_with_its_reason(
    settings: Settings, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healthpredict.operations.promote.roll_out", partial(roll_out, image=NEW))
    monkeypatch.setattr("healthpredict.operations.put_on_kubernetes._source", lambda *_: None)
    rollout = promote(Installation(settings), 2, force=True, because="new laboratory system")
    assert (rollout.forced, rollout.reason) == (True, "new laboratory system")
    event = Installation(settings).ledger.events("promotion")[-1]
    assert (event["version"], event["forced"], event["reason"]) == (2, True, "new laboratory system")


def test_an_unknown_rollout_after_which_nothing_serves_is_settled(settings: Settings, cluster: FakeCluster) -> None:
    """`status` no longer reports unknown, and a later rollout is recorded too."""
    Installation(settings).ledger.append("rollout_unknown", version=2, image=NEW, problem="a test")
    cluster.delete("Deployment", "healthpredict-api")
    assert repair_rollout(Installation(settings)) is None
    assert last_unknown(Installation(settings)) is None
    assert status(Installation(settings)).serving is None
    assert repair_rollout(Installation(settings)) is None
    roll_out(Installation(settings), 1, image=OLD)
    settled = [event["version"] for event in Installation(settings).ledger.events("rollout_settled")]
    assert settled == [None, 1]
    assert_true(settings, cluster)
