"""What the site needs of pages that are also read in the repository: links out of `docs/`, and fences.

A page links to files outside of `docs/` by their place in the repository; on the site they are addresses of
the repository. A fence such as `python no-run: reason` or `text output` is for the tests of the
documentation; on the site it is a language, and a title.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.exceptions import PluginError

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(.*)$")
_SHOWN = re.compile(r'[a-z]+( title="[^"]*")?')
_LINK = re.compile(r"(\]\()((?:\.\./)+[^)\s#]*)(#[^)\s]*)?(?=\))")


def on_page_markdown(markdown: str, /, *, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Called by MkDocs for each page before it is rendered."""
    repository = str(config.repo_url).rstrip("/")
    lines, inside = list[str](), False
    for line in markdown.split("\n"):
        fence = _FENCE.match(line)
        if fence:
            inside = not inside
            lines.append(f"```{_fence(fence[1])}" if inside else line)
        else:
            lines.append(line if inside else _outward(line, page.file.src_uri, repository))
    return "\n".join(lines)


def _fence(info: str) -> str:
    if info == "text output":
        return 'text title="Output"'
    shown = _SHOWN.match(info)
    return shown[0] if shown else info


def _outward(line: str, page: str, repository: str) -> str:
    def address(match: re.Match[str]) -> str:
        start, link, anchor = match.groups(default="")
        place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
        if place.startswith("docs/"):
            return match[0]
        target = ROOT / place
        if not target.exists():
            raise PluginError(f"{page} links to {link}, which is not in the repository")
        return f"{start}{repository}/{'tree' if target.is_dir() else 'blob'}/main/{place}{anchor}"

    return _LINK.sub(address, line)
