"""What a run shows in Prefect: its sums, tables, summary, assets, tags and the event at its end."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from array import array
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from prefect import get_client, runtime
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from prefect_docjobs.flows._output import FAILURES, RESULTS, ROWS, DeadLetter, Outputs, ResultFiles
from prefect_docjobs.loading import public_address
from prefect_docjobs.models import Batch, Field, Outcome
from prefect_docjobs.models.escapes import escaped
from prefect_docjobs.models.percentiles import percentile
from prefect_docjobs.models.results import joined
from prefect_docjobs.tasks._run import Log, count

# ---------------------------------------------------------------------------------- how long documents took

_BARS = 24
_WIDTH, _HEIGHT = 640, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 24, 616, 64, 176  # of the bars' ground
_FAR = 3  # times the 95th percentile; what took longer is counted in the last bar
_GROUND, _INK, _MUTED, _BAR, _MARK = "#1e293b", "#f1f5f9", "#a8b5c7", "#60a5fa", "#fbbf24"
_NICE = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


def latency_image(seconds: Sequence[float]) -> str | None:
    """An image for Markdown, with its numbers as the text beside it; None for fewer than two documents."""
    if len(seconds) < 2:
        return None
    ordered = sorted(seconds)
    median, late = (percentile(ordered, percent) or 0.0 for percent in (50, 95))
    said = f"Half of the documents took up to {_told(median)}, 95 % up to {_told(late)}"
    svg = _picture(ordered, median, late, said)
    return f"![{said}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _picture(ordered: Sequence[float], median: float, late: float, said: str) -> str:
    end = _axis_end(min(ordered[-1], _FAR * late))
    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    view = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="system-ui,sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view}>',
        f"<title>{said}</title>",
        f'<rect {size} rx="8" fill="{_GROUND}"/>',
        _text(_LEFT, 28, f"Time from submit to result, {len(ordered):,} documents", _INK),
        *_bars(_counts(ordered, end)),
        *_marks(median, late, end),
        *_axis(end, has_more=ordered[-1] > end),
        "</svg>",
    ]
    return "".join(parts)


def _counts(ordered: Sequence[float], end: float) -> list[int]:
    """Documents in each bar; the last one has those beyond the end, too."""
    counts = [0] * _BARS
    for value in ordered:
        counts[min(_BARS - 1, max(0, int(value / end * _BARS)))] += 1
    return counts


def _bars(counts: Sequence[int]) -> Iterator[str]:
    width, most = (_RIGHT - _LEFT) / _BARS, max(counts)
    for place, number in enumerate(counts):
        if number:
            height = max(2.0, (_BOTTOM - _TOP) * number / most)
            yield (
                f'<rect x="{_LEFT + place * width + 1:.1f}" y="{_BOTTOM - height:.1f}" '
                f'width="{width - 2:.1f}" height="{height:.1f}" rx="1.5" fill="{_BAR}"/>'
            )


def _marks(median: float, late: float, end: float) -> Iterator[str]:
    """Where half, and where 95 %, of the documents were done; the labels stand side by side."""
    places = [_LEFT + (_RIGHT - _LEFT) * min(1.0, value / end) for value in (median, late)]
    for x in places:
        yield f'<path d="M{x:.1f} {_TOP - 6}V{_BOTTOM}" stroke="{_MARK}" stroke-dasharray="4 3"/>'
    yield _text(_LEFT, 48, f"half within {_told(median)}, 95 % within {_told(late)}", _MARK)


def _axis(end: float, *, has_more: bool) -> Iterator[str]:
    yield f'<path d="M{_LEFT} {_BOTTOM}.5H{_RIGHT}" stroke="{_MUTED}"/>'
    for place, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        more = " and more" if has_more and place == 1.0 else ""
        x = _LEFT + (_RIGHT - _LEFT) * place
        yield _text(x, _BOTTOM + 20, f"{_told(end * place)}{more}", _MUTED, anchor)


def _text(x: float, y: float, text: str, color: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{color}" text-anchor="{anchor}">{text}</text>'


def _axis_end(longest: float) -> float:
    """A round number that is not below the longest time."""
    longest = max(longest, 0.1)
    scale = 10.0 ** math.floor(math.log10(longest))
    return next(scale * step for step in _NICE if scale * step >= longest or step == _NICE[-1])


def _told(seconds: float) -> str:
    """Such as `0.42 s`, `12 s`, `3.5 min`."""
    if seconds >= 7200.0:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 120.0:
        return f"{seconds / 60:.1f} min"
    digits = 2 if seconds < 1.0 else 1 if seconds < 10.0 else 0
    return f"{round(seconds, digits):g} s"


# ----------------------------------------------------------------------------------------- sums and summary

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


# --------------------------------------------------------------------------------------------------- tables

_TABLE_FIELDS = 8
_KEPT_FIELDS = 60  # of one document, until it is known which ones most documents have
_CELL = 120  # characters
EXACT = 2**53
"""The largest whole number that a browser does not show as another one."""


@dataclass(frozen=True)
class _Row:
    """What a table may show of one document.

    Attributes:
        head: Columns that every document has.
        cells: Values by flat field name.
        confidences: The lowest confidence within each of these fields, where the service gives one.
    """

    head: Mapping[str, Any]
    cells: Mapping[str, Any]
    confidences: Mapping[str, float]
    job: str


class ResultTable:
    """The rows of the table of documents: failures first, then by number; never more than fit.

    Args:
        price_per_page: What a page costs, in any currency; None for a table without costs.
    """

    def __init__(self, price_per_page: float | None = None) -> None:
        self._price = price_per_page
        self._failed: list[tuple[int, _Row]] = []
        self._delivered: list[tuple[int, _Row]] = []
        self._documents = 0

    def add(self, first: int, batch: Batch) -> None:
        """Add a batch that has ended, whose first document is number `first` of the run."""
        self._documents += len(batch)
        for index, head in enumerate(batch.heads):
            kept = self._delivered if head.ok else self._failed
            if len(kept) < TABLE_ROWS:
                kept.append((first + index, self._row(batch[index])))  # which may read the disk

    @property
    def left_out(self) -> int:
        """Documents that have no row."""
        return self._documents - len(self._chosen())

    def rows(self) -> list[dict[str, Any]]:
        """At most `TABLE_ROWS` rows with the same columns.

        These are the document, its state, the lowest confidence among the fields that are shown, seconds,
        pages, credits and cost where they are known, the fields that most documents have, and the job.
        """
        chosen = self._chosen()
        present = Counter(name for row in chosen for name, value in row.cells.items() if value != "")
        names = [name for name, _ in present.most_common(_TABLE_FIELDS)]
        return _without_empty_columns([_flat(row, names) for row in chosen])

    def _chosen(self) -> Sequence[_Row]:
        ordered = [row for kept in (self._failed, self._delivered) for _, row in sorted(kept, key=_number)]
        return ordered[:TABLE_ROWS]

    def _row(self, outcome: Outcome) -> _Row:
        result = outcome.result
        fields = list(_leaves(result.fields) if result else ())[:_KEPT_FIELDS]
        pages = pages_of(outcome)
        lowest = {name: _lowest_confidence(field) for name, field in fields}
        return _Row(
            head={
                "document": cell(outcome.document),
                "state": "delivered" if outcome.ok else str(outcome.reason),
                "confidence": "",
                "seconds": "" if outcome.seconds is None else round(outcome.seconds, 2),
                "pages": cell(pages),
                "credits": cell(result.usage.credits if result else None),
                "cost": self._cost(pages, is_reused=outcome.reused),
            },
            cells={name: cell(field.value) for name, field in fields},
            confidences={name: value for name, value in lowest.items() if value is not None},
            job=cell(outcome.ref.job_id if outcome.ref else None),
        )

    def _cost(self, pages: int | None, *, is_reused: bool) -> float | str:
        if self._price is None or pages is None:
            return ""
        return 0 if is_reused else round(pages * self._price, 6)


class FailureTable:
    """The rows of the table of failures, in the order of their numbers; never more than fit."""

    def __init__(self) -> None:
        self._letters: list[tuple[int, DeadLetter]] = []
        self._all = 0

    def add(self, first: int, letters: Sequence[DeadLetter]) -> None:
        """Add the dead letters of a chunk, whose first document is number `first` of the run."""
        self._all += len(letters)
        self._letters += [(first, letter) for letter in letters[: TABLE_ROWS - len(self._letters)]]

    @property
    def left_out(self) -> int:
        """Failures that have no row."""
        return self._all - len(self._letters)

    def rows(self) -> list[dict[str, Any]]:
        """At most `TABLE_ROWS` rows: the document, the reason, what to do, its job and where it is."""
        return _without_empty_columns([_failure(letter) for _, letter in sorted(self._letters, key=_number)])


def _failure(letter: DeadLetter) -> dict[str, Any]:
    return {
        "document": cell(letter.document),
        "reason": letter.reason.value,
        "what to do": letter.how,
        "error": cell(error_of(letter)),
        "job": cell(letter.job_id),
        "where": letter.url or letter.path or "",
    }


def _number(numbered: tuple[int, Any]) -> int:
    return numbered[0]


def _flat(row: _Row, names: Sequence[str]) -> dict[str, Any]:
    known = [row.confidences[name] for name in names if name in row.confidences]
    head = {**row.head, "confidence": round(min(known), 3) if known else ""}
    told = joined({**head, "job": ""}, {name: row.cells.get(name, "") for name in names})
    return {name: told[name] for name in told if name != "job"} | {"job": row.job}


def _without_empty_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without the columns in which none of them has anything."""
    shown = [name for name in (rows[0] if rows else ()) if any(row[name] != "" for row in rows)]
    return [{name: row[name] for name in shown} for row in rows]


def _leaves(fields: Mapping[str, Field], prefix: str = "") -> Iterator[tuple[str, Field]]:
    """The fields of a flat row with their names, as `Result.row` has them."""
    for name, leaf in fields.items():
        if leaf.fields is not None:
            yield from _leaves(leaf.fields, f"{prefix}{name}.")
        elif not any(item.fields is not None for item in leaf.items or ()):
            yield f"{prefix}{name}", leaf


def _lowest_confidence(field: Field) -> float | None:
    own = [] if field.confidence is None else [field.confidence]
    known = [*own, *(item.confidence for item in field.items or () if item.confidence is not None)]
    return min(known, default=None)


def cell(value: Any) -> Any:
    """A value as a table can show it: a number as it is, all else as a text of bounded length."""
    if value is None:
        return ""
    if isinstance(value, (int, float)) and abs(value) <= EXACT:
        return value
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    text = escaped(text)  # file names need not be UTF-8, artifacts must
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"


# ----------------------------------------------------------------------------------------------------- both


@dataclass
class RunReport:
    """The sums and tables of one run, filled as its chunks end.

    Attributes:
        price_per_page: What a page costs, in any currency; None where that is not known.
    """

    price_per_page: float | None = None
    tally: Tally = field(init=False)
    table: ResultTable = field(init=False)
    failure_tally: FailureTally = field(default_factory=FailureTally)
    failure_table: FailureTable = field(default_factory=FailureTable)

    def __post_init__(self) -> None:
        self.tally = Tally(price_per_page=self.price_per_page)
        self.table = ResultTable(self.price_per_page)

    def add(self, first: int, batch: Batch, letters: Sequence[DeadLetter]) -> None:
        """Add a chunk that has ended, with the dead letters of those that failed.

        Args:
            first: The number of its first document in the run.
            batch: The outcomes.
            letters: In the order of the outcomes.
        """
        self.tally.add(batch)
        self.table.add(first, batch)
        self.add_failures(first, letters)

    def add_failures(self, first: int, letters: Sequence[DeadLetter]) -> None:
        """Show documents without a result that are no part of the run's sums."""
        self.failure_tally.add(letters)
        self.failure_table.add(first, letters)


# ------------------------------------------------------------------------------------------------ artifacts


def artifact_key(*parts: str) -> str:
    """A key made of a-z, 0-9 and dashes, as Prefect demands; the same for each run of the same job."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(("docjobs", *parts)).lower()).strip("-")


async def publish_table(table: ResultTable, outputs: Outputs, *, job: str, log: Log) -> None:
    """Show the documents; the description says how many of them the table leaves out."""
    rows = table.rows()
    description = f"{_shown(rows, table.left_out, 'document')} {outputs.where_documents}"
    await _publish(rows, artifact_key("results", job), description, "result table", log)


async def publish_failures(table: FailureTable, outputs: Outputs, *, job: str, log: Log) -> None:
    """Show the documents without a result, why, and what to do; nothing where there are none."""
    rows = table.rows()
    description = f"{_shown(rows, table.left_out, 'failure')} {outputs.where_failures}"
    await _publish(rows, artifact_key("failures", job), description, "failure table", log)


async def publish_summary(markdown: str, sentence: str, *, job: str, log: Log) -> None:
    """Show the summary, with a sentence where there is no room for it."""
    making = acreate_markdown_artifact(markdown, key=artifact_key("summary", job), description=sentence)
    await not_fatal(making, "summary", log)


def _shown(rows: Sequence[object], left_out: int, noun: str) -> str:
    """Such as `7 documents.`, or `500 documents; 1,500 more are not shown.`."""
    more = f"; {left_out:,} more are not shown" if left_out else ""
    return f"{count(len(rows), noun)}{more}."


async def _publish(rows: Sequence[dict[str, Any]], key: str, description: str, what: str, log: Log) -> None:
    if rows:
        making = acreate_table_artifact(table=list(rows), key=key, description=description)
        await not_fatal(making, what, log)


async def not_fatal(making: Awaitable[Any], what: str, log: Log) -> None:
    """Await what is for people only; the documents are delivered whatever becomes of it."""
    try:
        await making
    except Exception as problem:  # noqa: BLE001 (whatever Prefect answers)
        log.warning("The %s is not shown: %s", what, problem)


# --------------------------------------------------------------------------------------------------- assets

_MOST = 512  # characters of a key that Prefect takes
_REFUSED = re.compile(r"""[\s\x00#?&%"'<>\[\]{}|\\^`]""")
_SAID = {
    RESULTS: "A whole result per line, of each document that was delivered.",
    FAILURES: "A dead letter per line, of each document that has no result.",
    ROWS: "A flat row per line, of each document.",
}


def file_asset(path: str | Path, description: str | None = None) -> Asset:
    """The asset of a file or folder.

    Its key is `file://` and the absolute path; characters that Prefect refuses in keys become `_`, and a path
    that is too long is cut, with a hash of all of it at the end.
    """
    path = Path(path).expanduser().absolute()
    return _asset("file", path.as_posix(), path.name or str(path), description)


def asset_at(place: str, description: str | None = None) -> Asset:
    """The asset of a path, see `file_asset`, or of an address.

    The key of an address is its `public_address`; characters and length as for paths.
    """
    scheme, is_address, where = public_address(place).partition("://")
    if not is_address:
        return file_asset(place, description)
    return _asset(scheme.rpartition("::")[2], where, where.rpartition("/")[2] or where, description)


def _asset(scheme: str, where: str, name: str, description: str | None) -> Asset:
    key = f"{scheme}://" + _REFUSED.sub("_", where.encode(errors="replace").decode())
    if len(key) > _MOST:
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        key = f"{key[: _MOST - len(digest) - 1]}-{digest}"
    return Asset(key=key, properties=AssetProperties(name=name, description=description))


async def materialize_files(tally: Tally, files: ResultFiles, *, source: str, job: str, log: Log) -> None:
    """Tell Prefect that the files of a run were made of what is in `source`, in one small task run."""
    places = {str(files.path(name)): said for name, said in _SAID.items()}
    metadata = sums_of(tally, job)
    await materialize_places(places, metadata, what=f"{len(places)} files", source=source, log=log)


async def materialize_places(
    places: Mapping[str, str], metadata: Mapping[str, Any], *, what: str, source: str, log: Log
) -> None:
    """Tell Prefect that what is at `places` was made of what is in `source`, in one small task run.

    Args:
        places: Paths or addresses, each with what is there.
        metadata: What is told of each.
        what: The places in a few words, for the name of the task run.
        source: The folder of the documents: a path or an address.
        log: Of the flow run.
    """
    await not_fatal(_materialize(places, dict(metadata), what, source), "lineage", log)


async def _materialize(places: Mapping[str, str], metadata: dict[str, Any], what: str, source: str) -> None:
    assets = [asset_at(place, said) for place, said in places.items()]

    @materialize(
        *assets,
        by="prefect-docjobs",
        asset_deps=[asset_at(source)],
        name="record-outputs",
        task_run_name=f"record {what}",
        tags=["docjobs"],
        cache_policy=NO_CACHE,
    )
    async def record() -> None:
        for asset in assets:
            add_asset_metadata(asset, metadata)

    await record()


def sums_of(tally: Tally, job: str) -> dict[str, Any]:
    """What is told of everything that a run has made."""
    told = tally.totals()
    known = {name: told[name] for name in ("documents", "delivered", "failed", "reasons", "pages", "credits")}
    return {"job": job, **known, "cost": tally.cost}


# ------------------------------------------------------------------------------------------------ the event


@dataclass(frozen=True)
class BatchEvent:
    """The end of a run, as a Prefect event that automations can start from.

    `docjobs.batch.completed`, or `docjobs.batch.failed` where more documents failed than may; each about the
    resource `docjobs.batch.<flow run id>`. A load ends with `docjobs.load.completed` or
    `docjobs.load.failed`: a load that were a batch would start the loads that batches start.

    Attributes:
        source: Where its documents come from.
        job: The job, by its label.
        provider: Registry name of the service.
        product: What was asked for.
        is_well: Whether no more documents failed than may.
        kind: What has ended.
    """

    source: str
    job: str
    provider: str
    product: str
    is_well: bool
    kind: Literal["batch", "load"] = "batch"

    def emit(self, tally: Tally, more: Mapping[str, Any], elapsed: float) -> None:
        """Hand the event to Prefect, which sends it in the background.

        Args:
            tally: The sums.
            more: What else the payload says, such as where the files are, which are complete by now.
            elapsed: Seconds that the run took.
        """
        emit_event(
            f"docjobs.{self.kind}.{'completed' if self.is_well else 'failed'}",
            resource=self._resource(),
            payload={**self._payload(tally), "elapsed": round(elapsed, 3), **more},
        )

    @property
    def _place(self) -> str:
        """The absolute path, so that a run elsewhere finds it; an address as it is."""
        return self.source if "://" in self.source else str(Path(self.source).expanduser().absolute())

    def _resource(self) -> dict[str, str]:
        return {
            "prefect.resource.id": f"docjobs.{self.kind}.{runtime.flow_run.id}",
            "prefect.resource.name": str(runtime.flow_run.name),
            "docjobs.provider": self.provider,
            "docjobs.product": self.product,
            "docjobs.job": self.job,
            "docjobs.source": self._place,
        }

    def _payload(self, tally: Tally) -> dict[str, Any]:
        return {
            "job": self.job,
            "source": self._place,
            **tally.totals(),
            "failed_share": tally.failed_share,
            "cost": tally.cost,
            "message": tally.sentence(),
        }


def paths_of(files: ResultFiles) -> dict[str, str]:
    """Where the files of a run are, as its event says it."""
    return {
        "folder": str(files.folder),
        "results": str(files.path(RESULTS)),
        "failures": str(files.path(FAILURES)),
        "rows": str(files.path(ROWS)),
    }


# ----------------------------------------------------------------------------------------------------- tags


async def tag_run(*names: str, log: Log) -> None:
    """Add tags to the flow run; those that it has stay, and a server that refuses costs nothing."""
    wanted = {*runtime.flow_run.tags, *names}
    try:
        async with get_client() as client:
            await client.update_flow_run(runtime.flow_run.id, tags=sorted(wanted))
    except Exception as problem:  # noqa: BLE001 (tags are for people only)
        log.debug("No tags: %s", problem)
