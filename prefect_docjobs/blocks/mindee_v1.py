"""Mindee V1: credentials and jobs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr

from prefect_docjobs.blocks.credentials import API_KEY, DocJobsCredentials, PushingCredentials, docs_url
from prefect_docjobs.blocks.forms import YesNo
from prefect_docjobs.blocks.jobs import PAYING_ACCOUNT, DocJob


class MindeeV1Credentials(DocJobsCredentials, PushingCredentials):
    """An account with Mindee V1, the API of the ready-made document types.

    Example:
        Load saved credentials, and make a job of them:
        ```python
        from prefect_docjobs import MindeeV1Credentials, MindeeV1Job

        credentials = MindeeV1Credentials.load("BLOCK_NAME")  # async: await MindeeV1Credentials.aload(...)
        job = MindeeV1Job(credentials=credentials, endpoint="invoices", version="4")
        ```
    """

    _block_type_name = "Mindee V1 Credentials"
    _block_type_slug = "mindee-v1-credentials"
    _documentation_url = docs_url("mindee_v1")
    _provider = "mindee_v1"

    api_key: SecretStr = API_KEY
    base_url: str = Field(
        default="https://api.mindee.net",
        title="Base URL",
        description="Where the service is: scheme, host and port. The key goes nowhere else.",
    )


class MindeeV1Job(DocJob):
    """A job at Mindee V1: a product of the catalogue or of your own, and what to return.

    Example:
        Load a saved job, and extract from a document:
        ```python
        from prefect_docjobs import MindeeV1Job, Document, extract_documents

        job = MindeeV1Job.load("BLOCK_NAME")  # async: await MindeeV1Job.aload("BLOCK_NAME")
        batch = extract_documents(job, [Document.from_path("invoice.pdf")])
        print(batch.rows())
        ```
    """

    _block_type_name = "Mindee V1 Job"
    _block_type_slug = "mindee-v1-job"
    _documentation_url = docs_url("mindee_v1")
    _provider = "mindee_v1"

    credentials: MindeeV1Credentials = Field(description=PAYING_ACCOUNT)
    endpoint: str = Field(description="The product's name in its URL, such as invoices.")
    version: str = Field(description="The product's version, such as 4; v4 means the same.")
    account: str = Field(
        default="mindee", description="Who owns the product: mindee for all products of the catalogue."
    )
    full_text_ocr: YesNo = Field(default=None, title="Full text OCR", description="Give the whole text too.")
    cropper: YesNo = Field(default=None, description="Give boxes of the documents on each page.")
    rag: YesNo = Field(
        default=None, title="RAG", description="Use retrieval-augmented generation, where the product has it."
    )
    include_mvision: YesNo = Field(
        default=None,
        title="Include mvision",
        description="Give all words with their boxes too; not with base64.",
    )
    send: Literal["file", "base64"] = Field(
        default="file", description="How files travel: as multipart, or as base64 in JSON."
    )
    options: dict[str, Any] = Field(
        default={}, description="Further query parameters of the request, sent as they are."
    )
