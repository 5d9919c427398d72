"""Hostile JSON causes no error of the service, and no value is repeated."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from bundles import as_records, draw_encounters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_a_thread import served

from healthpredict.bundle.model import Bundle
from healthpredict.data.contract import BY_FIELD
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.app import create_app
from healthpredict.serving.encounter import as_sent

GOOD = as_sent(as_records(draw_encounters(1, seed=12))[0]) | {"encounter_id": 4711, "patient_nbr": 815}
OUTCOME = {"encounter_id": 4711, "readmitted": "NO"}
SECRET = "SECRET"
DEEP = 100_000
PATHS = ("/predict", "/explain", "/predict/batch", "/outcomes")

Wrap = Callable[[Any], dict[str, Any]]
AROUND: dict[str, Wrap] = {
    "/predict": lambda change: {**GOOD, **change},
    "/explain": lambda change: {**GOOD, **change},
    "/predict/batch": lambda change: {"encounters": [GOOD, {**GOOD, **change}, change]},
    "/outcomes": lambda change: {"outcomes": [OUTCOME, {**OUTCOME, **change}]},
}
"""A valid body, with one part replaced."""

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**20, 10**40)
    | st.floats()
    | st.sampled_from([1e308, -1e308, 5e-324, -0.0, 2**63, -(2**63) - 1, 10**4000])
    | st.text("αβγδ\x00\ud800", min_size=4, max_size=20)
)
ANY_JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["age", "x", ""]), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*GOOD, "readmitted", "glyburide_metformin", "encounters", "outcomes", "made-up", ""])


@pytest.fixture(scope="module")
def api(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("hostile")
    with closing(PredictionLog(folder, bytes(32))) as log, served(create_app(bundle, log=log)) as client:
        yield client


def ask(api: httpx.Client, path: str, body: bytes) -> httpx.Response:
    response = api.post(path, content=body)
    assert response.status_code in (200, 400, 413, 422), response.text[:500]
    kind = "application/json" if response.status_code == 200 else "application/problem+json"
    assert response.headers["content-type"] == kind
    response.json()
    return response


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


@pytest.mark.parametrize("path", PATHS)
@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(change=st.dictionaries(NAMES, ANY_JSON, max_size=4) | ANY_JSON)
def test_no_value_is_repeated(api: httpx.Client, path: str, change: Any) -> None:
    data = AROUND[path](change) if isinstance(change, dict) else change
    said = ask(api, path, json.dumps(data).encode()).text
    for leaf in leaves(change):
        if isinstance(leaf, str):
            assert not set(said) & set("αβγδ")
        elif isinstance(leaf, int | float) and abs(leaf) > 10**6:  # not a number is not
            assert json.dumps(leaf)[:20] not in said


ODD_VALUES = {
    "a huge string": f'"{SECRET * 5000}"',
    "a huge integer": "7" * 5000,
    "a number too large": "1e400",
    "the largest number": "1e308",
    "a number too small": "1e-99999999999999999999",
    "nothing with an exponent too large": "0e99999999999999999999",
    "not a number": "NaN",
    "endless": "-Infinity",
    "a lone surrogate": f'"{SECRET}\\ud800"',
    "a null character": f'"{SECRET}\\u0000"',
    "a control character": f'"{SECRET}\n"',
    "lists in lists": "[" * 500 + "]" * 500,
    "lists in too many lists": "[" * 10_000 + "]" * 10_000,
    "lists without end": "[" * 20_000,
    "objects in objects": '{"a":' * 5000 + "1" + "}" * 5000,
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("what", ODD_VALUES)
def test_odd_values_are_refused(api: httpx.Client, path: str, what: str) -> None:
    """Each replaces the identifier; in a batch, the other row is answered."""
    body = json.dumps(AROUND[path]({"encounter_id": "PLACE"})).replace('"PLACE"', ODD_VALUES[what]).encode()
    answer = ask(api, path, body)
    assert answer.status_code in (400, 422) or answer.json()["refused"] == 2
    assert SECRET not in answer.text
    assert "7" * 20 not in answer.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP,
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP,
        b'{"encounters":[' * DEEP,
        b'{"outcomes":[{"x":' + b"[" * DEEP,
    ],
    ids=["lists", "closed lists", "objects", "batches", "outcomes"],
)
def test_any_depth_is_refused(api: httpx.Client, path: str, body: bytes) -> None:
    assert ask(api, path, body).status_code in (400, 413, 422)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "gzip", "cp037"])
def test_another_encoding_than_utf_8_is_not_json(api: httpx.Client, path: str, encoding: str) -> None:
    text = json.dumps(AROUND[path]({"x": f"{SECRET}é"}), ensure_ascii=False)
    body = gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding)
    answer = ask(api, path, body)
    assert answer.status_code == 400 or (path, encoding) == ("/predict/batch", "latin-1")
    assert SECRET not in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_a_name_that_is_given_twice_is_refused_whichever_value_is_right(api: httpx.Client, path: str) -> None:
    for name in ("encounter_id", "patient_nbr") if path != "/outcomes" else ("encounter_id",):
        right = json.dumps(AROUND[path]({}))
        wrong_first = right.replace(f'"{name}"', f'"{name}": "{SECRET}", "{name}"')
        wrong_last = right.replace(f'"{name}": {GOOD[name]}', f'"{name}": {GOOD[name]}, "{name}": "{SECRET}"')
        both_right = right.replace(f'"{name}": {GOOD[name]}', f'"{name}": {GOOD[name]}, "{name}": {GOOD[name]}')
        assert len({right, wrong_first, wrong_last, both_right}) == 4
        for body in (wrong_first, wrong_last, both_right):
            answer = ask(api, path, body.encode())
            assert answer.status_code == 422 or answer.json()["refused"] == 3
            assert name in answer.text
            assert "is given twice" in answer.text
            assert SECRET not in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_a_byte_order_mark_is_accepted(api: httpx.Client, path: str) -> None:
    right = {"encounters": [GOOD]} if path == "/predict/batch" else AROUND[path]({})
    answer = ask(api, path, b"\xef\xbb\xbf" + json.dumps(right).encode())
    assert answer.status_code == 200
    assert answer.json().get("refused", 0) == 0


def test_values_in_place_of_names_are_cut(api: httpx.Client) -> None:
    """An unknown name is repeated, so that the caller finds it, but not more of it than the longest column name has."""
    answer = ask(api, "/predict", json.dumps({**GOOD, "x" * 1000: 1}).encode())
    assert max(len(error["field"]) for error in answer.json()["errors"]) == 64
    assert max(map(len, BY_FIELD)) < 64
    answer = ask(api, "/outcomes", json.dumps(AROUND["/outcomes"]({SECRET: 1})).encode())
    assert answer.status_code == 422
    assert SECRET not in answer.text
