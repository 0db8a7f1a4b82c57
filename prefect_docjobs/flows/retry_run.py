"""The flow that drives the failures of an earlier run again."""

# No `from __future__ import annotations`: a flow that is served is loaded by its path, and Prefect 3.8 does
# not find the types of its parameters then.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
from prefect import flow, runtime

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError, Retry, allowed_retry
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.extraction.options import REUSE_DAYS
from prefect_docjobs.flows._output import DeadLetter, LetterWriter, ResultFiles, read_dead_letters
from prefect_docjobs.flows._run import (
    Amount,
    AtLeastOne,
    ChunkedRun,
    Days,
    JobParameter,
    MaxFailures,
    Number,
    Seconds,
    budget_of_run,
    carry_out,
    job_label,
    letter_writer,
    result_files,
)
from prefect_docjobs.models import Batch
from prefect_docjobs.tasks import aretry_failures, cancel_remote_jobs
from prefect_docjobs.tasks._run import resolve_job, run_log
from prefect_docjobs.tasks.cancel import destination_of


def _run_name() -> str:
    given = runtime.flow_run.parameters
    path = Path(given["failures"])
    return f"retry {path.parent.name}/{path.name} through {job_label(given['job'])}"


@flow(
    name="retry-run",
    flow_run_name=_run_name,
    on_cancellation=[cancel_remote_jobs],
    on_crashed=[cancel_remote_jobs],
)
async def retry_run(
    failures: str,
    job: JobParameter,
    *,
    output: str = "docjobs-retried",
    resubmit: bool = False,
    on_uncertain: OnUncertain = "fail",
    chunk_size: AtLeastOne = 100,
    timeout: Seconds | None = None,
    document_timeout: Seconds | None = 3600,
    max_failures: MaxFailures | None = None,
    reuse_days: Days | None = REUSE_DAYS,
    budget: Amount | None = None,
    max_submits: Number | None = None,
    price_per_page: Amount | None = None,
) -> dict[str, Any]:
    """Drive the failures of an earlier run again: exactly those whose reasons allow it.

    What the service did not accept is submitted again, and what took too long is waited for again. What may
    not be driven again is a line of the new failures.jsonl, as it was.

    Args:
        failures: The failures.jsonl of the earlier run.
        job: Name of the job block of that run, such as mindee-job/invoices.
        output: Folder for results.jsonl, failures.jsonl and rows.jsonl, another than that of the earlier run.
            {date} becomes the date on which the run is scheduled (UTC).
        resubmit: Buy again what is paid for and has no result: failed, expired, lost_job, lost_result.
        on_uncertain: What may have been accepted: fail leaves it, resubmit sends it again at the risk of a
            second bill.
        chunk_size: Documents per task run; four task runs go on at a time.
        timeout: Seconds for the whole run; then nothing more is submitted or waited for. Empty: no limit.
        document_timeout: Seconds for each document. Empty: no limit.
        max_failures: The run fails, after everything is written, when more documents have no result: below 1
            a share of all, such as 0.05; from 1 on a number of them. Empty: when not one is delivered.
        reuse_days: Days for which a content that was bought is not bought again; 0 never. Empty: for ever.
        budget: Pages that may be bought, or with a price what they may cost. Documents that do not fit are
            lines of the new failures.jsonl. Waiting costs nothing. Empty: no limit.
        max_submits: Documents that may be submitted. Empty: no limit.
        price_per_page: What a page costs, in any currency.

    Returns:
        The totals and the paths of the files, as `extract_folder` does.

    Raises:
        ConfigurationError: There is no such job, the dead letters cannot be read or are of another service
            or account, or `output` is where they are.
    """
    log, block = run_log(), await resolve_job(job)
    files = result_files(output)
    letters = await anyio.to_thread.run_sync(_read, Path(failures), files)
    for letter in letters:
        _check_account(letter, block)
    sources = [source for letter in letters if (source := letter.source())]
    limit = await budget_of_run(budget, price_per_page, sources, max_submits=max_submits)
    options = {"document_timeout": document_timeout, "reuse_days": reuse_days, "budget": limit}
    work = _Retry(block, resubmit, on_uncertain, options, letter_writer(block, log))
    run = ChunkedRun(work, files, timeout, price_per_page)
    return await carry_out(
        run,
        letters,
        chunk_size=chunk_size,
        source=failures,
        job=job_label(job),
        max_failures=max_failures,
        nothing=f"There are no failed documents in {failures}.",
        log=log,
    )


@dataclass(frozen=True)
class _Retry:
    """Drives dead letters again, a chunk at a time."""

    job: DocJob
    resubmit: bool
    on_uncertain: OnUncertain
    options: Mapping[str, Any]
    writer: LetterWriter

    async def drive(self, items: Sequence[DeadLetter], *, numbers: str, timeout: float | None) -> Batch:
        batch: Batch = await aretry_failures.with_options(task_run_name=f"retry {numbers}")(
            self.job,
            [letter.outcome() for letter in items],
            [letter.source() for letter in items],
            resubmit=self.resubmit,
            on_uncertain=self.on_uncertain,
            timeout=timeout,
            **self.options,
        )
        return batch

    async def letters(self, items: Sequence[DeadLetter], batch: Batch) -> list[DeadLetter]:
        """New letters for those that failed again; the others stay as they were."""
        written = iter(await self.writer.letters([letter.source() for letter in items], batch))
        failed = [letter for letter, row in zip(items, batch.heads, strict=True) if not row.ok]
        return [
            letter if self._was_left(letter) else new for letter, new in zip(failed, written, strict=True)
        ]

    def _was_left(self, letter: DeadLetter) -> bool:
        step = allowed_retry(
            letter.reason,
            has_job=letter.ref is not None,
            resubmit=self.resubmit,
            on_uncertain=self.on_uncertain,
        )
        to_submit = step in (Retry.SUBMIT, Retry.RESUBMIT)
        return step is Retry.NO or (to_submit and letter.source() is None)


def _read(path: Path, files: ResultFiles) -> list[DeadLetter]:
    """The letters, unless what this run writes would replace the results of the earlier one."""
    if path.expanduser().resolve().parent == files.folder:
        raise ConfigurationError(
            f"output: {files.folder} holds the results of the earlier run, which would be replaced. Give "
            "another folder."
        )
    return read_dead_letters(path)


def _check_account(letter: DeadLetter, job: DocJob) -> None:
    """Never send a document to another service or account than the one that it was meant for."""
    for name, ours in destination_of(job).items():
        theirs = getattr(letter, name)
        if theirs is not None and theirs != ours:
            raise ConfigurationError(
                f"{letter.document}: the dead letter's {name} is {theirs!r}, the job's is {ours!r}. Retry "
                "it with the job that it was sent with."
            )
