"""The flow that puts services side by side."""

# No `from __future__ import annotations`: a flow that is served is loaded by its path, and Prefect 3.8 does
# not find the types of its parameters then.

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

import anyio.to_thread
from prefect import State, flow, runtime
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.states import Completed, Failed
from pydantic import Field

from prefect_docjobs.comparison import (
    ComparatorName,
    Comparators,
    FieldComparison,
    Names,
    Scoreboard,
    VotingRule,
    check_settings,
    compare_results,
    decide,
)
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.extraction.options import REUSE_DAYS
from prefect_docjobs.flows._output import COMPARISON, CONFLICTS, LineFiles
from prefect_docjobs.flows._report import TABLE_ROWS, artifact_key, cell, not_fatal, plain
from prefect_docjobs.flows._run import (
    Amount,
    AtLeastOne,
    Days,
    JobParameter,
    Panel,
    Seconds,
    budget_of_run,
    by_document,
    documents_in,
    job_label,
    output_folder,
)
from prefect_docjobs.models import Batch, Document, Outcome
from prefect_docjobs.tasks import cancel_remote_jobs
from prefect_docjobs.tasks._run import Log, count, run_log

_COLUMNS = ("delivered", "fields", "with the majority", "seconds (p50)", "seconds (p95)", "pages", "credits")
_UNTOLD = "not told"
_Compared: TypeAlias = tuple[list[FieldComparison], tuple[FieldComparison, ...]]


def _run_name() -> str:
    given = runtime.flow_run.parameters
    folder, jobs = given["folder"], given["jobs"]
    return f"compare {count(len(jobs), 'service')} on {Path(folder).name or folder}"


@flow(
    name="compare-services",
    flow_run_name=_run_name,
    on_cancellation=[cancel_remote_jobs],
    on_crashed=[cancel_remote_jobs],
)
async def compare_services(
    folder: str,
    jobs: Annotated[Sequence[JobParameter], Field(min_length=1)],
    *,
    fields: dict[str, list[str]] | None = None,
    comparators: dict[str, ComparatorName] | None = None,
    quorum: AtLeastOne = 1,
    pattern: str = "*",
    recursive: bool = False,
    output: str = "docjobs-comparison",
    chunk_size: AtLeastOne = 100,
    timeout: Seconds | None = None,
    document_timeout: Seconds | None = 3600,
    max_documents: AtLeastOne | None = None,
    on_uncertain: OnUncertain = "fail",
    reuse_days: Days | None = REUSE_DAYS,
    budget: Amount | None = None,
    price_per_page: Amount | None = None,
) -> dict[str, Any]:
    """Send the documents of a folder through several services, and compare what they find, cost and take.

    Each document is bought once from each service; what the ledger knows of is not bought again.

    Args:
        folder: The folder with the documents.
        jobs: Names of saved job blocks, such as mindee-job/invoices; each is a column.
        fields: What is compared, and what the services call it, such as {"total": ["total_amount"]}; nested
            fields as supplier.name, columns of lists as line_items[].amount. Empty: all, by their own names.
        comparators: When two values are the same, by field: auto, exact, text, identifier, number, amount,
            date or date_month_first. Empty: auto, which knows numbers, dates and words in any notation.
        quorum: Services that have to have found a value before it counts as agreed.
        pattern: Which files, such as *.pdf. Hidden files are left out.
        recursive: Take the files of sub-folders too.
        output: Folder for comparison.jsonl (every field of every document) and conflicts.jsonl (what a person
            has to decide). Files of an earlier run are replaced; {date} becomes the date on which the run is
            scheduled (UTC).
        chunk_size: Documents per task run and service; four chunks go on at a time.
        timeout: Seconds for the whole run; then nothing more is submitted or waited for. Empty: no limit.
        document_timeout: Seconds for each document at each service. Empty: no limit.
        max_documents: Take so many documents at most, in the order of their names. Empty: all.
        on_uncertain: When a submit's answer is lost: fail the document, or resubmit it at the risk of a
            second bill.
        reuse_days: Days for which a content that was bought is not bought again; 0 never. Empty: for ever.
        budget: Pages that may be bought from all services together, or with a price what they may cost; the
            documents that do not fit are failures at that service. Empty: no limit.
        price_per_page: What a page costs, in any currency.

    Returns:
        The totals (documents, fields, unanimous, conflicts), a row for each service, and the paths of the
        files.

    Raises:
        InvalidDocument: The folder is not there or cannot be listed.
        ConfigurationError: One of the jobs or settings is no such thing.
    """
    log = run_log()
    check_settings(fields, comparators)  # before anything is bought
    panel = await Panel.of(jobs, timeout=timeout)
    listing = partial(documents_in, folder, pattern, recursive=recursive)
    documents = (await anyio.to_thread.run_sync(listing))[:max_documents]
    log.info("Found %s in %s", count(len(documents), "document"), folder)
    this = runtime.flow_run
    folder_out = output_folder(output, this.scheduled_start_time)
    files = LineFiles(folder_out, (COMPARISON, CONFLICTS), str(this.id)[:8])
    comparing = _Comparing(panel, files, fields, comparators or {}, VotingRule(quorum=quorum))
    limit = await budget_of_run(budget, price_per_page, documents)
    with files.written():
        await panel.ask(
            documents,
            chunk_size,
            comparing.take,
            document_timeout=document_timeout,
            on_uncertain=on_uncertain,
            reuse_days=reuse_days,
            budget=limit,
        )
    await comparing.publish(_subject(jobs, folder), folder, log)
    # Prefect takes the run's state from here and hands the caller the state's data.
    return cast("dict[str, Any]", comparing.state(f"No file in {folder} matches {pattern}."))


@dataclass
class _Comparing:
    """One comparison under way: files, sums, and tables of bounded size."""

    panel: Panel
    files: LineFiles
    names: Names | None
    comparators: Comparators
    rule: VotingRule
    documents: int = 0
    fields: int = 0
    unanimous: int = 0
    alone: int = 0
    conflicts: int = 0
    differing: list[dict[str, Any]] = field(default_factory=list)
    agreeing: list[dict[str, Any]] = field(default_factory=list)
    uncompared: list[dict[str, Any]] = field(default_factory=list)
    scores: Scoreboard = field(init=False)

    def __post_init__(self) -> None:
        self.scores = Scoreboard(list(self.panel.jobs), self.rule)

    async def take(self, _first: int, documents: Sequence[Document], batches: Mapping[str, Batch]) -> None:
        """Compare a chunk."""
        lines: list[tuple[str, Any]] = []
        for document, outcomes in zip(documents, by_document(batches), strict=True):
            # Long tables take a while; meanwhile other chunks go on.
            compared, conflicts = await anyio.to_thread.run_sync(self._compare, outcomes)
            self._count(compared, conflicts)
            self.scores.add(outcomes, compared)
            lines += [(COMPARISON, _row(document, each, outcomes)) for each in compared]
            lines += [(CONFLICTS, _conflict(document, each)) for each in conflicts]
            for each in compared:
                self._show(each, document, outcomes)
        await self.files.write(lines)

    def _compare(self, outcomes: Mapping[str, Outcome]) -> _Compared:
        """The fields of one document, and those of them that are in conflict."""
        results = {label: outcome.result for label, outcome in outcomes.items() if outcome.result}
        compared = compare_results(results, names=self.names, comparators=self.comparators)
        return compared, decide(compared, tuple(results), rule=self.rule).conflicts

    def _show(self, compared: FieldComparison, document: Document, outcomes: Mapping[str, Outcome]) -> None:
        """Put a field into the table while there is room among its like."""
        alike = self.agreeing if compared.found > 1 else self.uncompared
        kept = alike if compared.is_unanimous else self.differing
        if len(kept) < TABLE_ROWS:
            kept.append(_cells(document, compared, outcomes))

    def _count(self, compared: Sequence[FieldComparison], conflicts: Sequence[FieldComparison]) -> None:
        self.documents += 1
        self.fields += sum(bool(each.candidates) for each in compared)
        self.unanimous += sum(bool(each.candidates) and each.is_unanimous for each in compared)
        self.alone += sum(each.found == 1 for each in compared)
        self.conflicts += len(conflicts)

    async def publish(self, subject: str, folder: str, log: Log) -> None:
        """Show the summary and the table."""
        summary = acreate_markdown_artifact(
            markdown=self._markdown(folder),
            key=artifact_key("comparison-summary", subject),
            description=f"{self._sums()}.",
        )
        await not_fatal(summary, "summary", log)
        rows = [*self.differing, *self.agreeing, *self.uncompared][:TABLE_ROWS]
        if rows:
            where = f"`{self.files.paths[0]}` has all fields, `{self.files.paths[1]}` those to decide."
            table = acreate_table_artifact(
                table=rows, key=artifact_key("comparison", subject), description=f"Differences first. {where}"
            )
            await not_fatal(table, "comparison", log)

    def state(self, nothing: str) -> State[dict[str, Any]]:
        """How the run ends: failed when no service delivered anything."""
        totals = {
            "documents": self.documents,
            "fields": self.fields,
            "unanimous": self.unanimous,
            "conflicts": self.conflicts,
            "services": self.scores.rows(),
            "files": self.files.paths,
        }
        if not self.documents:
            return Completed(message=nothing, data=totals)
        if not any(row["delivered"] for row in self.scores.rows()):
            return Failed(message=f"No service delivered any of {count(self.documents, 'document')}.")
        return Completed(message=f"{self._sums()}. See {self.files.folder}", data=totals)

    def _sums(self) -> str:
        agreed = f"{self.unanimous:,} of {count(self.fields, 'field')} unanimous"
        agreed += f" ({self.alone:,} found by one service only)" if self.alone else ""
        return f"{count(self.documents, 'document')}: {agreed}, {count(self.conflicts, 'conflict')}"

    def _markdown(self, folder: str) -> str:
        scores = self.scores.rows()
        columns, *lines = _without_empty([("service", *_COLUMNS), *map(tuple, map(_summary_cells, scores))])
        return "\n".join(
            [
                f"## {count(len(self.panel.jobs), 'service')} on {plain(folder)}",
                "",
                f"{self._sums()} for a person to decide.",
                "",
                f"| {' | '.join(columns)} |",
                f"|---|{'---:|' * (len(columns) - 1)}",
                *(f"| {' | '.join(line)} |" for line in lines),
                "",
                *(f"- {row['service']} did not deliver: {_reasons(row)}" for row in scores if row["reasons"]),
                *(f"- `{path}`" for path in self.files.paths),
            ]
        )


def _row(document: Document, compared: FieldComparison, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """A line of comparison.jsonl."""
    answers = {label: compared.answer(label) for label in outcomes}
    return {
        "document": document.name,
        "sha256": next((each.ref.document_sha256 for each in outcomes.values() if each.ref), None),
        "field": compared.field,
        "values": {label: answer.value if answer else None for label, answer in answers.items()},
        "confidences": {label: answer.confidence if answer else None for label, answer in answers.items()},
        "reasons": {label: each.reason for label, each in outcomes.items() if each.reason},
        "found": compared.found,
        "agreeing": compared.agreeing,
        "agreement": compared.agreement,
    }


def _conflict(document: Document, compared: FieldComparison) -> dict[str, Any]:
    """A line of conflicts.jsonl."""
    candidates = [
        {"value": each.value, "services": each.services, "answers": each.answers}
        for each in compared.candidates
    ]
    return {
        "document": document.name,
        "field": compared.field,
        "candidates": candidates,
        "silent": compared.silent,
    }


def _cells(document: Document, compared: FieldComparison, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """A row of the table for people."""
    agreement = f"{compared.agreeing} of {compared.found}" if compared.found else ""
    values = {label: _cell(compared, label, outcome) for label, outcome in outcomes.items()}
    # Services come last: with more than two of them the table is wider than what Prefect's UI shows of it.
    return {"document": cell(document.name), "field": cell(compared.field), "agreement": agreement, **values}


def _cell(compared: FieldComparison, label: str, outcome: Outcome) -> str:
    if outcome.reason is not None:
        return str(outcome.reason)
    answer = compared.answer(label)
    return "" if answer is None else str(cell(str(answer.value)))


def _summary_cells(row: Mapping[str, Any]) -> Iterator[str]:
    yield str(row["service"])
    yield f"{row['delivered']:,} of {row['documents']:,}"
    yield f"{row['fields']:,}"
    yield "" if row["agreement"] is None else f"{row['agreement']:.1%}"
    for name in ("seconds_p50", "seconds_p95"):
        yield "" if row[name] is None else f"{row[name]:.1f}"
    for name in ("pages", "credits"):
        yield _UNTOLD if row[name] is None else f"{row[name]:,g}"


def _without_empty(table: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The table without the columns in which no service has anything; the first row is the head."""
    columns = [column for column in zip(*table, strict=True) if not {*column[1:]} <= {"", _UNTOLD}]
    return list(zip(*columns, strict=True))


def _reasons(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{number:,} {reason}" for reason, number in row["reasons"].items())


def _subject(jobs: Sequence[JobParameter], folder: str) -> str:
    """What an artifact is called after: two names fit, more do not."""
    if len(jobs) > 2:
        return f"{count(len(jobs), 'service')} on {Path(folder).name or folder}"
    return " and ".join(map(job_label, jobs))
