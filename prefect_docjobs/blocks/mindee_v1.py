"""Mindee V1: credentials and jobs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from prefect_docjobs.blocks.base import DocJob, PushingCredentials, docs_url


class MindeeV1Credentials(PushingCredentials):
    """An account with Mindee V1, the API of the ready-made document types.

    Example:
        Load saved credentials and ask with them:
        ```python
        from prefect_docjobs import MindeeV1Credentials

        credentials = MindeeV1Credentials.load("BLOCK_NAME")
        async with credentials.get_client() as http:
            ...
        ```
    """

    _block_type_name = "Mindee V1 Credentials"
    _block_type_slug = "mindee-v1-credentials"
    _documentation_url = docs_url("mindee_v1")
    _provider = "mindee_v1"

    base_url: str = Field(
        default="https://api.mindee.net",
        title="Base URL",
        description="Where the service is: scheme, host and port. The key goes nowhere else.",
    )


class MindeeV1Job(DocJob):
    """A job at Mindee V1: a product of the catalogue or of your own, and what to return.

    Example:
        Load a saved job, submit a document and wait for its result:
        ```python
        from prefect_docjobs import MindeeV1Job, Document

        job = MindeeV1Job.load("BLOCK_NAME")
        run = await job.trigger(Document.from_path("invoice.pdf"))
        await run.wait_for_completion(timeout=600)
        result = await run.fetch_result()
        ```
    """

    _block_type_name = "Mindee V1 Job"
    _block_type_slug = "mindee-v1-job"
    _documentation_url = docs_url("mindee_v1")
    _provider = "mindee_v1"

    credentials: MindeeV1Credentials = Field(description="The account that runs and pays for the job.")
    endpoint: str = Field(description="The product's name in its URL, such as invoices.")
    account: str = Field(
        default="mindee", description="Who owns the product: mindee for all products of the catalogue."
    )
    version: str = Field(description="The product's version, such as 4; v4 means the same.")
    full_text_ocr: bool | None = Field(
        default=None, title="Full text OCR", description="Give the whole text too."
    )
    cropper: bool | None = Field(default=None, description="Give boxes of the documents on each page.")
    rag: bool | None = Field(
        default=None, title="RAG", description="Use retrieval-augmented generation, where the product has it."
    )
    include_mvision: bool | None = Field(
        default=None,
        title="Include mvision",
        description="Give all words with their boxes too; not with base64.",
    )
    send: Literal["file", "base64"] = Field(
        default="file", description="How files travel: as multipart, or as base64 in JSON."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further query parameters of the request, sent as they are."
    )
