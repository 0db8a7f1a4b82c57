"""The flow that loads documents into tables, each document once."""

# No `from __future__ import annotations`: a flow that is served is loaded by its path, and Prefect 3.8 does
# not find the types of its parameters then.

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
from prefect import flow, runtime, tags
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.states import Completed, Failed
from prefect.utilities.annotations import quote

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import (
    ConfigurationError,
    Reason,
    Retry,
    RetryWords,
    allowed_retry,
    how_to_retry,
    retry_advice,
)
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.flows._output import DeadLetter, LetterWriter, is_ours
from prefect_docjobs.flows._report import (
    BatchEvent,
    RunReport,
    artifact_key,
    materialize_places,
    sums_of,
    tag_run,
)
from prefect_docjobs.flows._run import (
    Amount,
    AtLeastOne,
    JobParameter,
    MaxFailures,
    RunBar,
    Seconds,
    budget_of_run,
    item_numbers,
    job_label,
    letter_writer,
    publish_report,
    through_chunks,
    too_many,
)
from prefect_docjobs.ledger import entry_for
from prefect_docjobs.loading import (
    Chunk,
    JobIdentity,
    Seen,
    SourceFile,
    SourceFolder,
    Store,
    open_store,
    refuse_password,
    source_sha256,
)
from prefect_docjobs.loading.columns import DOCUMENTS, FIELDS, FILES, LINE_ITEMS, in_utc
from prefect_docjobs.models import Batch, Document, Outcome, Phase
from prefect_docjobs.models.escapes import escaped
from prefect_docjobs.tasks import aextract_documents, aretry_failures, cancel_remote_jobs
from prefect_docjobs.tasks._run import Log, resolve_job, run_log
from prefect_docjobs.tasks.cancel import destination_of

_FETCHED_AT_A_TIME = 8
_DATABASES = (".duckdb", ".duckdb.wal")
# Another run has another budget, and perhaps another key or quota.
_OF_A_RUN = (Reason.BUDGET, Reason.UNAUTHORIZED, Reason.QUOTA)
_IF_RESUBMITTED = (Reason.REJECTED, Reason.CANCELLED)


def _run_name() -> str:
    given = runtime.flow_run.parameters
    folder = str(given["folder"]).rstrip("/")
    return f"load {folder.rpartition('/')[2] or folder} via {job_label(given['job'])}"


@flow(
    name="load-documents",
    flow_run_name=_run_name,
    on_cancellation=[cancel_remote_jobs],
    on_crashed=[cancel_remote_jobs],
)
async def load_documents(
    folder: str,
    job: JobParameter,
    destination: str = "duckdb:documents.duckdb",
    *,
    table_schema: str | None = None,
    pattern: str = "*",
    recursive: bool = False,
    modified_since: datetime | None = None,
    chunk_size: AtLeastOne = 100,
    timeout: Seconds | None = None,
    document_timeout: Seconds | None = 3600,
    max_documents: AtLeastOne | None = None,
    resubmit: bool = False,
    on_uncertain: OnUncertain = "fail",
    max_failures: MaxFailures | None = None,
    budget: Amount | None = None,
    price_per_page: Amount | None = None,
) -> dict[str, Any]:
    """Load the results of a folder's documents into tables, each document once.

    Only files that are new, have changed, or failed are read. A content that is loaded is not extracted
    again, whatever its file is called. Each chunk is one transaction: a run that dies has loaded whole
    chunks, and the next one goes on with the jobs that it had paid for.

    Args:
        folder: The folder with the documents: a path, or an address such as s3://bucket/inbox.
        job: Name of a saved job block, such as mindee-job/invoices.
        destination: duckdb:FILE, postgresql://USER@HOST/DATABASE or delta:FOLDER. An address with a
            password is given as secret/NAME (a Secret block) or env:NAME (an environment variable).
        table_schema: The schema that the tables are in. Empty: docjobs in PostgreSQL, main in DuckDB.
        pattern: Which files, such as *.pdf. Hidden files are left out.
        recursive: Take the files of sub-folders too.
        modified_since: Leave out files that were last modified before. Empty: none.
        chunk_size: Documents per task run and transaction; four go on at a time.
        timeout: Seconds for the whole run; then nothing more is submitted or waited for. Empty: no limit.
        document_timeout: Seconds for each document. Empty: no limit.
        max_documents: Read so many files at most, new ones first, then by name. Empty: all.
        resubmit: Buy again what failed after it was paid for (failed, expired, lost_job, lost_result), and
            try again what was rejected or cancelled.
        on_uncertain: When a submit's answer is lost: fail the document, or resubmit it at the risk of a
            second bill.
        max_failures: The run fails, after everything is loaded, when more documents fail: below 1 a share of
            those that were tried, such as 0.05; from 1 on a number of them. Empty: when not one is loaded.
        budget: Pages that may be bought, or with a price what they may cost. Documents that do not fit are
            left to a later run; it holds for those that failed before, too. Empty: no limit.
        price_per_page: What a page costs, in any currency.

    Returns:
        Numbers of files: found, unchanged, known, loaded, failed and left; the reasons of failures; pages
        and credits; the watermark, which is when the newest file was modified (UTC); the destination.

    Raises:
        InvalidDocument: The folder is not there or cannot be listed.
        ConfigurationError: There is no such job or destination, or the documents are in the destination's
            own folder. Nothing was sent.
        DestinationUnavailable: The destination cannot be reached or written. Before anything is sent, if
            that was so from the start.
    """
    log, block = run_log(), await resolve_job(job)
    store = open_store(await _address(destination), table_schema)
    source = await anyio.to_thread.run_sync(SourceFolder, folder)
    if await anyio.to_thread.run_sync(store.owns, source.address):
        raise ConfigurationError("destination: the documents are in its folder. Give another one.")
    await store.prepare()
    found = await anyio.to_thread.run_sync(_documents, source, pattern, recursive, store)
    since = modified_since and in_utc(modified_since)
    files = [file for file in found if not (since and file.modified_at and file.modified_at < since)]
    load = _Load(
        block,
        source,
        store,
        log,
        letter_writer(block, log),
        RunReport(price_per_page),
        timeout=timeout,
        document_timeout=document_timeout,
        resubmit=resubmit,
        on_uncertain=on_uncertain,
        budget=await _budget(budget, price_per_page, source, found),
    )
    due = load.due(files, await store.seen(load.identity.key, source.address))
    log.info("%d of %d files in %s are new, changed or to be tried again", len(due), len(files), folder)
    due = due[:max_documents]
    label, provider = job_label(job), block.provider()
    key, output, counts = f"load-{label}", Destination(store.place, table_schema), load.counts
    await tag_run("docjobs", provider.name, log=log)
    with tags(provider.name):
        work, bar = partial(load.chunk, len(due)), artifact_key("progress", key)
        await through_chunks(work, due, chunk_size, log, bar=bar)
        # An earlier load's failures are shown, but not counted in this run's sums.
        load.report.add_failures(counts.found, load.left)
        await publish_report(
            load.report,
            output,
            title=f"{folder} via {label}",
            key=key,
            elapsed=load.elapsed,
            log=log,
            counts={_COUNTS[name]: number for name, number in asdict(counts).items()},
            sentence=str(counts),
        )
        tally = load.report.tally
        if tally.documents:  # else nothing was made, and automations on the asset need not start
            metadata = {**sums_of(tally, label), **asdict(counts), "schema": table_schema}
            places = {output.asset: f"Documents as {output.content}."}
            await materialize_places(places, metadata, what="tables", source=folder, log=log)
    is_well = not too_many(tally, max_failures)
    event = BatchEvent(folder, label, provider.name, provider.product, is_well=is_well, kind="load")
    where = {"destination": store.place, "schema": table_schema, "message": str(counts)}
    event.emit(tally, {**asdict(counts), **where}, load.elapsed)
    if not is_well:
        # Prefect takes the run's state from here and hands the caller the state's data.
        return cast("dict[str, Any]", Failed(message=f"{counts}. The reasons are in the table documents."))
    modified = max((file.modified_at for file in files if file.modified_at), default=None)
    totals = {name: tally.totals()[name] for name in ("reasons", "pages", "credits")}
    watermark = {"watermark": modified.isoformat() if modified else None, "destination": destination}
    data = {**asdict(counts), **totals, **watermark}
    return cast("dict[str, Any]", Completed(message=str(counts), data=data))


# -- what is given


async def _address(destination: str) -> str:
    """The address that a destination names: itself, the value of a Secret block, or of a variable."""
    if destination.startswith("secret/"):
        try:
            block = await Block.aload(destination)
        except ValueError as problem:
            raise ConfigurationError(f"destination: {destination} cannot be loaded: {problem}") from None
        value: object = cast("Secret[Any]", block).get() if isinstance(block, Secret) else None
        if not isinstance(value, str):
            raise ConfigurationError(f"destination: {destination} holds no address as text.")
        return value
    if destination.startswith("env:"):
        name = destination.removeprefix("env:")
        if address := os.environ.get(name, "").strip():
            return address
        raise ConfigurationError(f"destination: the environment variable {name} is not set.")
    refuse_password(destination, "destination")
    return destination


def _documents(source: SourceFolder, pattern: str, recursive: bool, store: Store) -> list[SourceFile]:
    """Without what runs have written: results, the destination itself, and the databases of other loads."""
    return [
        file
        for file in source.files(pattern, recursive=recursive)
        if not is_ours(Path(file.name)) and not file.name.endswith(_DATABASES) and not store.owns(file.source)
    ]


async def _budget(
    budget: float | None, price_per_page: float | None, source: SourceFolder, files: Sequence[SourceFile]
) -> Budget | None:
    """The budget of the run; what a retried run has bought is counted by the pages of its files."""
    documents = [document for file in files if (document := source.document(file))]
    by_name = {file.name: file for file in files}
    with tempfile.TemporaryDirectory(prefix="docjobs-") as here:

        def fetch(name: str) -> Document | None:
            return source.fetch(by_name[name], Path(here)).document if name in by_name else None

        return await budget_of_run(budget, price_per_page, documents, fetch=fetch)


def _identity(job: DocJob) -> JobIdentity:
    """Which job reads the documents: the service, the account, the product and all settings.

    The address of the service is no part of it: the same job elsewhere is still the same, and its documents
    are not to be counted twice.
    """
    tenant = destination_of(job)["tenant"]
    entry = entry_for(job.provider(), base_url="", tenant=tenant, name="", sha256="0" * 64, size=None)
    return JobIdentity(
        key=f"{entry.provider}/{entry.product}/{entry.key[:16]}",
        block=job_label(job.saved_name or job),
        provider=entry.provider,
        product=entry.product,
        tenant=entry.tenant,
    )


# -- what is done


@dataclass
class _Counts:
    """What became of the files of a run; see `_COUNTS`."""

    found: int = 0
    unchanged: int = 0
    known: int = 0
    loaded: int = 0
    failed: int = 0
    left: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{number:,} {name}" for name, number in asdict(self).items())


@dataclass(frozen=True)
class _Item:
    """A document with its outcome, first that of an earlier load, if there is one, then that of this one."""

    file: SourceFile
    outcome: Outcome
    document: Document | None = None
    sha256: str = ""

    @property
    def is_new(self) -> bool:
        """Whether it is extracted as if for the first time: there is no job of it to go on with."""
        reason = self.outcome.reason
        has_job = self.outcome.ref is not None and how_to_retry(reason, has_job=True) is Retry.WAIT
        return reason is None or (reason in (*_OF_A_RUN, *_IF_RESUBMITTED) and not has_job)


@dataclass
class _Load:
    """The work of one run."""

    job: DocJob
    folder: SourceFolder
    store: Store
    log: Log
    writer: LetterWriter
    report: RunReport
    timeout: float | None
    document_timeout: float | None
    resubmit: bool
    on_uncertain: OnUncertain
    budget: Budget | None
    identity: JobIdentity = field(init=False)
    counts: _Counts = field(default_factory=_Counts)
    left: list[DeadLetter] = field(default_factory=list)
    _claimed: set[str] = field(default_factory=set)
    _started: float = field(default_factory=anyio.current_time)

    def __post_init__(self) -> None:
        self.identity = _identity(self.job)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return anyio.current_time() - self._started

    def due(self, files: Sequence[SourceFile], seen: Mapping[str, Seen]) -> list[SourceFile]:
        """The files that are new, have changed, or failed and may be tried again; new ones first."""
        new, again = [], []
        for file in files:
            before = seen.get(source_sha256(file.source))
            if before is None:
                new.append(file)
            elif before.version != file.version or not before.is_loaded:
                again.append(file)
            elif before.reason is None:
                self.counts.unchanged += 1
            elif self._is_tried_again(file, Outcome(document=file.name, reason=Reason(before.reason))):
                again.append(file)
        self.counts.found += len(files)
        return [*new, *again]

    def _is_tried_again(self, file: SourceFile, before: Outcome) -> bool:
        """Whether a document that failed before is tried again; else it is counted as left."""
        if before.reason in _OF_A_RUN or (self.resubmit and before.reason in _IF_RESUBMITTED):
            return True
        retry = allowed_retry(
            before.reason,
            has_job=before.ref is not None,
            resubmit=self.resubmit,
            on_uncertain=self.on_uncertain,
        )
        if retry is not Retry.NO:
            return True
        self.counts.left += 1
        # The row may be of another file with the same content.
        letter = DeadLetter.of(before.model_copy(update={"document": file.name}), error=before.error or _LEFT)
        self.left.append(_letter(letter, file))
        return False

    async def chunk(self, total: int, bar: RunBar, chunk: tuple[int, Sequence[SourceFile]]) -> None:
        """Load some files; they are in the destination as a whole, or as before."""
        first, files = chunk
        rows, numbers = Chunk(self.identity), item_numbers(first, len(files), total)
        with tempfile.TemporaryDirectory(prefix="docjobs-") as here, bar.follows(first, len(files)):
            unreadable, items = await self._fetched(files, rows, Path(here))
            tried = [*unreadable, *await self._extracted(items, numbers)]
            for item in tried[len(unreadable) :]:
                sha256 = (item.outcome.ref and item.outcome.ref.document_sha256) or item.sha256
                rows.add_document(sha256, item.file, item.outcome)
                rows.add_file(item.file, sha256)
            left_out = await self.store.write(rows)
            batch = Batch(tuple(item.outcome for item in tried))
            letters = await self.writer.letters([item.document for item in tried], batch)
        if left_out:
            self.log.warning("%d values have no column of their own: they are in the table fields", left_out)
        failed = [item.file for item in tried if not item.outcome.ok]
        letters = [_letter(letter, file) for letter, file in zip(letters, failed, strict=True)]
        self.report.add(first, batch, letters)
        self.counts.failed += len(letters)
        self.counts.loaded += len(tried) - len(letters)

    async def _fetched(
        self, files: Sequence[SourceFile], rows: Chunk, here: Path
    ) -> tuple[list[_Item], list[_Item]]:
        """What cannot be read, and what is to be extracted; the files of all others are added to the rows."""
        run = partial(anyio.to_thread.run_sync, limiter=anyio.CapacityLimiter(_FETCHED_AT_A_TIME))
        fetched = await asyncio.gather(*(run(partial(self.folder.fetch, file, here)) for file in files))
        loaded = await self.store.loaded(self.identity.key, [each.sha256 for each in fetched if each.sha256])
        unreadable, items = [], []
        for each in fetched:
            file, sha256, name = each.file, each.sha256, each.file.name
            if each.document is None or sha256 is None:
                self.log.warning("%s cannot be read: %s", name, each.error)
                rows.add_file(file, None, each.error)
                reason = Reason.INVALID_DOCUMENT
                failed = Outcome(document=name, phase=Phase.SUBMIT, reason=reason, error=each.error)
                unreadable.append(_Item(file, failed))
                continue
            before = loaded[sha256].outcome() if sha256 in loaded else Outcome(document=name)
            if sha256 in self._claimed or (sha256 in loaded and before.ok):
                self.counts.known += 1
            else:
                self._claimed.add(sha256)
                if sha256 not in loaded or self._is_tried_again(file, before):
                    items.append(_Item(file, before, each.document, sha256))
                    continue
            rows.add_file(file, sha256)
        return unreadable, items

    async def _extracted(self, items: Sequence[_Item], numbers: str) -> list[_Item]:
        """The items with what came out, new ones first."""
        new, again = [item for item in items if item.is_new], [item for item in items if not item.is_new]
        outcomes: list[Outcome] = []
        if new:
            outcomes += await aextract_documents.with_options(task_run_name=f"extract {numbers}")(
                self.job,
                quote([item.document for item in new]),  # Prefect does not look into it
                timeout=self._time_left(),
                document_timeout=self.document_timeout,
                on_uncertain=self.on_uncertain,
                budget=self.budget,
            )
        if again:
            outcomes += await aretry_failures.with_options(task_run_name=f"retry among {numbers}")(
                self.job,
                [item.outcome for item in again],
                quote([item.document for item in again]),
                resubmit=self.resubmit,
                on_uncertain=self.on_uncertain,
                timeout=self._time_left(),
                document_timeout=self.document_timeout,
                budget=self.budget,
            )
        return [replace(item, outcome=out) for item, out in zip([*new, *again], outcomes, strict=True)]

    def _time_left(self) -> float | None:
        return None if self.timeout is None else max(0.0, self.timeout - self.elapsed)


# -- what is shown

_COUNTS = {
    "found": "Found",
    "unchanged": "Unchanged since they were loaded",
    "known": "Known: their content is loaded already, or that of another file",
    "loaded": "Loaded",
    "failed": "Failed",
    "left": "Left: failed before, and not tried again",
}
_LEFT = "It failed in an earlier load, and the table documents has the error."
_WORDS = RetryWords(retry="load again", run_again="load again", start_over="load again with resubmit=True")


def _letter(letter: DeadLetter, file: SourceFile) -> DeadLetter:
    """What the next load does about a failure; the file is where it was found, not where it was copied to."""
    is_here = file.source.startswith("file:")
    place = escaped(file.path if is_here else file.source)
    how = retry_advice(letter.reason, has_job=letter.ref is not None, words=_WORDS)
    where = {"path": place if is_here else None, "url": None if is_here else place}
    return letter.model_copy(update={"how": how, **where})


@dataclass(frozen=True)
class Destination:
    """The tables of a load, as `Outputs` describes them.

    Attributes:
        place: See `Store.place`.
        schema: The schema that was given; None for the destination's usual one.
    """

    place: str
    schema: str | None = None

    heading = "Destination"
    where_documents = f"`{DOCUMENTS}` has them all, `{FIELDS}` and `{LINE_ITEMS}` all of their values."
    where_failures = (
        f"They are the rows of `{DOCUMENTS}` with a `reason`, and those of `{FILES}` with an `error`."
    )

    @property
    def asset(self) -> str:
        """What the asset is made of: the schema is part of it, as in the addresses of tables."""
        return f"{self.place}/{self.schema}" if self.schema and "://" in self.place else self.place

    @property
    def content(self) -> str:
        """The tables in words."""
        names = f"the tables {DOCUMENTS}, {FIELDS}, {LINE_ITEMS} and {FILES}"
        return f"{names}, in the schema {self.schema}" if self.schema else names

    @property
    def parts(self) -> Mapping[str, str]:
        """See `Outputs`."""
        return {self.place: self.content}
