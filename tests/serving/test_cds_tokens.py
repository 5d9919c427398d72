"""Tokens of EHRs: each is accepted once, and only if everything about it is right."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from healthpredict.cds_hooks_params import CdsHooksParams, TrustedClient, read_params
from healthpredict.errors import ConfigurationError
from healthpredict.serving.cds_hooks.tokens import Tokens

BASE, PATH, ISSUER = "https://risk.example", "/cds-services/readmission-risk", "https://ehr.example"
EC_KEY, RSA_KEY = ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)


def jwk(kid: str, key: Any = EC_KEY) -> dict[str, Any]:
    algorithm = (
        jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else jwt.algorithms.RSAAlgorithm
    )
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}


def token(key: Any = EC_KEY, algorithm: str = "ES384", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    now = int(time.time())
    body = {"iss": ISSUER, "aud": f"{BASE}{PATH}", "exp": now + 300, "iat": now, "jti": str(time.perf_counter_ns())}
    body = {name: value for name, value in {**body, **claims}.items() if value is not None}
    return jwt.encode(body, key, algorithm, headers={"kid": "ec", **(headers or {})})


def problem(tokens: Tokens, sent: str, path: str = PATH) -> str | None:
    return asyncio.run(tokens.problem(f"Bearer {sent}", path))


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk("ec"), jwk("rsa", RSA_KEY)]}))
    return Tokens(CdsHooksParams(base_url=BASE, clients=(TrustedClient(issuer=ISSUER, jwks_file=file),)))


def test_a_right_token_is_accepted(tokens: Tokens) -> None:
    assert problem(tokens, token()) is None
    assert problem(tokens, token(RSA_KEY, "RS384", {"kid": "rsa"})) is None
    assert problem(tokens, token(aud=["https://other.example", f"{BASE}{PATH}"])) is None


def test_a_file_of_keys_is_beside_the_file_of_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk("ec")]}))
    path = tmp_path / "cds-hooks.toml"
    path.write_text(f'base_url = "{BASE}"\n[[clients]]\nissuer = "{ISSUER}"\njwks_file = "jwks.json"\n')
    monkeypatch.chdir("/")
    assert problem(Tokens(read_params(path)), token()) is None


def test_a_token_is_accepted_once(tokens: Tokens) -> None:
    sent = token()
    assert problem(tokens, sent) is None
    assert problem(tokens, sent) == "The token was used before (jti). Make one for each request."
    assert problem(tokens, token(jti="same")) is None
    assert problem(tokens, token(jti="same", exp=int(time.time()) + 400)) is not None


@pytest.mark.parametrize(
    ("sent", "because"),
    [
        (lambda: token(exp=int(time.time()) - 60), "expired"),
        (lambda: token(iat=int(time.time()) + 600), "future"),
        (lambda: token(exp=int(time.time()) + 100_000), "valid for more than 900 seconds"),
        (lambda: token(iss="https://stranger.example"), "not trusted"),
        (lambda: token(iss=None), "not trusted"),
        (lambda: token(aud=f"{BASE}/cds-services/other"), "another URL"),
        (lambda: token(aud=f"{BASE}{PATH}/feedback"), "another URL"),
        (lambda: token(aud=None), "has no aud"),
        (lambda: token(jti=None), "has no jti"),
        (lambda: token(iat=None), "has no iat"),
        (lambda: token(exp=None), "has no exp"),
        (lambda: token(headers={"kid": "unknown"}), "no key with this kid"),
        (lambda: token(headers={"jku": "https://stranger.example/keys"}), "jku"),
        (lambda: token(ec.generate_private_key(ec.SECP384R1())), "not valid"),
        (lambda: token("secret" * 12, "HS384"), "not signed with"),
        (lambda: token(None, "none"), "not signed with"),
        (lambda: token(RSA_KEY, "RS384"), "not one for RS384"),
        (lambda: token(RSA_KEY, "RS256", {"kid": "rsa"}), "not signed with"),
        (lambda: token()[:-6] + "AAAAAA", "not valid"),
        (lambda: "hp_key", "not a JSON Web Token"),
        (lambda: "a.b.c", "not a JSON Web Token"),
        (lambda: f"{base64.urlsafe_b64encode(b'[]').decode()}.e30.e30", "not a JSON Web Token"),
    ],
)
def test_a_wrong_token_is_refused_with_the_reason(tokens: Tokens, sent: Callable[[], str], because: str) -> None:
    found = problem(tokens, sent())
    assert found is not None
    assert because in found


def test_a_request_without_a_token_is_refused(tokens: Tokens) -> None:
    assert asyncio.run(tokens.problem(None, PATH)) == "There is no token."
    assert asyncio.run(tokens.problem("Basic abc", PATH)) == "There is no token."


class _Keys(BaseHTTPRequestHandler):
    """Serves what `answers` holds, and counts the requests."""

    answers: bytes | None = None
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        if self.answers is None:
            self.send_error(500)
            return
        self.send_response(200)
        self.send_header("content-length", str(len(self.answers)))
        self.end_headers()
        self.wfile.write(self.answers)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def key_server() -> Iterator[tuple[type[_Keys], str]]:
    handler = type("_TheseKeys", (_Keys,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_port}/keys"
        server.shutdown()


def remote(url: str) -> Tokens:
    return Tokens(CdsHooksParams(base_url=BASE, clients=(TrustedClient(issuer=ISSUER, jwks_url=url),)))


def test_keys_are_fetched_once_and_again_when_they_rotate(
    key_server: tuple[type[_Keys], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, url = key_server
    keys.answers = json.dumps({"keys": [jwk("ec")]}).encode()
    tokens = remote(url)
    assert [problem(tokens, token(headers={"jku": url})) for _ in range(3)] == [None] * 3
    assert keys.requests == 1
    keys.answers = json.dumps({"keys": [jwk("new", RSA_KEY)]}).encode()
    assert "no key" in str(problem(tokens, token(headers={"kid": "new"}))), "not fetched again within ten seconds"
    later = time.monotonic() + 11
    monkeypatch.setattr("healthpredict.serving.cds_hooks.tokens.time.monotonic", lambda: later)
    assert problem(tokens, token(RSA_KEY, "RS384", {"kid": "new"})) is None
    assert keys.requests == 2
    assert "no key" in str(problem(tokens, token())), "the old key was withdrawn"


def test_requests_at_the_same_time_wait_for_the_same_keys(key_server: tuple[type[_Keys], str]) -> None:
    keys, url = key_server
    keys.answers = json.dumps({"keys": [jwk("ec")]}).encode()
    tokens = remote(url)

    async def at_once() -> list[str | None]:
        return await asyncio.gather(*(tokens.problem(f"Bearer {token()}", PATH) for _ in range(5)))

    assert asyncio.run(at_once()) == [None] * 5
    assert keys.requests == 1


def test_tokens_with_unknown_keys_do_not_delay_those_with_known_keys(
    key_server: tuple[type[_Keys], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, url = key_server
    keys.answers = json.dumps({"keys": [jwk("ec")]}).encode()
    tokens, later = remote(url), time.monotonic() + 11
    assert problem(tokens, token()) is None
    monkeypatch.setattr("healthpredict.serving.cds_hooks.tokens.time.monotonic", lambda: later)

    async def fetch(_keys: Any, _url: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("healthpredict.serving.cds_hooks.tokens._KeySet._fetch", fetch)

    async def both() -> str | None:
        unknown = asyncio.create_task(tokens.problem(f"Bearer {token(headers={'kid': 'new'})}", PATH))
        await asyncio.sleep(0)
        try:
            return await asyncio.wait_for(tokens.problem(f"Bearer {token()}", PATH), 5)
        finally:
            unknown.cancel()

    assert asyncio.run(both()) is None


@pytest.mark.parametrize("answer", [None, b"not JSON", b"[]", b'{"keys": "x"}', b" " * 300_000])
def test_keys_that_cannot_be_fetched_refuse_the_token(
    key_server: tuple[type[_Keys], str], answer: bytes | None
) -> None:
    keys, url = key_server
    keys.answers = answer
    tokens, message = remote(url), "The public keys of the token's issuer cannot be fetched. Try again."
    assert [problem(tokens, token()) for _ in range(2)] == [message, message]
    assert keys.requests == 1


def test_keys_that_were_fetched_stay_valid_while_the_ehr_cannot_be_reached(
    key_server: tuple[type[_Keys], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, url = key_server
    keys.answers = json.dumps({"keys": [jwk("ec")]}).encode()
    tokens, start = remote(url), time.monotonic()
    assert problem(tokens, token()) is None
    keys.answers = None
    for hours, accepted in ((2, True), (30, False)):
        monkeypatch.setattr(
            "healthpredict.serving.cds_hooks.tokens.time.monotonic", lambda now=start + 3600 * hours: now
        )
        assert (problem(tokens, token()) is None) == accepted


@pytest.mark.parametrize("text", [None, "x", "{}", '{"keys": []}'])
def test_a_file_of_keys_that_cannot_be_used_is_an_error(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "jwks.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"jwks\.json"):
        Tokens(CdsHooksParams(base_url=BASE, clients=(TrustedClient(issuer=ISSUER, jwks_file=file),)))
