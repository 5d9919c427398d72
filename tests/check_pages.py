"""Check that the built documentation loads nothing from a network: `python -m tests.check_pages build/docs`."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

_LOADED_BY = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}
"""Tag to the attribute whose address the browser fetches. A link of `<a>` is only followed by people."""
_REMOTE = re.compile(r"(https?:)?//")
_IN_CSS = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""")


class _Page(HTMLParser):
    """Collects what a page fetches."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        address = attributes.get(_LOADED_BY.get(tag, "")) or ""
        if _REMOTE.match(address) and attributes.get("rel") != "canonical":
            self.fetched.append(address)
        if "mermaid" in (attributes.get("class") or "").split():
            self.fetched.append("the script that draws Mermaid diagrams")


def remote_resources(folder: Path) -> list[str]:
    """One line for each address outside the folder that a page or a stylesheet fetches."""
    found = [f"{page}: {address}" for page in sorted(folder.rglob("*.html")) for address in _Page(page).fetched]
    for sheet in sorted(folder.rglob("*.css")):
        found += [f"{sheet}: {address}" for address in _IN_CSS.findall(sheet.read_text(encoding="utf-8"))]
    return found


def main(folder: str) -> None:
    pages = list(Path(folder).rglob("*.html"))
    assert pages, f"There are no pages in {folder}"
    if found := remote_resources(Path(folder)):
        sys.exit("The pages must load nothing from a network:\n" + "\n".join(found))
    print(f"{len(pages)} pages in {folder} load nothing from a network")


if __name__ == "__main__":
    main(sys.argv[1])
