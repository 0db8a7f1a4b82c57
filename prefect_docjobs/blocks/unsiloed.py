"""Unsiloed: credentials and jobs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from prefect_docjobs.blocks.base import DocJob, DocJobsCredentials, checked_secret, docs_url


class UnsiloedCredentials(DocJobsCredentials):
    """An account with Unsiloed.

    Example:
        Load saved credentials and ask with them:
        ```python
        from prefect_docjobs import UnsiloedCredentials

        credentials = UnsiloedCredentials.load("BLOCK_NAME")
        async with credentials.get_client() as http:
            ...
        ```
    """

    _block_type_name = "Unsiloed Credentials"
    _block_type_slug = "unsiloed-credentials"
    _documentation_url = docs_url("unsiloed")
    _provider = "unsiloed"

    base_url: str = Field(
        default="https://prod.visionapi.unsiloed.ai",
        title="Base URL",
        description="Where the service is: scheme, host and port. The key goes nowhere else.",
    )
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


class UnsiloedJob(DocJob):
    """A job at Unsiloed: extract named fields, parse to markdown, classify, or split.

    Example:
        Load a saved job, submit a document and wait for its result:
        ```python
        from prefect_docjobs import UnsiloedJob, Document

        job = UnsiloedJob.load("BLOCK_NAME")
        run = await job.trigger(Document.from_path("invoice.pdf"))
        await run.wait_for_completion(timeout=600)
        result = await run.fetch_result()
        ```
    """

    _block_type_name = "Unsiloed Job"
    _block_type_slug = "unsiloed-job"
    _documentation_url = docs_url("unsiloed")
    _provider = "unsiloed"

    credentials: UnsiloedCredentials = Field(description="The account that runs and pays for the job.")
    product: Literal["extract", "parse", "classify", "split"] = Field(
        default="extract", description="What to do with the document."
    )
    schema_data: dict[str, Any] | None = Field(
        default=None, description="JSON Schema of the fields to extract. Needed for extract."
    )
    categories: list[str | dict[str, Any]] | None = Field(
        default=None,
        description="Names, or objects with name and description. Needed for classify and split.",
    )
    model: str | None = Field(default=None, description="Extract: alpha, beta, gamma or delta.")
    enable_citations: bool | None = Field(default=None, description="Extract: give boxes with the values.")
    schema_name: str | None = Field(
        default=None, description="Extract: a name that the service keeps with the job."
    )
    high_accuracy_mode: bool | None = Field(
        default=None, description="Extract: have values checked again; slower."
    )
    detect_pii: bool | None = Field(
        default=None,
        title="Detect PII",
        description="Extract and parse: look for personal data first, and refuse a document that has some.",
    )
    pii_engine: str | None = Field(
        default=None, title="PII engine", description="Extract and parse: standard or advanced."
    )
    pii_block_severity: str | None = Field(
        default=None,
        title="PII block severity",
        description="Extract and parse: what is severe enough to refuse: any, low, medium or high.",
    )
    use_high_resolution: bool | None = Field(default=None, description="Parse: finer images; slower.")
    segmentation_method: str | None = Field(
        default=None, description="Parse: smart_layout_detection or page_by_page."
    )
    ocr_mode: str | None = Field(default=None, title="OCR mode", description="Parse: auto_ocr or force_ocr.")
    ocr_engine: str | None = Field(
        default=None,
        title="OCR engine",
        description="Parse: UnsiloedHawk, UnsiloedBeta or UnsiloedStorm.",
    )
    merge_tables: bool | None = Field(
        default=None, description="Parse: join tables that run over several pages."
    )
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
        default=None, description="Parse: how each segment type is rendered."
    )
    output_fields: dict[str, bool] | None = Field(
        default=None, description="Parse: which parts of a segment to give."
    )
    xml_citation: bool | None = Field(
        default=None, title="XML citation", description="Parse: link bibliographic citations; PDF only."
    )
    error_handling: str | None = Field(default=None, description="Parse: Continue or Fail.")
    routes: Literal["product", "jobs"] = Field(
        default="product",
        description="Where jobs are looked at: the product's own route, or the generic jobs route.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further form fields of the request, sent as they are."
    )
