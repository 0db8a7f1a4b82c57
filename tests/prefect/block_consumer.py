"""A consumer of job blocks in both forms, for the type checker; it is never run."""

from __future__ import annotations

from typing_extensions import assert_type

from prefect_docjobs.blocks import DocJobRun, MindeeJob
from prefect_docjobs.models import Document, JobStatus, Result


def in_sync_code(job: MindeeJob, document: Document) -> None:
    run = job.trigger(document)
    assert_type(run, DocJobRun)
    assert_type(run.wait_for_completion(timeout=60), JobStatus)
    assert_type(run.status(), JobStatus)
    assert_type(run.fetch_result(), Result)
    run.cancel()


async def in_async_code(job: MindeeJob, document: Document) -> None:
    run = await job.atrigger(document)
    assert_type(run, DocJobRun)
    assert_type(await run.await_for_completion(timeout=60), JobStatus)
    assert_type(await run.astatus(), JobStatus)
    assert_type(await run.afetch_result(), Result)
    await run.acancel()
