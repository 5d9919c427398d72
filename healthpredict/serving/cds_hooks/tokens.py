"""Check the tokens by which EHRs identify themselves (CDS Hooks 2.0, "Trusting CDS Clients"): signed JSON Web Tokens (RFC 7519)."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import jwt

from healthpredict.cds_hooks_params import CdsHooksParams, TrustedClient
from healthpredict.errors import ConfigurationError
from healthpredict.serving.keys import bearer

_ALGORITHMS: Final = ("ES384", "RS384")
"""The algorithms that the specification recommends. It forbids symmetric algorithms and `none`."""
_CLAIMS: Final = ("iss", "aud", "exp", "iat", "jti")
_CLOCK_SECONDS: Final = 30
"""Clocks of EHR and service may differ by this much."""
_LONGEST_SECONDS: Final = 900
"""Longest validity of a token. Until it ends, the token is remembered, so that it cannot be used again."""
_KEYS_SECONDS: Final = 3600.0
"""Age at which keys are fetched again, because the EHR may have withdrawn one."""
_OUTAGE_SECONDS: Final = 86_400.0
"""Age up to which keys are accepted if they cannot be fetched again."""
_BETWEEN_FETCHES_SECONDS: Final = 10.0
"""Keys are not fetched more often, even if tokens name unknown keys."""
_FETCH_SECONDS: Final = 3.0
_MAX_KEYS_BYTES: Final = 256 * 1024


class TokenError(Exception):
    """A token is not accepted. The message says why, and contains nothing from the token."""


class Tokens:
    """Checks tokens, and remembers those that were used: each is accepted once."""

    def __init__(self, params: CdsHooksParams) -> None:
        """Args: params, with the trusted clients.

        Raises:
            ConfigurationError: a file of public keys cannot be used.
        """
        self._base_url = (params.base_url or "").rstrip("/")
        self._clients = {client.issuer: (client, _KeySet(client)) for client in params.clients}
        self._used: dict[tuple[str, str], float] = {}

    async def problem(self, authorization: str | None, path: str) -> str | None:
        """Check the token of a request. If it is accepted, it counts as used.

        Args:
            authorization: the header, or None if there is none.
            path: path of the request. The token must have been made for `base_url` with this path.

        Returns:
            Why it is not accepted, or None if it is.
        """
        try:
            await self._check(bearer(authorization), path)
        except TokenError as error:
            return str(error)
        return None

    async def _check(self, token: str | None, path: str) -> None:
        if token is None:
            raise TokenError("There is no token.")
        try:
            header = jwt.get_unverified_header(token)
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except jwt.InvalidTokenError:
            raise TokenError("The token is not a JSON Web Token.") from None
        if not isinstance(issuer, str) or issuer not in self._clients:
            raise TokenError("The issuer of the token is not trusted. Ask the hospital to list it.")
        client, key_set = self._clients[issuer]
        if header.get("jku") not in (None, client.jwks_url):
            raise TokenError("The header jku of the token is not the URL of this issuer's keys.")
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in _ALGORITHMS:
            raise TokenError(f"The token is not signed with {' or '.join(_ALGORITHMS)}.")
        if not isinstance(kid, str):
            raise TokenError("The header of the token names no key (kid).")
        claims = self._verified(token, await key_set.key(kid, algorithm), algorithm, issuer, path)
        self._use_once(issuer, claims)

    def _verified(self, token: str, key: jwt.PyJWK, algorithm: str, issuer: str, path: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=f"{self._base_url}{path}",
                issuer=issuer,
                leeway=_CLOCK_SECONDS,
                options={"require": list(_CLAIMS)},
            )
        except jwt.ExpiredSignatureError:
            raise TokenError("The token has expired.") from None
        except jwt.InvalidAudienceError:
            raise TokenError("The token was made for another URL (aud).") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenError(f"The token has no {error.claim}.") from None
        except jwt.ImmatureSignatureError:
            raise TokenError("The token was made in the future (iat, nbf).") from None
        except jwt.InvalidTokenError:
            raise TokenError("The signature or a claim of the token is not valid.") from None
        return claims

    def _use_once(self, issuer: str, claims: Mapping[str, Any]) -> None:
        now = time.time()
        end = float(claims["exp"]) + _CLOCK_SECONDS
        if float(claims["exp"]) - now > _LONGEST_SECONDS + _CLOCK_SECONDS:
            raise TokenError(f"The token is valid for more than {_LONGEST_SECONDS} seconds.")
        # Tokens are valid for about the same time, so the oldest expire first. One that is valid for longer delays this a little.
        while self._used and next(iter(self._used.values())) < now:
            self._used.pop(next(iter(self._used)))
        used = (issuer, str(claims["jti"]))
        if self._used.get(used, 0.0) >= now:
            raise TokenError("The token was used before (jti). Make one for each request.")
        self._used.pop(used, None)  # so that the new entry is the last one
        self._used[used] = end


class _KeySet:
    """The public keys of one client (RFC 7517). Those at a URL are fetched again when they are old or a key is unknown."""

    def __init__(self, client: TrustedClient) -> None:
        self._url = client.jwks_url
        self._keys: dict[str, dict[str, Any]] = {}
        self._parsed: dict[tuple[str, str], jwt.PyJWK] = {}
        self._fetched = self._tried = -math.inf
        self._fetching = asyncio.Lock()
        if client.jwks_file is not None:
            self._keys = _read_file(client.jwks_file)

    async def key(self, kid: str, algorithm: str) -> jwt.PyJWK:
        """Return a key.

        Raises:
            TokenError: there is no such key, or the keys cannot be fetched.
        """
        if self._url is not None and self._is_stale(kid):
            async with self._fetching:  # requests that need the same keys wait for them
                if self._is_stale(kid) and time.monotonic() - self._tried >= _BETWEEN_FETCHES_SECONDS:
                    self._tried = time.monotonic()
                    await self._fetch(self._url)
        if not self._keys:
            raise TokenError("The public keys of the token's issuer cannot be fetched. Try again.")
        if kid not in self._keys:
            raise TokenError("The issuer of the token has no key with this kid.")
        if (kid, algorithm) not in self._parsed:
            try:
                self._parsed[kid, algorithm] = jwt.PyJWK(self._keys[kid], algorithm=algorithm)
            except jwt.PyJWTError:
                raise TokenError(f"The issuer's key with this kid is not one for {algorithm}.") from None
        return self._parsed[kid, algorithm]

    def _is_stale(self, kid: str) -> bool:
        return kid not in self._keys or time.monotonic() - self._fetched >= _KEYS_SECONDS

    async def _fetch(self, url: str) -> None:
        """Fetch the keys. If that fails, those that are there stay in use, but not for longer than an outage may last."""
        try:
            async with httpx.AsyncClient(timeout=_FETCH_SECONDS) as http:
                response = await http.get(url, headers={"accept": "application/json"})
            response.raise_for_status()
            keys = _by_kid(response.content)
        except (httpx.HTTPError, ValueError):
            if time.monotonic() - self._fetched >= _OUTAGE_SECONDS:
                self._keys = {}
            return
        self._keys, self._parsed, self._fetched = keys, {}, time.monotonic()


def _by_kid(text: bytes) -> dict[str, dict[str, Any]]:
    """Return the keys of a JWK set by their `kid`. Raises: ValueError, if the text is not a JWK set."""
    if len(text) > _MAX_KEYS_BYTES:
        raise ValueError("too long")
    data = json.loads(text)
    keys = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(keys, Sequence) or isinstance(keys, str):
        raise ValueError("no list of keys")
    return {key["kid"]: key for key in keys if isinstance(key, dict) and isinstance(key.get("kid"), str)}


def _read_file(path: Path) -> dict[str, dict[str, Any]]:
    try:
        keys = _by_kid(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}). Name a file of public keys.") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not a JSON Web Key Set ({error}). Ask the EHR for one.") from error
    if not keys:
        raise ConfigurationError(f"{path} contains no key with a kid. Ask the EHR for its public keys.")
    return keys
