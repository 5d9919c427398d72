"""A bundle is refused unless it is complete, unchanged and equal to the training pipeline."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import as_records, build_tiny_bundle, draw_encounters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from healthpredict.bundle.build import build_bundle
from healthpredict.bundle.manifest import Calibrator
from healthpredict.bundle.model import (
    CONTRACT,
    ENCODER,
    EXPLAINER,
    GOLDEN,
    ICD10,
    MANIFEST,
    MODEL,
    REFERENCE,
    TOLERANCE,
    Bundle,
    GoldenRow,
    calibrate,
    largest_difference,
    load_bundle,
)
from healthpredict.errors import BundleError
from healthpredict.features.frame import encode_frame

NEEDED = (MODEL, ENCODER, ICD10, CONTRACT, REFERENCE, GOLDEN)
CONTENT = (*NEEDED, EXPLAINER)


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(bundle.path, tmp_path / "copy"))


def rewrite(path: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON file and make the manifest agree with it."""
    changed = change(json.loads((path / name).read_bytes()))
    (path / name).write_text(json.dumps(changed))
    if name != MANIFEST:
        digest = hashlib.sha256((path / name).read_bytes()).hexdigest()
        rewrite(path, MANIFEST, lambda manifest: manifest | {"files": manifest["files"] | {name: digest}})


def parts(bundle: Bundle, **changed: Any) -> dict[str, Any]:
    """What `build_bundle` takes, to build the same bundle again with something changed."""
    given = {
        "manifest": bundle.manifest.model_dump(exclude={"code_systems", "files"}),
        "encoder": bundle.encoder,
        "onnx_model": (bundle.path / MODEL).read_bytes(),
        "reference": bundle.reference(),
        "golden": list(bundle.golden),
        "explainer": bundle.explainer,
    }
    return given | changed


def test_a_bundle_is_read_as_it_was_built(bundle: Bundle, copy: Path) -> None:
    """Somewhere else it is the same: digest, features in their order, golden rows."""
    again = load_bundle(copy)
    again.verify()
    assert again.digest == bundle.digest
    assert again.manifest == bundle.manifest
    assert again.encoder == bundle.encoder
    assert again.encoder.feature_names == bundle.encoder.feature_names
    assert again.golden == bundle.golden
    assert sorted(file.name for file in copy.iterdir()) == sorted((MANIFEST, *CONTENT))


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_an_altered_byte_is_found_and_the_file_named(copy: Path, name: str, where: float) -> None:
    data = bytearray((copy / name).read_bytes())
    data[round(where * (len(data) - 1))] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"Changed after the bundle was built: {name} in "):
        load_bundle(copy)


@pytest.mark.parametrize("name", CONTENT)
def test_every_altered_file_is_named(copy: Path, name: str) -> None:
    """Appended bytes count too."""
    for altered in {name, MODEL}:
        (copy / altered).write_bytes((copy / altered).read_bytes() + b"\n")
    with pytest.raises(BundleError, match=name) as refusal:
        load_bundle(copy)
    assert MODEL in str(refusal.value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1), byte=st.integers(1, 255))
def test_an_altered_manifest_is_refused_or_has_another_digest(
    bundle: Bundle, copy: Path, where: float, byte: int
) -> None:
    """The manifest is what the digest is of: the registry, which knows the digest, finds what reading cannot."""
    data = bytearray((bundle.path / MANIFEST).read_bytes())
    data[round(where * (len(data) - 1))] ^= byte
    (copy / MANIFEST).write_bytes(data)
    try:
        digest = load_bundle(copy).digest
    except BundleError:
        return
    assert digest != bundle.digest


@pytest.mark.parametrize("name", [MANIFEST, *CONTENT])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"Incomplete bundle: .*{name}"):
        load_bundle(copy)


@pytest.mark.parametrize("name", NEEDED)
def test_a_manifest_must_list_every_file(copy: Path, name: str) -> None:
    """A file that the manifest does not list counts as missing."""
    rewrite(copy, MANIFEST, lambda m: m | {"files": {k: v for k, v in m["files"].items() if k != name}})
    with pytest.raises(BundleError, match=name):
        load_bundle(copy)


def test_no_folder_at_all_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="Incomplete bundle"):
        load_bundle(tmp_path / "nowhere")


def test_a_bundle_for_another_contract_is_refused(copy: Path) -> None:
    """Allowed values, ranges, order: any difference means that the features may mean something else."""
    rewrite(copy, CONTRACT, lambda columns: [*columns[1:], columns[0]])
    with pytest.raises(BundleError, match="trained for another data contract"):
        load_bundle(copy)


def test_a_bundle_of_another_format_is_refused(copy: Path) -> None:
    rewrite(copy, MANIFEST, lambda manifest: manifest | {"format": 3})
    with pytest.raises(BundleError, match="has format 3, but this version reads format 5"):
        load_bundle(copy)


def test_a_manifest_that_is_none_is_refused(copy: Path) -> None:
    (copy / MANIFEST).write_text('{"format": 4}')
    with pytest.raises(BundleError, match="not a manifest of format 5"):
        load_bundle(copy)


@pytest.mark.parametrize("off", [2 * TOLERANCE, -0.5, float("nan")])
def test_golden_rows_that_differ_leave_nothing_behind(bundle: Bundle, tmp_path: Path, off: float) -> None:
    """Neither the folder nor a partial one."""
    golden = [*bundle.golden[:-1], GoldenRow(bundle.golden[-1].record, bundle.golden[-1].risk + off)]
    with pytest.raises((BundleError, ValueError)):
        build_bundle(tmp_path / "made", **parts(bundle, golden=golden))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_golden_rows_proves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="golden rows"):
        build_bundle(tmp_path / "made", **parts(bundle, golden=[]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "part", [{"reference": {"limit": float("inf")}}, {"onnx_model": b"no model"}, {"manifest": {}}]
)
def test_whatever_fails_while_building_leaves_nothing_behind(
    bundle: Bundle, tmp_path: Path, part: dict[str, Any]
) -> None:
    with pytest.raises(Exception):  # noqa: B017 -- a mistake of the caller, of whatever kind
        build_bundle(tmp_path / "made", **parts(bundle, **part))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_build_keeps_the_earlier_bundle(bundle: Bundle, copy: Path) -> None:
    with pytest.raises(BundleError):
        build_bundle(copy, **parts(bundle, golden=[GoldenRow(bundle.golden[0].record, 0.99)]))
    assert load_bundle(copy).digest == bundle.digest


def test_building_replaces_what_a_killed_build_left(bundle: Bundle, copy: Path) -> None:
    """An older bundle and a partial folder exist; nothing of them remains."""
    (copy / "left over").write_text("")
    partial = copy.with_name(f".{copy.name}.partial")
    partial.mkdir()
    (partial / "left over").write_text("")
    built = build_bundle(copy, **parts(bundle, reference={"rows": 1}))
    assert built.reference() == {"rows": 1}
    assert sorted(file.name for file in copy.iterdir()) == sorted((MANIFEST, *CONTENT))
    assert list(copy.parent.iterdir()) == [copy]


def test_the_same_content_has_the_same_digest(bundle: Bundle, next_bundle: Bundle, tmp_path: Path) -> None:
    """Wherever and whenever it is built; another model has another digest."""
    assert build_tiny_bundle(tmp_path / "elsewhere").digest == bundle.digest
    assert build_bundle(tmp_path / "again", **parts(bundle)).digest == bundle.digest
    assert next_bundle.digest != bundle.digest


def test_verify_finds_a_record_that_is_not_reproduced(bundle: Bundle, copy: Path) -> None:
    """Here with golden rows that somebody changed together with the manifest."""
    rewrite(copy, GOLDEN, lambda rows: [row | {"risk": row["risk"] + 1e-5} for row in rows])
    with pytest.raises(BundleError, match=r"differs from training by 1\.0e-05 on its golden rows"):
        load_bundle(copy).verify()


def test_one_record_and_a_frame_get_the_same_risk(bundle: Bundle) -> None:
    """Batch scoring and the API, missing values included."""
    encounters = draw_encounters(50, seed=7)
    together = bundle.risks(encode_frame(bundle.encoder, encounters))
    one_by_one = [bundle.risk(record) for record in as_records(encounters)]
    assert together == pytest.approx(one_by_one, abs=1e-9)
    assert ((together > 0) & (together < 1)).all()
    assert together.shape == (50,)


def test_calibration_moves_log_odds_along_a_line() -> None:
    """Slope 2 and intercept -1 take log-odds 1 to 1 and 0 to -1; certainty stays finite."""
    sigmoid = [0.5, 1 / (1 + np.exp(-1))]
    found = calibrate(Calibrator(slope=2, intercept=-1), np.array(sigmoid))
    assert np.log(found / (1 - found)) == pytest.approx([-1, 1])
    certain = calibrate(Calibrator(slope=1, intercept=0), np.array([0.0, 1.0]))
    assert certain == pytest.approx([1e-7, 1 - 1e-7], abs=1e-12)


@pytest.mark.parametrize(
    ("risks", "expected", "difference"),
    [
        ([0.1, 0.5], [0.1, 0.4], 0.1),
        ([0.1], [0.1, 0.4], float("inf")),
        ([], [], float("inf")),
        ([0.1, float("nan")], [0.1, 0.4], float("inf")),
    ],
)
def test_what_cannot_be_compared_differs_without_limit(
    risks: list[float], expected: list[float], difference: float
) -> None:
    assert largest_difference(risks, expected) == pytest.approx(difference)


def test_the_runtime_reports_to_nobody(bundle: Bundle) -> None:
    """With telemetry on it keeps an id in the home folder, and complains where it cannot."""
    program = (
        "import sys; from pathlib import Path; from healthpredict.bundle.model import load_bundle;"
        "load_bundle(Path(sys.argv[1])).verify()"
    )
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), "/proc/nowhere")
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | nowhere
    command = [sys.executable, "-c", program, str(bundle.path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
