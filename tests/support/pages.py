"""The pages of the documentation as tests read them: code blocks, tables, headings, links."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"```(.*)")
_HEADING = re.compile(r"(#+) +(.+?) *")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`]*`")
_TITLE = re.compile(r' title="([^"]+)"')


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block.

    Attributes:
        line: Of its first line of code, 1-based.
        info: What stands behind the fence, such as `python`.
        output: What the page says that it prints (a `text output` block behind it), or None.
    """

    page: Path
    line: int
    info: str
    code: str
    output: str | None = None

    @property
    def language(self) -> str:
        return self.info.split(" ", 1)[0]

    @property
    def title(self) -> str | None:
        """The file that the reader puts the code into (`python title="first.py"`), or None."""
        match = _TITLE.search(self.info)
        return match[1] if match else None

    @property
    def reason_not_to_run(self) -> str | None:
        """Why the block is only shown (`python no-run: reason`, `sh no-run: reason`), or None."""
        _, found, reason = self.info.partition(" no-run:")
        return reason.strip() if found else None

    @property
    def run_by(self) -> str | None:
        """The test that runs the block in its own way (`python run-by: tests/…`), or None."""
        _, found, place = self.info.partition(" run-by:")
        return place.strip() if found else None

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def pages() -> list[Path]:
    """All pages that people read, the README first."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code_blocks(page: Path) -> list[CodeBlock]:
    """The fenced blocks of a page in order; an output is a part of the block before it."""
    blocks: list[CodeBlock] = []
    for block in _fenced(page):
        if block.info == "text output":
            blocks[-1] = replace(blocks[-1], output=block.code)
        else:
            blocks.append(block)
    return blocks


def block_run_by(test: str, page: str, *, holding: str = "") -> CodeBlock:
    """The one block of a page that a test runs in its own way.

    Args:
        test: The test's `__file__`.
        page: From the root of the project, such as `docs/deferred.md`.
        holding: What the code holds, where the test runs several blocks of the page.
    """
    mine = Path(test).relative_to(ROOT).as_posix()
    (block,) = (it for it in code_blocks(ROOT / page) if it.run_by == mine and holding in it.code)
    return block


def _fenced(page: Path) -> Iterator[CodeBlock]:
    info, first, code = "", 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.fullmatch(line)
        if fence and not first:
            info, first, code = fence[1], number + 1, []
        elif fence:
            yield CodeBlock(page, first, info, "\n".join(code) + "\n")
            first = 0
        elif first:
            code.append(line)
    assert not first, f"{page} ends inside a block"


def prose(page: Path) -> list[str]:
    """The lines of a page outside of fenced blocks."""
    lines, inside = list[str](), False
    for line in page.read_text(encoding="utf-8").splitlines():
        if _FENCE.fullmatch(line):
            inside = not inside
        elif not inside:
            lines.append(line)
    return lines


def headings(page: Path, level: int) -> list[str]:
    """The headings of one level, in order."""
    found = (_HEADING.fullmatch(line) for line in prose(page))
    return [match[2] for match in found if match and len(match[1]) == level]


def anchors(page: Path) -> set[str]:
    """What links into the page may name, as GitHub derives it from headings."""
    seen: dict[str, int] = {}
    for match in filter(None, (_HEADING.fullmatch(line) for line in prose(page))):
        slug = re.sub(r"[^\w\- ]", "", match[2].lower()).replace(" ", "-")
        seen[slug] = seen.get(slug, -1) + 1
        if seen[slug]:
            seen[f"{slug}-{seen[slug]}"] = 0
    return set(seen)


def links(page: Path) -> list[str]:
    """The targets of all links of a page."""
    return [target for line in prose(page) for target in _LINK.findall(_CODE.sub("`", line))]


def table(page: Path, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head; cells without backquotes."""
    lines = iter(prose(page))
    for line in lines:
        match = _HEADING.fullmatch(line)
        if match and match[2] == heading:
            break
    else:
        raise LookupError(f"{name_of(page)} has no heading {heading!r}")
    return list(_rows(lines))


def _rows(lines: Iterator[str]) -> Iterator[list[str]]:
    head = True
    for line in lines:
        if line.startswith("|"):
            if not head:
                yield _cells(line)
            head = head and not line.startswith("|---")
        elif not head or line.startswith("#"):
            return


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("`", "").replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def column(rows: Sequence[Sequence[str]], index: int = 0) -> list[str]:
    """One column of a table."""
    return [row[index] for row in rows]
