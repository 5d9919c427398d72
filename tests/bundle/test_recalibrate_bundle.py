"""A recalibrated bundle has the same model, other risks, and says where they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundles import as_records, draw_encounters
from scipy.special import logit

from healthpredict.bundle.manifest import Calibrator
from healthpredict.bundle.model import TOLERANCE, Bundle, load_bundle
from healthpredict.bundle.recalibrate import recalibrate_bundle
from healthpredict.errors import BundleError

RECORDS = as_records(draw_encounters(30, seed=4))


def recalibrate(
    bundle: Bundle, path: Path, *, intercept: float = 0.0, slope: float = 1.0, batch: str | None = "batch-02"
) -> Bundle:
    return recalibrate_bundle(
        bundle,
        path,
        Calibrator(intercept=intercept, slope=slope),
        version=bundle.manifest.model_version + 1,
        run_id="another",
        trigger="batch-03",
        batch=batch,
        threshold=0.25,
    )


def log_odds(bundle: Bundle) -> np.ndarray:
    return logit([bundle.risk(record) for record in RECORDS])


def test_the_log_odds_are_corrected_and_the_golden_rows_renewed(bundle: Bundle, tmp_path: Path) -> None:
    new = recalibrate(bundle, tmp_path / "new", intercept=-0.3, slope=0.8)
    np.testing.assert_allclose(log_odds(new), -0.3 + 0.8 * log_odds(bundle), atol=1e-9)
    golden = logit([row.risk for row in new.golden])
    np.testing.assert_allclose(golden, -0.3 + 0.8 * logit([row.risk for row in bundle.golden]), atol=1e-9)
    load_bundle(new.path).verify()


def test_the_manifest_names_the_trained_version_and_the_newest_outcomes(bundle: Bundle, tmp_path: Path) -> None:
    new = recalibrate(bundle, tmp_path / "new", intercept=0.1).manifest
    old = bundle.manifest
    assert (new.model_version, new.trained_version, new.threshold) == (2, 1, 0.25)
    assert (new.trigger, new.run_id, new.calibrated_on) == ("batch-03", "another", "batch-02")
    assert (old.trained_version, old.calibrated_on) == (1, "initial")
    same = ("family", "trained_on", "data_digest", "git_commit", "test", "outcome")
    assert [getattr(new, name) for name in same] == [getattr(old, name) for name in same]


def test_a_second_recalibration_adds_to_the_first(bundle: Bundle, tmp_path: Path) -> None:
    first = recalibrate(bundle, tmp_path / "first", intercept=-0.3, slope=0.8)
    second = recalibrate(first, tmp_path / "second", intercept=0.2, slope=1.1, batch=None)
    np.testing.assert_allclose(log_odds(second), 0.2 + 1.1 * log_odds(first), atol=1e-9)
    assert (second.manifest.model_version, second.manifest.trained_version) == (3, 1)
    assert second.manifest.calibrated_on == "batch-02", "the second one used no outcomes"


def test_risks_as_trained_stay_those_of_the_trained_version(bundle: Bundle, tmp_path: Path) -> None:
    first = recalibrate(bundle, tmp_path / "first", intercept=-0.3, slope=0.8)
    second = recalibrate(first, tmp_path / "second", intercept=0.2)
    features = np.array([bundle.encode(record) for record in RECORDS])
    for each in (bundle, first, second):
        np.testing.assert_array_equal(each.risks_as_trained(features), bundle.risks(features))


def test_explanations_add_up_to_the_new_risk(bundle: Bundle, tmp_path: Path) -> None:
    new = recalibrate(bundle, tmp_path / "new", intercept=-0.5, slope=0.7)
    explanation = new.explain(new.encode(RECORDS[0]))
    assert explanation is not None
    assert explanation.risk == pytest.approx(new.risk(RECORDS[0]), abs=TOLERANCE)


def test_a_damaged_model_is_found_and_no_bundle_is_written(bundle: Bundle, next_bundle: Bundle, tmp_path: Path) -> None:
    """The golden rows come from training, so they reveal another model."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "model.onnx").write_bytes((next_bundle.path / "model.onnx").read_bytes())
    object.__setattr__(broken := load_bundle(bundle.path), "path", mixed)
    for name in ("reference.json",):
        (mixed / name).write_bytes((bundle.path / name).read_bytes())
    with pytest.raises(BundleError, match="golden rows"):
        recalibrate(broken, tmp_path / "new")
    assert not (tmp_path / "new").exists()
