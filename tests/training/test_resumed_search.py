"""A resumed search in which every trial fails is not mistaken for a damaged state."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray import tune

from healthpredict.errors import NotEnoughData
from healthpredict.training.search import _resume


def test_failed_trials_are_no_damaged_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error names the cause, and what was saved stays for the next attempt."""
    (tmp_path / "experiment_state-1.json").write_text("{}")
    for name in ("searcher-state-1.pkl", "tuner.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps({}))
    failed = SimpleNamespace(metrics=None, config={"family": "lightgbm"}, error=RuntimeError("out of memory"))
    restored = SimpleNamespace(fit=lambda: [failed])
    monkeypatch.setattr(tune.Tuner, "restore", lambda *_, **__: restored)
    with pytest.raises(NotEnoughData, match="None of 1 trials reported"):
        _resume(tmp_path, None, [], 0.1)
    assert (tmp_path / "tuner.pkl").exists()
    assert "is damaged" not in caplog.text
    assert "out of memory" in caplog.text
