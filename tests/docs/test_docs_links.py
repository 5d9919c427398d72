"""What README and docs point at exists. mkdocs, in strict mode, checks links between the pages of docs/ as well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.check_pages import remote_resources

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
MAX_LINES = 150
MAX_IMAGE_BYTES = 150_000


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+://", link):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    """Of the repository; `reports/` and `docker-compose/secrets` are made by commands, `var/` by a run."""
    made = ("docker-compose/secrets", "docker-compose/hospital", "docker-compose/.env", "infra/Pulumi.prod.yaml")
    tops = ("benchmarks", "docker-compose", "flows", "healthpredict", "infra", "k8s", "notebooks", "tests")
    for name in re.findall(rf"`((?:{'|'.join(tops)})/[\w./-]*)", page.read_text()):
        assert name.startswith(made) or (ROOT / name).exists(), name


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= MAX_LINES


def test_images_are_small() -> None:
    images = [path for path in (ROOT / "docs/images").iterdir() if path.is_file()]
    assert images
    assert all(path.stat().st_size < MAX_IMAGE_BYTES for path in images)


def test_what_pages_fetch_is_found(tmp_path: Path) -> None:
    (tmp_path / "good.html").write_text('<a href="https://example.org">x</a><script src="assets/a.js"></script>')
    (tmp_path / "good.css").write_text("a { background: url(data:image/svg+xml,x) }")
    assert remote_resources(tmp_path) == []
    (tmp_path / "bad.html").write_text('<script src="//cdn.example.org/a.js"></script><pre class="mermaid">x</pre>')
    (tmp_path / "bad.css").write_text(
        "@import 'https://fonts.example.org/a.css'; a { background: url(http://x/a.png) }"
    )
    assert [line.rpartition(": ")[2] for line in remote_resources(tmp_path)] == [
        "//cdn.example.org/a.js",
        "the script that draws Mermaid diagrams",
        "https://fonts.example.org/a.css",
        "http://x/a.png",
    ]
