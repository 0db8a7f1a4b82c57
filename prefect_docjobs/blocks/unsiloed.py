"""Unsiloed: credentials and jobs."""

from __future__ import annotations

from abc import ABC
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator

from prefect_docjobs.blocks.credentials import API_KEY, Account, DocJobsCredentials, checked_secret, docs_url
from prefect_docjobs.blocks.forms import YesNo, one_of
from prefect_docjobs.blocks.jobs import PAYING_ACCOUNT, DocJob


class HiddenPathCredentials(Account, ABC):
    """An account with a service that signs nothing: its webhook calls a path that nobody guesses."""

    webhook_token: SecretStr | None = Field(
        default=None,
        title="Webhook token",
        min_length=32,
        description=(
            "The last part of the path that its webhook calls, 32 letters, digits, - and _ or more: "
            "Unsiloed signs nothing, so the path must not be guessed."
        ),
    )

    @field_validator("webhook_token")
    @classmethod
    def _check_webhook_token(cls, token: SecretStr | None) -> SecretStr | None:
        return checked_secret(token) if token else token


class UnsiloedCredentials(DocJobsCredentials, HiddenPathCredentials):
    """An account with Unsiloed.

    Example:
        Load saved credentials, and make a job of them:
        ```python
        from prefect_docjobs import UnsiloedCredentials, UnsiloedJob

        credentials = UnsiloedCredentials.load("BLOCK_NAME")  # async: await UnsiloedCredentials.aload(...)
        job = UnsiloedJob(credentials=credentials, product="parse")
        ```
    """

    _block_type_name = "Unsiloed Credentials"
    _block_type_slug = "unsiloed-credentials"
    _documentation_url = docs_url("unsiloed")
    _provider = "unsiloed"

    api_key: SecretStr = API_KEY
    base_url: str = Field(
        default="https://prod.visionapi.unsiloed.ai",
        title="Base URL",
        description="Where the service is: scheme, host and port. The key goes nowhere else.",
    )


class UnsiloedJob(DocJob):
    """A job at Unsiloed: extract named fields, parse to markdown, classify, or split.

    Example:
        Load a saved job, and extract from a document:
        ```python
        from prefect_docjobs import UnsiloedJob, Document, extract_documents

        job = UnsiloedJob.load("BLOCK_NAME")  # async: await UnsiloedJob.aload("BLOCK_NAME")
        batch = extract_documents(job, [Document.from_path("invoice.pdf")])
        print(batch.rows())
        ```
    """

    _block_type_name = "Unsiloed Job"
    _block_type_slug = "unsiloed-job"
    _documentation_url = docs_url("unsiloed")
    _provider = "unsiloed"

    credentials: UnsiloedCredentials = Field(description=PAYING_ACCOUNT)
    product: Literal["extract", "parse", "classify", "split"] = Field(
        default="extract", description="What to do with the document."
    )
    schema_data: dict[str, Any] | None = Field(
        default=None,
        description=(
            "JSON Schema of the fields to extract, such as "
            '{"type": "object", "properties": {"total": {"type": "number"}}}. Needed for extract.'
        ),
        examples=[
            {
                "type": "object",
                "properties": {"invoice_number": {"type": "string"}, "total_amount": {"type": "number"}},
            }
        ],
    )
    categories: list[str | dict[str, Any]] | None = Field(
        default=None,
        description="Names, or objects with name and description. Needed for classify and split.",
        examples=[["invoice", {"name": "receipt", "description": "A slip from a till."}]],
    )
    model: Annotated[str | None, one_of("alpha", "beta", "gamma", "delta")] = Field(
        default=None, description="Extract: which of the service's models reads; its default is gamma."
    )
    enable_citations: YesNo = Field(default=None, description="Extract: give boxes with the values.")
    schema_name: str | None = Field(
        default=None, description="Extract: a name that the service keeps with the job."
    )
    high_accuracy_mode: YesNo = Field(default=None, description="Extract: have values checked again; slower.")
    detect_pii: YesNo = Field(
        default=None,
        title="Detect PII",
        description="Extract and parse: look for personal data first, and refuse a document that has some.",
    )
    pii_engine: Annotated[str | None, one_of("standard", "advanced")] = Field(
        default=None,
        title="PII engine",
        description="Extract and parse: what looks for personal data; the service's default is standard.",
    )
    pii_block_severity: Annotated[str | None, one_of("any", "low", "medium", "high")] = Field(
        default=None,
        title="PII block severity",
        description="Extract and parse: what is severe enough to refuse: any, low, medium or high.",
    )
    use_high_resolution: YesNo = Field(default=None, description="Parse: finer images; slower.")
    segmentation_method: Annotated[str | None, one_of("smart_layout_detection", "page_by_page")] = Field(
        default=None, description="Parse: how pages are cut; the service's default is smart_layout_detection."
    )
    ocr_mode: Annotated[str | None, one_of("auto_ocr", "force_ocr")] = Field(
        default=None,
        title="OCR mode",
        description="Parse: how text is read; the service's default is auto_ocr.",
    )
    ocr_engine: Annotated[str | None, one_of("UnsiloedHawk", "UnsiloedBeta", "UnsiloedStorm")] = Field(
        default=None,
        title="OCR engine",
        description="Parse: what reads text; the service's default is UnsiloedHawk.",
    )
    merge_tables: YesNo = Field(default=None, description="Parse: join tables that run over several pages.")
    validate_segments: list[str] | None = Field(
        default=None, description="Parse: segment types to have checked, such as Table."
    )
    keep_segment_types: str | None = Field(
        default=None, description="Parse: segment types to keep, such as table,picture; or all."
    )
    page_range: str | None = Field(
        default=None, description="Parse: pages such as 1-5 or 2,4,6. All pages by default."
    )
    segment_analysis: dict[str, Any] | None = Field(
        default=None,
        description="Parse: how each segment type is rendered.",
        json_schema_extra={"default": {}},
    )
    output_fields: dict[str, bool] | None = Field(
        default=None,
        description="Parse: which parts of a segment to give.",
        json_schema_extra={"default": {}},
    )
    xml_citation: YesNo = Field(
        default=None, title="XML citation", description="Parse: link bibliographic citations; PDF only."
    )
    error_handling: Annotated[str | None, one_of("Continue", "Fail")] = Field(
        default=None, description="Parse: what an error does to the job; the service's default is Continue."
    )
    routes: Literal["product", "jobs"] = Field(
        default="product",
        description="Where jobs are looked at: the product's own route, or the generic jobs route.",
    )
    options: dict[str, Any] = Field(
        default={}, description="Further form fields of the request, sent as they are."
    )
