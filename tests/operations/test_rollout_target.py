"""Where a version goes is a setting; what is missing for it is said before anything is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from bundles import champion, stored_bundle

from healthpredict.config import Settings
from healthpredict.errors import BundleError, ConfigurationError, RolloutUnknown
from healthpredict.operations.installation import Installation
from healthpredict.operations.put_on_kubernetes import cds_hooks_files
from healthpredict.operations.record_rollout import last_unknown
from healthpredict.operations.roll_back import roll_back
from healthpredict.operations.roll_out import local_target, repair_rollout, roll_out, serving
from healthpredict.operations.status import status
from healthpredict.rollout.ports import free_port


@pytest.fixture
def settings(rollout_settings: Settings) -> Settings:
    return rollout_settings


def test_nowhere_only_the_alias_moves_and_the_bundle_is_checked_all_the_same(
    settings: Settings, register: Callable[[], int]
) -> None:
    first, second = register(), register()
    assert roll_out(Installation(settings), first).url is None
    assert serving(Installation(settings)) is None
    assert champion(settings) == first
    stored = stored_bundle(Installation(settings).registry, second)
    (stored / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleError):
        roll_out(Installation(settings), second)
    assert champion(settings) == first


def test_rollbacks_go_back_step_by_step_and_to_a_named_version(settings: Settings, register: Callable[[], int]) -> None:
    with pytest.raises(ConfigurationError, match="nothing to roll back to"):
        roll_back(Installation(settings))
    versions = [register(), register(), register()]
    for version in versions:
        roll_out(Installation(settings), version)
    assert roll_back(Installation(settings)).version == versions[1]
    assert roll_back(Installation(settings)).version == versions[0], "not to the version that was just rolled back"
    with pytest.raises(ConfigurationError, match="nothing to roll back to"):
        roll_back(Installation(settings))
    assert roll_back(Installation(settings), versions[2]).version == versions[2] == champion(settings)
    with pytest.raises(
        ConfigurationError, match=r"Version 99 cannot be rolled back to\. In service before: 1, 2; in service now: 3"
    ):
        roll_back(Installation(settings), 99)
    reasons = [event["reason"] for event in Installation(settings).ledger.events("promotion")]
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
        roll_out(Installation(unnamed), version)
    (failure,) = Installation(settings).ledger.events("rollout_failed")
    assert words in failure["problem"]
    assert champion(settings) is None


class FakeProcess:
    """A local API whose new process passes verification."""

    def __init__(self, fails_at: str) -> None:
        """Args: fails_at, the method that an operating system's error interrupts."""
        self.fails_at = fails_at
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*_: object) -> None:
            self.calls.append(name)
            if name == self.fails_at:
                raise PermissionError("a test")

        return call


def as_process(settings: Settings, monkeypatch: pytest.MonkeyPatch, fails_at: str) -> tuple[Settings, FakeProcess]:
    target = FakeProcess(fails_at)
    monkeypatch.setattr("healthpredict.operations.roll_out.local_target", lambda _: target)
    rollout = settings.rollout.model_copy(update={"target": "process"})
    return settings.model_copy(update={"rollout": rollout}), target


def test_an_unexpected_error_after_the_switch_leaves_it_unknown_what_serves(
    settings: Settings, register: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _ = as_process(settings, monkeypatch, "switch")
    with pytest.raises(RolloutUnknown, match="PermissionError: a test"):
        roll_out(Installation(settings), register())
    (event,) = Installation(settings).ledger.events("rollout_unknown")
    assert event["version"] == 1
    assert Installation(settings).ledger.events("rollout_failed") == []
    assert champion(settings) is None


def test_an_unexpected_error_before_the_switch_ends_the_new_process(
    settings: Settings, register: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What served before was not touched."""
    settings, target = as_process(settings, monkeypatch, "verify")
    with pytest.raises(PermissionError):
        roll_out(Installation(settings), register())
    assert target.calls[-1] == "abandon"
    assert [event["version"] for event in Installation(settings).ledger.events("rollout_failed")] == [1]
    assert last_unknown(Installation(settings)) is None


def test_a_process_that_is_gone_settles_an_unknown_rollout(
    settings: Settings, register: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    settings, _ = as_process(settings, monkeypatch, "nothing")
    ledger = Installation(settings).ledger
    ledger.append("promotion", version=1)
    ledger.append("rollout_unknown", version=2, image=None, problem="a test")
    assert repair_rollout(Installation(settings)) is None
    assert repair_rollout(Installation(settings)) is None
    ledger.refresh()
    assert [event["version"] for event in ledger.events("rollout_settled")] == [None]
    assert status(Installation(settings)).serving is None


def with_params(tmp_path: Path, keys: str) -> Path:
    path = tmp_path / "cds-hooks.toml"
    path.write_text(
        f'base_url = "https://risk.example"\n[[clients]]\nissuer = "https://ehr.example"\njwks_file = "{keys}"\n'
    )
    return path


@pytest.mark.slow
def test_a_local_api_has_the_parameters_of_cds_hooks(
    settings: Settings, register: Callable[[], int], tmp_path: Path
) -> None:
    path = tmp_path / "cds-hooks.toml"
    path.write_text("patient_view = true")
    rollout = settings.rollout.model_copy(update={"target": "process"})
    given = {"rollout": rollout, "cds_hooks_path": path, "api_port": free_port()}
    installation = Installation(settings.model_copy(update=given))
    try:
        url = roll_out(installation, register()).url
        services = httpx.get(f"{url}/cds-services", trust_env=False).json()["services"]
    finally:
        local_target(installation).stop()
    assert [service["hook"] for service in services] == ["encounter-discharge", "patient-view"]


def test_pods_get_the_parameters_of_cds_hooks_and_the_keys_of_ehrs(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(b"{}")
    path = with_params(tmp_path, "keys.json")
    assert cds_hooks_files(path) == {"cds-hooks.toml": path.read_bytes(), "keys.json": b"{}"}
    assert cds_hooks_files(None) == {"cds-hooks.toml": b""}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("missing.json", "missing.json cannot be read"),
        ("../keys.json", "names ../keys.json. Pods have only files beside it"),
        ('"', "is not TOML"),
        ('keys.json"\npatient_views = "true', "clients.0.patient_views: Extra inputs are not permitted"),
    ],
)
def test_wrong_files_of_cds_hooks_are_named_before_a_rollout(tmp_path: Path, keys: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        cds_hooks_files(with_params(tmp_path, keys))
