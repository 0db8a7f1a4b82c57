"""What tasks are called with: checked, and turned into the nouns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from prefect.blocks.core import Block
from pydantic import ValidationError

from prefect_docjobs.blocks import DocJob
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.models import Batch, Document, JobRef, Outcome

Job: TypeAlias = DocJob | str
"""A job block, or the name of a saved one, such as `mindee-job/invoices`."""

Ref: TypeAlias = JobRef | Mapping[str, Any] | str
"""A job's ref, or its JSON, as text or parsed."""


async def the_job(job: Job) -> DocJob:
    """The block itself, loaded where it is named.

    Raises:
        ConfigurationError: It is no job block, or there is none of this name.
    """
    if isinstance(job, DocJob):
        return job
    if not isinstance(job, str):
        raise ConfigurationError(_no_job(job))
    if not job.strip("*"):
        raise ConfigurationError(
            "The job arrived as a mask: a block does not travel with its secrets. Save it, and pass its name."
        )
    if job.count("/") != 1:
        raise ConfigurationError(
            f"{job!r} names no job block. Give type and name, such as 'mindee-job/invoices'."
        )
    try:
        found = await Block.aload(job)
    except ValueError as problem:
        raise ConfigurationError(f"{job!r} cannot be loaded: {problem}") from None
    if not isinstance(found, DocJob):
        raise ConfigurationError(f"{job!r} is a {type(found).__name__}, not a job block.")
    return found


def _no_job(job: object) -> str:
    if isinstance(job, (tuple, list)):
        return "The job arrived in pieces. Wrap the block in .map: unmapped(job), or pass its name."
    return f"A job block or its name is needed, such as 'mindee-job/invoices', not {type(job).__name__}."


def the_document(document: object) -> Document:
    """The document; raises `ConfigurationError` for anything else."""
    if isinstance(document, Document):
        return document
    raise ConfigurationError(
        f"A Document is needed, not {type(document).__name__}: Document.from_path(…), .from_bytes(…) or "
        ".from_url(…)."
    )


def the_documents(documents: Iterable[Document]) -> list[Document]:
    """The documents as a list; raises `ConfigurationError` for anything else."""
    if isinstance(documents, (str, bytes, Document, Mapping)) or not isinstance(documents, Iterable):
        raise ConfigurationError(
            "A list of documents is needed: Document.from_folder(…), or [Document.from_path(…), …]."
        )
    return [the_document(document) for document in documents]


def the_ref(ref: Ref) -> JobRef:
    """The ref itself, read where it came as JSON.

    Raises:
        ConfigurationError: It is not the JSON of a ref.
    """
    if isinstance(ref, JobRef):
        return ref
    try:
        return JobRef.model_validate_json(ref) if isinstance(ref, str) else JobRef.model_validate(ref)
    except ValidationError as problem:
        wrong = ", ".join(".".join(map(str, error["loc"])) or error["msg"] for error in problem.errors())
        raise ConfigurationError(f"This is not the ref of a job: {wrong}.") from None


def the_outcomes(jobs: Iterable[Ref | Outcome]) -> list[Outcome]:
    """A row for each job: the one it has in a batch, or a new one for a ref.

    Raises:
        ConfigurationError: Something among them is neither.
    """
    if isinstance(jobs, (str, Mapping, JobRef)) or not isinstance(jobs, Iterable):
        raise ConfigurationError("A batch or a list of refs is needed.")
    rows = jobs.heads if isinstance(jobs, Batch) else jobs  # results stay where they are
    return [job if isinstance(job, Outcome) else _new_row(the_ref(job)) for job in rows]


def _new_row(ref: JobRef) -> Outcome:
    return Outcome(document=ref.document_name, ref=ref)


def open_refs(rows: Sequence[Outcome]) -> dict[int, JobRef]:
    """The jobs that can go on, by row. Failed rows stay as they are; to drive them again, give their refs."""
    return {index: row.ref for index, row in enumerate(rows) if row.ok and row.ref is not None}
