"""What the page of a deploy flow run shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import CRASHES, Rig, alias

from healthpredict.errors import RolloutError
from healthpredict.operations.installation import Installation

pytestmark = pytest.mark.kubernetes


def artifacts(key: str) -> list[str]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return [str(artifact.data) for artifact in client.read_artifacts() if artifact.key == key]


def test_the_page_shows_what_is_in_service_and_why_a_rollout_failed(
    prefect_server: None, rig: Rig, champion: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flows.deploy as flow

    version = rig.register()
    monkeypatch.setattr(flow, "Installation", lambda: rig.installation)
    forced = {"force": True, "because": "no gate in this test"}
    rollout = flow.deploy(version, **forced)
    assert alias(rig.settings) == version
    (shown,) = artifacts(f"rollout-version-{version}")
    assert str(rollout.image) in shown

    bad = rig.altered(tmp_path / "source", CRASHES)
    monkeypatch.setattr(flow, "Installation", lambda: Installation(bad))
    another = rig.register()
    with pytest.raises(RolloutError):
        flow.deploy(another, **forced)
    (shown,) = artifacts(f"rollout-failed-version-{another}")
    assert "log: " in shown and "unrecognized arguments: --no-such-option" in shown
    assert f"Version {version} was put back and verified." in shown
