"""Build a bundle. It is written as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from healthpredict.bundle.explainer import Explainer
from healthpredict.bundle.manifest import CodeSystem, Manifest
from healthpredict.bundle.model import (
    CARD,
    CARD_PAGE,
    CONTRACT,
    ENCODER,
    EXPLAINED_WITHIN,
    EXPLAINER,
    GOLDEN,
    ICD10,
    MANIFEST,
    MODEL,
    REFERENCE,
    Bundle,
    GoldenRow,
    StoredCard,
    contract_as_data,
    load_bundle,
)
from healthpredict.bundle.onnx_model import OnnxModel
from healthpredict.data.diagnosis import Coding
from healthpredict.errors import BundleError
from healthpredict.features.encoder import Encoder

MakeCard = Callable[[Manifest], StoredCard]
"""Makes the model card of a bundle from its manifest, which does not list the card's own files yet."""


def build_bundle(
    path: Path,
    *,
    manifest: dict[str, Any],
    encoder: Encoder,
    onnx_model: bytes,
    reference: dict[str, Any],
    golden: list[GoldenRow],
    explainer: Explainer | None = None,
    make_card: MakeCard | None = None,
) -> Bundle:
    """Write a bundle, read it back and check its golden rows.

    Args:
        path: of the folder. An existing bundle is replaced.
        manifest: the fields of `Manifest` except `code_systems` and `files`.
        encoder: fitted.
        onnx_model: input `features` float32 (n, n_features), output `probabilities` float32 (n, 2).
        reference: reference profile for drift, as plain data.
        golden: rows with the risks that the training pipeline predicts for them.
        explainer: of the model; None for a bundle without explanations.
        make_card: makes the model card; None for a bundle without one.

    Returns:
        The bundle as it will be served.

    Raises:
        BundleError: the bundle does not reproduce the golden rows, or its explanations do not add up to their risks. An existing
            bundle at `path` is unchanged.
        ValueError: a number is not finite. An existing bundle at `path` is unchanged.
    """
    content = {
        MODEL: onnx_model,
        ENCODER: _json(encoder.to_json()),
        ICD10: _json(encoder.icd10.to_json()),
        CONTRACT: _json(contract_as_data()),
        REFERENCE: _json(reference),
        GOLDEN: _json([{"record": row.record, "risk": row.risk} for row in golden]),
    }
    if explainer is not None:
        content[EXPLAINER] = explainer.to_bytes()
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        complete = Manifest(**manifest, code_systems=_code_systems(encoder), files=_digests(content))
        if make_card is not None:
            card = make_card(complete)
            content |= {CARD: card.data, CARD_PAGE: card.page}
            complete = complete.model_copy(update={"files": _digests(content)})
        for name, data in content.items():
            (partial / name).write_bytes(data)
        (partial / MANIFEST).write_bytes(_json(complete.model_dump(mode="json")))
        built = load_bundle(partial)
        built.verify()
        # If the loaded model is decision tables, the ONNX model has not been checked yet. Other tools read it.
        replace(built, model=OnnxModel(onnx_model)).verify()
        _verify_explanations(built)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)  # noqa: PTH105 -- replaces, as Path.rename does not on every platform
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load_bundle(path)


def _digests(content: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}


def _code_systems(encoder: Encoder) -> tuple[CodeSystem, ...]:
    mapped = encoder.icd10
    return (
        CodeSystem(name=Coding.ICD9, source="the training data"),
        CodeSystem(name=Coding.ICD10, source=mapped.source, date=mapped.date),
    )


def _verify_explanations(bundle: Bundle) -> None:
    for row in bundle.golden:
        explanation = bundle.explain(bundle.encode(row.record))
        if explanation is not None and not abs(explanation.risk - row.risk) <= EXPLAINED_WITHIN:
            raise BundleError(
                f"The explanation of a golden row adds up to a risk that differs from the predicted one by "
                f"{abs(explanation.risk - row.risk):.1e} (allowed: {EXPLAINED_WITHIN:.0e}). Was the explainer built for it?"
            )


def _json(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
