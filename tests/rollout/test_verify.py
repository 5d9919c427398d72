"""A service is verified with its golden rows, also while pods are being replaced."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from healthpredict.bundle.model import Bundle
from healthpredict.rollout.verify import verify_golden_rows

Answer = Callable[[httpx.Request], httpx.Response]


def serving(bundle: Bundle, digest: str) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        risk = bundle.risk(json.loads(request.content))
        return httpx.Response(200, json={"readmission_risk": risk, "bundle_digest": digest})

    return answer


def gone(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("No route to host", request=request)


def broken(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(500)


def verified(bundle: Bundle, answers: list[Answer], patience: float) -> str | None:
    """The problem, if the answers come one after the other and the last one stays."""

    def answer(request: httpx.Request) -> httpx.Response:
        return (answers.pop(0) if len(answers) > 1 else answers[0])(request)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        return verify_golden_rows(client, "http://service", bundle, patience=patience).problem


def test_a_pod_that_is_gone_and_the_previous_bundle_are_waited_for(bundle: Bundle) -> None:
    good = serving(bundle, bundle.digest)
    assert verified(bundle, [gone, serving(bundle, "f" * 64), gone, good], patience=30) is None


@pytest.mark.parametrize(
    ("answer", "patience", "problem"),
    [
        (gone, 0.0, "did not answer its golden rows: No route to host"),
        (gone, 0.5, "did not answer its golden rows: No route to host"),
        (broken, 300.0, "did not answer its golden rows: Server error"),
    ],
)
def test_a_service_that_does_not_answer_is_not_verified(
    bundle: Bundle, answer: Answer, patience: float, problem: str
) -> None:
    assert str(verified(bundle, [answer], patience)).startswith(problem)


def test_another_bundle_that_stays_is_a_problem(bundle: Bundle) -> None:
    assert verified(bundle, [serving(bundle, "f" * 64)], patience=0.3) == "serves another bundle, ffffffffffff."
