"""`GET /model/card` sends the card of the bundle: JSON, or the page to a browser."""

from __future__ import annotations

import dataclasses

import httpx
import pytest
from in_a_thread import Serve

from healthpredict.bundle.model import Bundle, StoredCard
from healthpredict.serving.app import create_app
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.model_card import prefers_html

CARD = StoredCard(b'{"version":1}', b"<!doctype html><p>A card")
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.fixture
def with_card(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, card=CARD)


def test_programs_get_json_and_browsers_the_page(with_card: Bundle, serve_app: Serve) -> None:
    api = serve_app(create_app(with_card))
    data = api.get("/model/card")
    assert (data.status_code, data.content, data.headers["content-type"]) == (200, CARD.data, "application/json")
    page = api.get("/model/card", headers={"Accept": BROWSER})
    assert (page.content, page.headers["content-type"]) == (CARD.page, "text/html; charset=utf-8")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["vary"] == data.headers["vary"] == "Accept"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML; Q=0.9, application/json;q=0.8", True),
        ("text/*", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("text/html;q=0.5, application/*", False),
        ("text/html;q=0", False),
        ("text/html;q=much", False),
        (",;,;q=", False),
    ],
)
def test_html_is_sent_only_if_it_is_preferred(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html


def test_a_bundle_without_a_card_has_none(api: httpx.Client) -> None:
    response = api.get("/model/card")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
    assert "built without a model card" in response.json()["detail"]


@pytest.mark.usefixtures("key")
def test_the_card_needs_no_key_because_cards_of_cds_hooks_link_to_it(
    with_card: Bundle, serve_app: Serve, keys_path
) -> None:
    api = serve_app(create_app(with_card, keys=KeyRing(keys_path)))
    assert api.get("/model").status_code == 401
    assert api.get("/model/card").content == CARD.data
