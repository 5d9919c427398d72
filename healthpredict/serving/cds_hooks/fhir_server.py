"""Read what an EHR did not prefetch from its FHIR server, with the token of the request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final
from urllib.parse import urljoin

import httpx
import msgspec

from healthpredict.serving.cds_hooks.hook_request import AnyRequest

_MAX_PAGES: Final = 10
"""Pages of one search. A server that sends more has more than any prediction needs."""
_MAX_BYTES: Final = 16 * 1024 * 1024
"""Size of all pages of one search."""


class FhirServerError(Exception):
    """The FHIR server did not answer a query. The message says why, and contains nothing from its response."""


async def read_missing(request: AnyRequest, queries: Iterable[str], seconds: float) -> list[bytes]:
    """Run the queries of the missing prefetch keys at the same time.

    Args:
        request: with the URL of the server, and perhaps a token. The caller has checked that the hospital allows the server.
        queries: URLs relative to the server's.
        seconds: time limit for all queries together.

    Returns:
        The JSON texts of all pages of all queries.

    Raises:
        FhirServerError: a query failed, or took too long.
    """
    assert request.fhir_server is not None
    base = request.fhir_server.rstrip("/")
    headers = {"accept": "application/fhir+json"}
    if request.fhir_authorization is not None:
        headers["authorization"] = f"Bearer {request.fhir_authorization.access_token}"
    try:
        async with asyncio.timeout(seconds), httpx.AsyncClient(headers=headers, timeout=seconds) as http:
            found = await asyncio.gather(*(_pages(http, base, f"{base}/{query}") for query in queries))
    except TimeoutError:
        raise FhirServerError(f"The FHIR server did not answer within {seconds:g} seconds.") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:  # also a token that no header can contain
        raise FhirServerError(f"The FHIR server cannot be read ({type(error).__name__}).") from None
    return list(chain.from_iterable(found))


async def _pages(http: httpx.AsyncClient, base: str, url: str) -> list[bytes]:
    pages: list[bytes] = []
    size = 0
    while url:
        content = bytearray()
        async with http.stream("GET", url) as response:
            if response.status_code in (404, 410):
                return pages
            if response.status_code != 200:
                raise FhirServerError(f"The FHIR server answered {response.status_code}.")
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(pages) >= _MAX_PAGES or size + len(content) > _MAX_BYTES:
                    raise FhirServerError("The FHIR server sent more than a prediction needs.")
        size += len(content)
        try:
            page = msgspec.json.decode(content, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise FhirServerError("The FHIR server did not answer with JSON.") from None
        pages.append(bytes(content))
        url = _next(page, base)
    return pages


def _next(page: Mapping[str, Any], base: str) -> str:
    """Return the URL of the next page, or an empty string if there is none.

    Raises:
        FhirServerError: the URL names another server, which must not get the token.
    """
    links = page.get("link")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("relation") == "next":
            url = urljoin(f"{base}/", str(link.get("url")))
            if not url.startswith((f"{base}/", f"{base}?")):
                raise FhirServerError("The next page is on another server.")
            return url
    return ""
