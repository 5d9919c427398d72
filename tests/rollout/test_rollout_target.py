"""Where a version goes is a setting; what is missing for it is said before anything is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from healthpredict.config import Settings
from healthpredict.errors import BundleError, ConfigurationError
from healthpredict.operations.context import open_ledger, open_registry
from healthpredict.operations.roll_back import roll_back
from healthpredict.operations.roll_out import roll_out, serving


def champion(settings: Settings) -> int | None:
    found = open_registry(settings).by_alias("champion")
    return found.version if found else None


def test_nowhere_only_the_alias_moves_and_the_bundle_is_checked_all_the_same(
    settings: Settings, register: Callable[[], int]
) -> None:
    first, second = register(), register()
    assert roll_out(settings, first).url is None
    assert serving(settings) is None
    assert champion(settings) == first
    bundle = open_registry(settings).fetch_bundle(open_registry(settings).version(second))
    (bundle.path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleError):
        roll_out(settings, second)
    assert champion(settings) == first


def test_rollbacks_go_back_step_by_step_and_to_a_named_version(settings: Settings, register: Callable[[], int]) -> None:
    with pytest.raises(ConfigurationError, match="nothing to go back to"):
        roll_back(settings)
    versions = [register(), register(), register()]
    for version in versions:
        roll_out(settings, version)
    assert roll_back(settings).version == versions[1]
    assert roll_back(settings).version == versions[0], "not to the version that was just rolled back"
    with pytest.raises(ConfigurationError, match="nothing to go back to"):
        roll_back(settings)
    assert roll_back(settings, versions[2]).version == versions[2] == champion(settings)
    with pytest.raises(ConfigurationError, match=r"no going back to version 99\. In service before: 1, 2; now: 3"):
        roll_back(settings, 99)
    reasons = [event["reason"] for event in open_ledger(settings).events("promotion")]
    assert reasons[:3] == [None] * 3
    assert reasons[3] == f"rolled back from version {versions[2]}"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "set HEALTHPREDICT_KUBECONFIG and HEALTHPREDICT_ROLLOUT__CONTEXT"),
        ({"kubeconfig": "nowhere", "context": "mine"}, "kubeconfig nowhere with context 'mine' cannot be used"),
    ],
)
def test_a_cluster_is_named_or_nothing_happens(
    settings: Settings, register: Callable[[], int], given: dict[str, str], words: str
) -> None:
    version = register()
    rollout = settings.rollout.model_copy(update={"target": "kubernetes", "context": given.get("context")})
    kubeconfig = Path(given["kubeconfig"]) if given else None
    unnamed = settings.model_copy(update={"rollout": rollout, "kubeconfig": kubeconfig})
    with pytest.raises(ConfigurationError, match=words):
        roll_out(unnamed, version)
    (failure,) = open_ledger(settings).events("rollout_failed")
    assert words in failure["problem"]
    assert champion(settings) is None
