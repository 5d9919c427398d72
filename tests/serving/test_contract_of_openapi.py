"""The OpenAPI document is true: every response to any request is one that it describes.

Schemathesis reads the document, as a caller would, and sends what fits it, what just fits, what just does not, other methods,
and requests without a key. It checks that no response is a 5xx or has a status, content type, header or field that is not
described, and that valid requests are accepted and invalid ones rejected.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from in_a_thread import served
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from healthpredict.bundle.manifest import Calibrator
from healthpredict.bundle.model import Bundle, StoredCard
from healthpredict.bundle.recalibrate import recalibrate_bundle
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.app import create_app
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.limits import Limits
from healthpredict.storage.key_file import add_key

CONFIG: dict[str, Any] = {
    "seed": 7,
    "generation": {"max-examples": 10, "deterministic": True, "database": "none"},
    # 413 is how too many rows are refused, which the JSON schema says too.
    "checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 405, 413, 422]}},
}
BATCH_ROWS = 20
"""Small, because Schemathesis also generates batches just above the limit."""
ONE = {200, 400, 401, 405, 422}
SEEN = {
    "/predict": ONE,
    "/explain": ONE,
    "/predict/batch": {*ONE, 413},
    "/outcomes": {*ONE, 413},
    "/cds-services": {200, 405},
    # Generated resources describe no stay, so none of them gets a card: see test_cds_hooks.py.
    "/cds-services/readmission-risk": {400, 401, 405, 412, 422},
    "/cds-services/readmission-risk/feedback": ONE,
    "/admin/reload": {200, 401, 405},
    "/model": {200, 401, 405},
    "/model/card": {200, 405},
    "/metrics": {200, 401, 405},
    "/health/live": {200, 405},
    "/health/ready": {200, 405},
}

Keys = dict[str, str]
"""The `Authorization` header of a caller and of an administrator."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openapi")


@pytest.fixture(scope="module")
def keys(folder: Path) -> Keys:
    return {kind: f"Bearer {add_key(folder / kind, 'someone')}" for kind in ("caller", "administrator")}


@pytest.fixture(scope="module")
def document(bundle: Bundle, folder: Path, keys: Keys) -> Iterator[schemathesis.BaseSchema]:
    """The document of a service with all endpoints, and with a model card."""
    served_bundle = recalibrate_bundle(
        bundle,
        folder / "bundle",
        Calibrator(slope=1, intercept=0),
        version=1,
        run_id="run",
        trigger="a test",
        batch=None,
        threshold=0.3,
        make_card=lambda _manifest: StoredCard(b"{}", b"<!doctype html>"),
    )
    with closing(PredictionLog(folder / "log", b"k" * 32)) as log:
        app = create_app(
            served_bundle,
            limits=Limits(batch_rows=BATCH_ROWS),
            keys=KeyRing(folder / "caller"),
            log=log,
            source=lambda: served_bundle.path,
            admin_keys=KeyRing(folder / "administrator"),
        )
        with served(app) as client:
            config = schemathesis.Config.from_dict(CONFIG)
            yield schemathesis.openapi.from_url(f"{client.base_url}/openapi.json", config=config)


@pytest.fixture
def seen() -> Iterator[dict[str, set[int]]]:
    """Statuses by path. Without this check, a run that never reached an endpoint would pass."""
    statuses: dict[str, set[int]] = defaultdict(set)
    yield statuses
    assert statuses == SEEN


@pytest.fixture(autouse=True)
def _node(request: pytest.FixtureRequest) -> None:
    # schemathesis 4.32 writes the operation into this attribute for its report; in pytest 9.2 it is not there at first.
    request.node._nodeid = request.node.nodeid


schema = schemathesis.pytest.from_fixture("document")


@schema.parametrize()
def test_every_answer_is_one_that_the_document_describes(
    case: schemathesis.Case, keys: Keys, seen: dict[str, set[int]]
) -> None:
    key = keys["administrator" if case.path.startswith("/admin/") else "caller"]
    response = case.call(headers={"Authorization": key})
    seen[case.path].add(response.status_code)
    meant = [negative_data_rejection] if case.path == "/predict/batch" and names_wrong_rows(response) else []
    if holds_whole_float(case.body) or names_diagnoses_only(response) or depends_on_the_hook(case):
        meant.append(positive_data_acceptance)
    case.validate_response(response, headers={"Authorization": key}, excluded_checks=meant)


def names_wrong_rows(response: schemathesis.Response) -> bool:
    """A batch with wrong rows is accepted, and the response names them."""
    return response.status_code == 200 and response.json()["refused"] > 0


def names_diagnoses_only(response: schemathesis.Response) -> bool:
    """Whether a code is one of the stated system, a JSON schema cannot say."""
    errors = response.json().get("errors") if response.status_code == 422 else None
    return bool(errors) and all(
        error["problem"].startswith("is ") and ", which is " in error["problem"] for error in errors
    )


def depends_on_the_hook(case: schemathesis.Case) -> bool:
    """Which context and which resources a call needs, and which suggestions a card had, a JSON schema cannot say."""
    return case.path.startswith("/cds-services/")


def holds_whole_float(value: Any) -> bool:
    """In JSON Schema, 3.0 is a whole number. In the contract it is not, which the document states in a description."""
    if isinstance(value, dict | list):
        return any(map(holds_whole_float, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and value.is_integer()


def test_the_document_names_every_endpoint_and_the_largest_identifier(document: schemathesis.BaseSchema) -> None:
    """A limit that is written as a float is a different number."""
    raw = document.raw_schema
    assert set(raw["paths"]) == set(SEEN)
    body = raw["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["patient_nbr"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
