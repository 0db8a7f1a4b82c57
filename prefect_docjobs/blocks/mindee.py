"""Mindee V2: credentials and jobs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr

from prefect_docjobs.blocks.credentials import API_KEY, DocJobsCredentials, PushingCredentials, docs_url
from prefect_docjobs.blocks.forms import JsonTree, YesNo
from prefect_docjobs.blocks.jobs import PAYING_ACCOUNT, DocJob


class MindeeCredentials(DocJobsCredentials, PushingCredentials):
    """An account with Mindee V2, the API of the platform for custom models.

    Example:
        Load saved credentials, and make a job of them:
        ```python
        from prefect_docjobs import MindeeCredentials, MindeeJob

        credentials = MindeeCredentials.load("BLOCK_NAME")  # async: await MindeeCredentials.aload(...)
        job = MindeeJob(credentials=credentials, model_id="11111111-2222-4333-8444-555555555555")
        ```
    """

    _block_type_name = "Mindee Credentials"
    _block_type_slug = "mindee-credentials"
    _documentation_url = docs_url("mindee")
    _provider = "mindee"

    api_key: SecretStr = API_KEY
    base_url: str = Field(
        default="https://api-v2.mindee.net",
        title="Base URL",
        description="Where the service is: scheme, host and port. The key goes nowhere else.",
    )


class MindeeJob(DocJob):
    """A job at Mindee V2: a model, what to do with it, and what to return.

    Example:
        Load a saved job, and extract from a document:
        ```python
        from prefect_docjobs import MindeeJob, Document, extract_documents

        job = MindeeJob.load("BLOCK_NAME")  # async: await MindeeJob.aload("BLOCK_NAME")
        batch = extract_documents(job, [Document.from_path("invoice.pdf")])
        print(batch.rows())
        ```
    """

    _block_type_name = "Mindee Job"
    _block_type_slug = "mindee-job"
    _documentation_url = docs_url("mindee")
    _provider = "mindee"

    credentials: MindeeCredentials = Field(description=PAYING_ACCOUNT)
    model_id: str = Field(title="Model ID", description="The model, a UUID from its page on the platform.")
    product: Literal["extraction", "ocr", "crop", "split", "classification"] = Field(
        default="extraction", description="What the model does; it must be the model's own product."
    )
    raw_text: YesNo = Field(
        default=None, description="Give the whole text too. Extraction only; empty: as the model is set."
    )
    polygon: YesNo = Field(
        default=None, description="Give boxes. Extraction only; empty: as the model is set."
    )
    confidence: YesNo = Field(
        default=None, description="Give confidences. Extraction only; empty: as the model is set."
    )
    rag: YesNo = Field(
        default=None,
        title="RAG",
        description="Use retrieval-augmented generation. Extraction only; empty: as the model is set.",
    )
    text_context: str | None = Field(
        default=None, description="What the model should know about the document. Extraction only."
    )
    data_schema: JsonTree = Field(
        default=None,
        description="Fields to extract instead of the model's, as Mindee describes them. Extraction only.",
        json_schema_extra={"default": {}},
    )
    webhook_ids: list[str] = Field(
        default=[],
        title="Webhook IDs",
        description="UUIDs of the model's webhooks to call when the job has ended.",
    )
    alias: str | None = Field(
        default=None,
        description="A text to be echoed. Empty: a key for each document, so that a push finds its job.",
    )
    send: Literal["file", "base64"] = Field(
        default="file", description="How files travel: as multipart, or as base64 in JSON."
    )
    filename: str | None = Field(
        default=None, description="The file name sent with base64. Empty: the document's own."
    )
    options: dict[str, Any] = Field(
        default={}, description="Further form fields of the request, sent as they are."
    )
