"""What a run says about itself: its sums, and a summary in Markdown."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect_docjobs.flows.dead_letters import DeadLetter
from prefect_docjobs.flows.latency import latency_image
from prefect_docjobs.flows.outputs import Outputs
from prefect_docjobs.models import Batch, Outcome
from prefect_docjobs.models.escapes import escaped
from prefect_docjobs.models.percentiles import percentile

TABLE_ROWS = 500
"""Most rows of a table artifact: the browser draws every row, and a larger table stops it."""

_SHOWN_FAILURES = 10
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~#&])")
_LINK = re.compile(r"https?://[^\s()<>|\\]+")


@dataclass
class Tally:
    """The sums of a run.

    Attributes:
        price_per_page: What a page costs, in any currency; None where that is not known.
    """

    documents: int = 0
    delivered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    pages: int = 0
    credits: float = 0
    reused: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))
    price_per_page: float | None = None
    bought_pages: int = 0

    def add(self, batch: Batch) -> None:
        """Add a batch that has ended."""
        totals = batch.totals
        self.documents += totals["documents"]
        self.delivered += totals["delivered"]
        self.reasons.update(totals["reasons"])
        self.pages += totals["pages"]
        self.credits += totals["credits"]
        self.reused += sum(head.reused for head in batch.heads)
        self.bought_pages += sum(pages_of(head) or 0 for head in batch.heads if not head.reused)
        self.seconds.extend(head.seconds for head in batch.heads if head.ok and head.seconds is not None)

    @property
    def failed(self) -> int:
        """Documents without a result."""
        return self.documents - self.delivered

    @property
    def failed_share(self) -> float:
        """The part of the documents that has no result, 0 to 1."""
        return round(self.failed / self.documents, 4) if self.documents else 0.0

    @property
    def cost(self) -> float | None:
        """What the pages cost that were bought, where the price is known and the service tells pages."""
        if self.price_per_page is None or not (self.bought_pages or self.reused):
            return None
        return round(self.bought_pages * self.price_per_page, 6)

    def totals(self) -> dict[str, Any]:
        """All sums as plain JSON; `seconds` tells the time per delivered document (p50 and p95)."""
        return {
            "documents": self.documents,
            "delivered": self.delivered,
            "failed": self.failed,
            "reasons": dict(sorted(self.reasons.items())),
            "pages": self.pages,
            "credits": self.credits,
            "seconds": {"p50": percentile(self.seconds, 50), "p95": percentile(self.seconds, 95)},
        }

    def sentence(self) -> str:
        """The sums in one line, such as `97 of 100 documents delivered; 2 failed, 1 timeout`."""
        noun = "document" if self.documents == 1 else "documents"
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in self.reasons.most_common())
        delivered = f"{self.delivered:,} of {self.documents:,} {noun} delivered"
        return f"{delivered}; {reasons}" if reasons else delivered


def pages_of(head: Outcome) -> int | None:
    """The pages of a delivered document, as the service counts them; None where it does not say."""
    return head.result.usage.pages if head.result else None


def error_of(letter: DeadLetter) -> str:
    """What went wrong, without the document's name before it."""
    return (letter.error or letter.reason.value).removeprefix(f"{letter.document}: ")


class FailureTally:
    """What failed, and what to do about it: counts by reason, and the first few documents."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: list[DeadLetter] = []

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Add the dead letters of a chunk."""
        self._counts.update((letter.reason.value, letter.how) for letter in letters)
        self._first += letters[: _SHOWN_FAILURES - len(self._first)]

    def markdown(self) -> Iterator[str]:
        """Lines: a table of reasons with what to do, and the first documents, linked where they can be."""
        if not self._counts:
            return
        yield from ("", "### Failures", "", "| reason | documents | what to do |", "|---|---:|---|")
        for (reason, how), number in self._counts.most_common():
            yield f"| {reason} | {number:,} | {plain(how)} |"
        yield ""
        for letter in self._first:
            yield f"- {_linked(letter)}: {plain(error_of(letter))}"
        if left := self._counts.total() - len(self._first):
            yield f"- and {left:,} more"


def summary(
    title: str,
    tally: Tally,
    outputs: Outputs,
    *,
    elapsed: float,
    failures: FailureTally | None = None,
    counts: Mapping[str, int] | None = None,
) -> str:
    """The run in Markdown: sums, how long documents took, what failed and what to do, where everything is.

    Args:
        title: Of the whole.
        tally: The sums.
        outputs: Where everything is.
        elapsed: Seconds that the run took.
        failures: What failed; None to leave that part out.
        counts: What stands on top of the sums; by default the numbers of documents and of those delivered.
    """
    if counts is None:
        counts = {"Documents": tally.documents, "Delivered": tally.delivered}
    image = latency_image(tally.seconds)
    return "\n".join(
        [
            f"## {plain(title)}",
            "",
            "| | |",
            "|---|---:|",
            *(f"| {name} | {number:,} |" for name, number in counts.items()),
            *(f"| {name} | {value} |" for name, value in _facts(tally, elapsed)),
            *(["", image] if image else []),
            *(failures.markdown() if failures else ()),
            "",
            f"### {outputs.heading}",
            "",
            *(f"- `{place}`: {content}" for place, content in outputs.parts.items()),
        ]
    )


def _facts(tally: Tally, elapsed: float) -> Iterator[tuple[str, str]]:
    known = {name: value for name, value in tally.totals()["seconds"].items() if value is not None}
    times = ", ".join(f"{value:.1f} ({name})" for name, value in known.items())
    yield from ((f"Failed: {reason}", f"{number:,}") for reason, number in tally.reasons.most_common())
    if tally.reused:
        yield "Paid for before", f"{tally.reused:,}"
    yield "Pages, as the service counts", f"{tally.pages:,}" if tally.pages else "not told"
    yield "Credits, as the service counts", f"{tally.credits:,g}" if tally.credits else "not told"
    if tally.cost is not None:
        yield f"Cost, at {tally.price_per_page:,g} a page", f"{tally.cost:,g}"
    yield "Seconds per delivered document", times or "none"
    yield "Seconds in all", f"{elapsed:.1f}"


def plain(text: str) -> str:
    """A text of others as Markdown that shows it as it is, in one line."""
    return escaped(_MARKDOWN.sub(r"\\\1", " ".join(text.split())))


def _linked(letter: DeadLetter) -> str:
    """The document, as a link where a browser opens it: no local file, and nothing in an object storage."""
    name = plain(letter.document)
    if letter.url is None or not _LINK.fullmatch(letter.url):
        return name
    return f"[{name}]({letter.url})"
