"""Load a bundle and predict with it, for the API, batch scoring and the drift monitor."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from healthpredict.bundle.decision_tables import DecisionTables
from healthpredict.bundle.explainer import Explainer
from healthpredict.bundle.manifest import FORMAT, Calibrator, Manifest
from healthpredict.bundle.onnx_model import OnnxModel
from healthpredict.data.contract import FEATURE_COLUMNS
from healthpredict.data.icd10 import Icd10Map
from healthpredict.errors import BundleError
from healthpredict.evaluation.logistic import SMALLEST_RISK
from healthpredict.features.encoder import Encoder, Value
from healthpredict.features.record import RecordEncoder

MANIFEST = "manifest.json"
MODEL = "model.onnx"
ENCODER = "encoder.json"
ICD10 = "icd10.json"
CONTRACT = "contract.json"
REFERENCE = "reference.json"
GOLDEN = "golden.json"
EXPLAINER = "explainer.npz"
CARD = "card.json"
CARD_PAGE = "card.html"
_OPTIONAL = (EXPLAINER, CARD, CARD_PAGE)
_REQUIRED = (MODEL, ENCODER, ICD10, CONTRACT, REFERENCE, GOLDEN)

EXPLAINED_WITHIN = 1e-4
"""Largest allowed difference between a risk and the sum of its explanation."""

TOLERANCE = 1e-6
"""Largest allowed difference of a risk between training and serving. Rounding errors are much smaller: a model sums a few hundred
leaves in 32 bits."""

_LARGEST_EXPONENT = 700.0
"""`math.exp` overflows from 710 on."""
_CONTRACT_KEYS = ("name", "kind", "allowed", "minimum", "maximum", "pattern", "nullable")


@dataclass(frozen=True)
class GoldenRow:
    """A synthetic encounter and the risk that the training pipeline predicted for it."""

    record: dict[str, Value]
    risk: float


@dataclass(frozen=True)
class StoredCard:
    """The model card of a bundle, as it was when the bundle was built: as JSON, and as an HTML page. Both are in UTF-8."""

    data: bytes
    page: bytes


@dataclass(frozen=True)
class Explanation:
    """The explanation of a risk, in calibrated log-odds.

    Attributes:
        expected: the log-odds if no feature is known.
        contributions: of each feature, shape (n_features,).
    """

    expected: float
    contributions: NDArray[np.float64]

    @property
    def risk(self) -> float:
        """The explained risk (0-1)."""
        return float(1 / (1 + np.exp(-(self.expected + self.contributions.sum()))))


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Attributes:
        path: the folder.
        digest: sha256 of the manifest, which contains the sha256 of all other files. It identifies the whole content.
        manifest: see `Manifest`.
        encoder: see `Encoder`.
        golden: rows whose risks must be reproduced within `TOLERANCE`.
        model: the fitted model, as decision tables if its trees fit, otherwise as ONNX.
        explainer: of the model, or None if the bundle was built without one.
        card: the model card, or None if the bundle was built without one.
    """

    path: Path
    digest: str
    manifest: Manifest
    encoder: Encoder
    golden: tuple[GoldenRow, ...]
    model: DecisionTables | OnnxModel
    explainer: Explainer | None
    card: StoredCard | None = None

    @cached_property
    def _record_encoder(self) -> RecordEncoder:
        return RecordEncoder.of(self.encoder)

    def encode(self, record: Mapping[str, Value]) -> NDArray[np.float32]:
        """Encode one encounter. Arguments and result as `RecordEncoder.encode`."""
        return self._record_encoder.encode(record)

    def risks(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Compute the calibrated probabilities of encounters.

        Args:
            features: encoded encounters, shape (n_encounters, n_features).

        Returns:
            shape (n_encounters,), 0-1.
        """
        return calibrate(self.manifest.calibrator, self.model.many(features))

    def risks_as_trained(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Compute the risks with the calibrator from training; see `risks`. The reference profile describes these."""
        return calibrate(self.manifest.trained_calibrator, self.model.many(features))

    def risk(self, record: Mapping[str, Value]) -> float:
        """Return the calibrated probability for one encounter: values by `Column.field`, None or absent if missing."""
        return calibrate_one(self.manifest.calibrator, self.model.one(self.encode(record)))

    def explain(self, features: NDArray[np.float32]) -> Explanation | None:
        """Explain the risk of an encounter.

        Args:
            features: encoded, shape (n_features,).

        Returns:
            The explanation, or None if the bundle was built without an explainer.
        """
        if self.explainer is None:
            return None
        start, contributions = self.explainer.log_odds(features)
        slope, intercept = self.manifest.calibrator.slope, self.manifest.calibrator.intercept
        return Explanation(slope * start + intercept, slope * contributions)

    def verify(self) -> None:
        """Check that the bundle reproduces its golden rows, one by one and as a batch.

        Raises:
            BundleError: a risk differs by more than `TOLERANCE`.
        """
        one_by_one = [self.risk(row.record) for row in self.golden]
        encoded = [self.encode(row.record) for row in self.golden]
        together = self.risks(np.array(encoded)) if encoded else ()
        worst = largest_difference([*one_by_one, *together], 2 * [row.risk for row in self.golden])
        if not worst <= TOLERANCE:
            raise BundleError(
                f"Bundle {self.digest[:12]} differs from training by {worst:.1e} on its golden rows "
                f"(allowed: {TOLERANCE:.0e}). Train again, or install the locked versions of numpy and onnxruntime."
            )

    def reference(self) -> dict[str, Any]:
        """The reference profile for drift, as plain data."""
        data: dict[str, Any] = json.loads((self.path / REFERENCE).read_bytes())
        return data


def load_bundle(path: Path) -> Bundle:
    """Load a bundle and check that its files are unchanged.

    Args:
        path: the folder.

    Raises:
        BundleError: it is incomplete or altered, has another format, or was built for another contract.
    """
    manifest_bytes = _read(path / MANIFEST)
    try:
        manifest = Manifest.model_validate_json(manifest_bytes)
    except ValidationError as error:
        raise BundleError(f"{path / MANIFEST} is not a manifest of format {FORMAT}: {error}") from error
    if manifest.format != FORMAT:
        raise BundleError(
            f"{path} has format {manifest.format}, but this version reads format {FORMAT}. Train the model again."
        )
    unlisted = [name for name in _REQUIRED if name not in manifest.files]
    if unlisted:
        raise BundleError(f"{path / MANIFEST} does not list {', '.join(unlisted)}. Fetch the bundle again.")
    optional = [name for name in _OPTIONAL if name in manifest.files]
    content = {name: _read(path / name) for name in (*_REQUIRED, *optional)}
    _check_unaltered(path, manifest, content)
    if json.loads(content[CONTRACT]) != contract_as_data():
        raise BundleError(f"{path} was trained for another data contract. Train the model again with this version.")
    explainer = Explainer.from_bytes(content[EXPLAINER]) if EXPLAINER in content else None
    return Bundle(
        path=path,
        digest=hashlib.sha256(manifest_bytes).hexdigest(),
        manifest=manifest,
        encoder=Encoder.from_json(json.loads(content[ENCODER]), Icd10Map.from_json(json.loads(content[ICD10]))),
        golden=tuple(GoldenRow(row["record"], row["risk"]) for row in json.loads(content[GOLDEN])),
        model=(explainer and DecisionTables.of(explainer)) or OnnxModel(content[MODEL]),
        explainer=explainer,
        card=StoredCard(content[CARD], content[CARD_PAGE]) if {CARD, CARD_PAGE} <= content.keys() else None,
    )


def calibrate(calibrator: Calibrator, probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Calibrate the model's probabilities. The shape stays the same."""
    bounded = np.clip(probability, SMALLEST_RISK, 1 - SMALLEST_RISK)
    log_odds = np.log(bounded / (1 - bounded))
    return np.asarray(1 / (1 + np.exp(-(calibrator.slope * log_odds + calibrator.intercept))))


def calibrate_one(calibrator: Calibrator, probability: float) -> float:
    """Calibrate one probability. For a single number, numpy would take ten times as long."""
    bounded = min(max(probability, SMALLEST_RISK), 1 - SMALLEST_RISK)
    log_odds = calibrator.slope * math.log(bounded / (1 - bounded)) + calibrator.intercept
    return 0.0 if log_odds < -_LARGEST_EXPONENT else 1 / (1 + math.exp(-log_odds))


def largest_difference(risks: list[float], expected: list[float]) -> float:
    """Return the largest absolute difference, or infinity if the lengths differ or a value is NaN."""
    if len(risks) != len(expected) or not expected:
        return float("inf")
    worst = float(np.max(np.abs(np.subtract(risks, expected))))
    return worst if worst == worst else float("inf")  # noqa: PLR0124 -- NaN


def contract_as_data() -> list[dict[str, Any]]:
    """Return the contract of the feature columns in the form in which a bundle stores it."""
    rows = ({key: getattr(column, key) for key in _CONTRACT_KEYS} for column in FEATURE_COLUMNS)
    data: list[dict[str, Any]] = json.loads(json.dumps(list(rows)))
    return data


def _check_unaltered(path: Path, manifest: Manifest, content: Mapping[str, bytes]) -> None:
    altered = [name for name, data in content.items() if hashlib.sha256(data).hexdigest() != manifest.files[name]]
    if altered:
        raise BundleError(
            f"Changed after the bundle was built: {', '.join(altered)} in {path}. Fetch the bundle again."
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"Incomplete bundle: {path} cannot be read ({error.strerror}). Fetch it again.") from error
