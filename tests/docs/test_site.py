"""The site is built without a warning, asks no other host, and tells of every setting of every block."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
from support.pages import ROOT

from prefect_docjobs import blocks
from prefect_docjobs.blocks.credentials import DocJobsBlock

_LOADED = re.compile(r'<(?:script|img|iframe|source)[^>]* src="([^"]+)"|<link [^>]*href="([^"]+)"[^>]*>')
_TAG = re.compile(r"<[^>]+>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs-site` does: a broken link, anchor or reference is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        for match in _LOADED.finditer(page.read_text(encoding="utf-8")):
            is_canonical = 'rel="canonical"' in match[0]
            assert is_canonical or not re.match(r"https?:|//", match[1] or match[2]), f"{page}: {match[0]}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:|//)|@import", sheet.read_text(encoding="utf-8")), sheet


def test_every_setting_of_every_block_is_told_with_its_description(site: Path) -> None:
    text = _text(site / "reference" / "blocks" / "index.html")
    for name in blocks.__all__:
        kind = getattr(blocks, name)
        if not (isinstance(kind, type) and issubclass(kind, DocJobsBlock)):
            continue
        for field, info in kind.model_fields.items():
            assert field in text, f"{name}.{field}"
            assert _squeezed(info.description or "").replace("`", "") in text, f"{name}.{field}"


def test_the_site_and_the_package_name_the_same_repository(site: Path) -> None:
    urls = dict(url.split(", ", 1) for url in metadata("prefect-docjobs").get_all("Project-URL") or [])
    assert f'href="{urls["Source"]}"' in (site / "index.html").read_text(encoding="utf-8")


def test_the_search_finds_words_of_code(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "aextract_documents" in index
    assert "PREFECT_DOCJOBS_LEDGER" in index


def _text(page: Path) -> str:
    return _squeezed(html.unescape(_TAG.sub(" ", page.read_text(encoding="utf-8")))).replace("`", "")


def _squeezed(text: str) -> str:
    """Without blanks: a tag may stand where the description has none."""
    return re.sub(r"\s+", "", text)
