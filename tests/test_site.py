"""The docs as a site: scripts/docs builds it without a warning, its links hold, and it loads nothing from elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import starlette_wasm

ROOT = Path(__file__).parents[1]


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(given["href"])
        elif "src" in given:
            self.loads.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    environ = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file.read_text()) for file in site.rglob("*.html") if file.name != "404.html"}


def test_every_page_of_the_docs_is_there(site: Path, pages: dict[Path, Page]) -> None:
    names = {page.with_suffix(".html").name for page in (ROOT / "docs").glob("*.md")}
    assert {file.name for file in pages} == names | {"index.html", "changelog.html", "api.html"}
    start = pages[site / "index.html"]
    assert {f"{name}" for name in names} <= {urlsplit(link).path for link in start.links}


def test_links_lead_to_a_page_and_its_heading(pages: dict[Path, Page]) -> None:
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{file.name}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors, f"{file.name}: {link}"


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for file, page in pages.items():
        for load in page.loads:
            assert not urlsplit(load).netloc, f"{file.name}: {load}"
            assert (file.parent / unquote(urlsplit(load).path)).exists(), f"{file.name}: {load}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text()), style


def test_the_api_has_every_exported_name(site: Path, pages: dict[Path, Page]) -> None:
    api = pages[site / "api.html"]
    for name in starlette_wasm.__all__:
        assert any(anchor.endswith(f".{name}") for anchor in api.anchors), name


def test_search_finds_headings(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text())
    titles = {entry["title"] for entry in index["docs"]}
    assert {"Tutorial: customers upload functions", "The ABI"} <= titles
