"""Many encounters in one request."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest
from bundles import as_records, draw_encounters
from in_a_thread import Serve

from healthpredict.bundle.model import Bundle
from healthpredict.serving.app import create_app
from healthpredict.serving.batch import read_batch
from healthpredict.serving.encounter import as_sent
from healthpredict.serving.limits import Limits
from healthpredict.serving.problems import ProblemError

GOOD = [as_sent(record) for record in as_records(draw_encounters(300, seed=4))]


def ask(api: httpx.Client, rows: list[Any]) -> dict[str, Any]:
    answer: dict[str, Any] = api.post("/predict/batch", json={"encounters": rows}).raise_for_status().json()
    return answer


def test_a_batch_gives_what_single_requests_give(api: httpx.Client, bundle: Bundle) -> None:
    answer = ask(api, GOOD)
    single = [api.post("/predict", json=row).json() for row in GOOD]
    assert [row["readmission_risk"] for row in answer["results"]] == pytest.approx(
        [row["readmission_risk"] for row in single], abs=1e-7
    )
    assert [row["high_risk"] for row in answer["results"]] == [row["high_risk"] for row in single]
    assert (answer["predicted"], answer["refused"], answer["bundle_digest"]) == (300, 0, bundle.digest)


def test_a_wrong_row_has_its_own_problem_and_harms_no_other(api: httpx.Client) -> None:
    died = GOOD[1] | {"discharge_disposition_id": "11"}
    answer = ask(api, [GOOD[0], died, 7, GOOD[2], GOOD[3] | {"age": "SECRET", "shoe_size": 1}])
    assert (answer["predicted"], answer["refused"]) == (2, 3)
    assert [row["problem"] is None for row in answer["results"]] == [True, False, False, True, False]
    assert answer["results"][3]["readmission_risk"] == pytest.approx(
        api.post("/predict", json=GOOD[2]).json()["readmission_risk"], abs=1e-7
    )
    assert [error["field"] for error in answer["results"][4]["problem"]["errors"]] == ["age", "shoe_size"]
    for row, sent in ((1, died), (4, GOOD[3] | {"age": "SECRET", "shoe_size": 1})):
        assert answer["results"][row]["problem"] == api.post("/predict", json=sent).json()
    assert "SECRET" not in json.dumps(answer)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("name", ["weight", "num_procedures", "diag_1", "age"])
def test_what_is_not_a_number_refuses_its_row_only(api: httpx.Client, name: str, value: str) -> None:
    """Also beside a text that contains the word, quotes and a negative number, and if the whole row is such a value."""
    odd = GOOD[1] | {"medical_specialty": f'"{value}, \\" {value}', "num_medications": -1}
    body = json.dumps({"encounters": [GOOD[0], GOOD[2] | {name: "PLACE"}, odd, "PLACE", GOOD[0]]})
    answer = api.post("/predict/batch", content=body.replace('"PLACE"', value)).raise_for_status().json()
    results = answer["results"]
    assert [row["problem"] is None for row in results] == [True, False, False, False, True]
    single = api.post("/predict", content=json.dumps(GOOD[2] | {name: "PLACE"}).replace('"PLACE"', value))
    assert (single.status_code, single.json()) == (422, results[1]["problem"])
    assert [error["field"] for error in results[1]["problem"]["errors"]] == [name]
    assert results[2]["problem"] == api.post("/predict", json=odd).json()
    assert results[0]["readmission_risk"] == results[4]["readmission_risk"]


@pytest.mark.parametrize(
    "body",
    [
        '{"encounters": ROWS, "encounters": ROWS}',
        '{"encounters": [], "encounters": ROWS}',
        '{"encounters": ROWS, "encounters": []}',
        '{"encounters":[],"\\u0065ncounters":[]}',
        '{"encounters": [1, 2], "encounters": [1]}',
        '{"encounters": [1], "encounters": [1, 2]}',
        '{"encounters": [NaN], "encounters": [NaN]}',
    ],
)
def test_a_list_that_is_given_twice_is_refused(api: httpx.Client, body: str) -> None:
    response = api.post("/predict/batch", content=body.replace("ROWS", json.dumps(GOOD[:2])))
    assert response.status_code == 422
    assert response.json()["errors"] == [{"field": "encounters", "problem": "is given twice"}]


@pytest.mark.parametrize("indent", [None, 0, 4])
def test_a_batch_may_have_any_spaces(api: httpx.Client, indent: int | None) -> None:
    for rows in ([], GOOD[:3]):
        body = f" \n{json.dumps({'encounters': rows}, indent=indent)}\r\n "
        assert api.post("/predict/batch", content=body).raise_for_status().json()["predicted"] == len(rows)


@pytest.mark.parametrize("rows", [[], [None, {}]])
def test_a_batch_without_a_good_row_is_answered(api: httpx.Client, rows: list[Any]) -> None:
    answer = ask(api, rows)
    assert (answer["predicted"], answer["refused"], len(answer["results"])) == (0, len(rows), len(rows))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b'{"encounters": [', 400),
        (b'{"encounters": ["\xff"]}', 400),
        (b"\xff", 400),
        (b"[" * 50_000, 400),
        (b'{"encounters": ' + b"[" * 50_000, 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"encounters": {}}', 422),
        (b'{"encounters": [], "more": 1}', 422),
    ],
)
def test_what_is_not_a_batch_is_refused_whole(api: httpx.Client, body: bytes, status: int) -> None:
    assert api.post("/predict/batch", content=body).status_code == status


def test_too_many_rows_are_refused_before_any_is_read(bundle: Bundle, serve_app: Serve) -> None:
    client = serve_app(create_app(bundle, limits=Limits(batch_rows=2)))
    response = client.post("/predict/batch", json={"encounters": [1, 2, 3]})
    assert (response.status_code, response.json()["detail"][:37]) == (413, "There are 3 encounters, and 2 is the ")
    assert client.post("/predict/batch", json={"encounters": [1, 2]}).status_code == 200


def test_single_requests_are_answered_while_a_large_batch_is(api: httpx.Client) -> None:
    """The largest batch takes half a second or more; a health probe in between must not wait for it."""
    body = json.dumps({"encounters": GOOD * 33 + GOOD[:100]}).encode()
    done: list[httpx.Response] = []
    batch = threading.Thread(target=lambda: done.append(api.post("/predict/batch", content=body, timeout=60)))
    batch.start()
    waits = []
    while batch.is_alive():
        started = time.perf_counter()
        assert api.get("/health/live").status_code == 200
        waits.append(time.perf_counter() - started)
    batch.join()
    assert done[0].json()["predicted"] == 10_000
    assert len(waits) > 5


def test_the_example_of_a_batch_is_real(api: httpx.Client) -> None:
    operation = api.get("/openapi.json").json()["paths"]["/predict/batch"]["post"]
    sent = operation["requestBody"]["content"]["application/json"]["example"]
    shown = operation["responses"]["200"]["content"]["application/json"]["example"]
    answer = api.post("/predict/batch", json=sent).json()
    assert answer["results"][0]["readmission_risk"] == pytest.approx(shown["results"][0]["readmission_risk"], abs=1e-7)
    assert list(answer) == [
        "results",
        "predicted",
        "refused",
        "threshold",
        "model_version",
        "bundle_digest",
        "request_id",
    ]
    assert set(answer) == set(shown)


def test_millions_of_tiny_rows_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthpredict.serving.batch.read_list", None)
    with pytest.raises(ProblemError) as refused:
        read_batch(b'{"encounters":[' + b"0," * 2_000_000 + b"0]}", 10_000)
    assert refused.value.problem.status == 413
