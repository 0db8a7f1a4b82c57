"""NuMind's NuExtract: credentials and jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from prefect_docjobs.blocks.credentials import API_KEY, DocJobsCredentials, docs_url
from prefect_docjobs.blocks.forms import NumberOrWord, YesNo
from prefect_docjobs.blocks.jobs import PAYING_ACCOUNT, DocJob
from prefect_docjobs.models import Document


class NuMindCredentials(DocJobsCredentials):
    """An account with NuMind's NuExtract platform.

    Example:
        Load saved credentials, and make a job of them:
        ```python
        from prefect_docjobs import NuMindCredentials, NuMindJob

        credentials = NuMindCredentials.load("BLOCK_NAME")  # async: await NuMindCredentials.aload(...)
        job = NuMindJob(credentials=credentials, template={"total_amount": "number"})
        ```
    """

    _block_type_name = "NuMind Credentials"
    _block_type_slug = "numind-credentials"
    _documentation_url = docs_url("numind")
    _provider = "numind"

    api_key: SecretStr = API_KEY
    base_url: str = Field(
        default="https://nuextract.ai",
        title="Base URL",
        description="Where the service is: scheme, host and port. The key goes nowhere else.",
    )


class Example(BaseModel):
    """A solved document: a file that whoever runs the job can read, and what to extract from it."""

    model_config = ConfigDict(extra="forbid")

    path: Path = Field(description="The file.")
    result: dict[str, Any] = Field(description="The expected result, in the form of the template.")


class NuMindJob(DocJob):
    """A job at NuExtract: a template or a project to extract with, or the document as markdown.

    Example:
        Load a saved job, and extract from a document:
        ```python
        from prefect_docjobs import NuMindJob, Document, extract_documents

        job = NuMindJob.load("BLOCK_NAME")  # async: await NuMindJob.aload("BLOCK_NAME")
        batch = extract_documents(job, [Document.from_path("invoice.pdf")])
        print(batch.rows())
        ```
    """

    _block_type_name = "NuMind Job"
    _block_type_slug = "numind-job"
    _documentation_url = docs_url("numind")
    _provider = "numind"

    credentials: NuMindCredentials = Field(description=PAYING_ACCOUNT)
    product: Literal["extraction", "content"] = Field(
        default="extraction", description="Named values (extraction) or the document as markdown (content)."
    )
    template: dict[str, Any] | None = Field(
        default=None,
        description='What to extract, such as {"total": "number"}. Extraction: this or a project.',
        examples=[{"invoice_number": "verbatim-string", "total_amount": "number"}],
    )
    project_id: str | None = Field(
        default=None,
        title="Project ID",
        description="A project at the service instead of a template; optional for content.",
    )
    instructions: str | None = Field(
        default=None, description="Guidance for the model. With a template only; a project has its own."
    )
    examples: list[Example] = Field(
        default=[],
        description="Solved documents, each with its expected result. With a template only.",
    )
    temperature: float | None = Field(default=None, description="Diversity of the output, 0 to 2.")
    dpi: NumberOrWord = Field(
        default=None,
        title="DPI",
        description="Resolution for documents that become images: 1 to 600, or automatic.",
    )
    image_width: NumberOrWord = Field(
        default=None, description="Width of single images: pixels, automatic or original."
    )
    max_output_tokens: NumberOrWord = Field(
        default=None, description="Most tokens of the output: a number, or Unlimited."
    )
    max_example_token_number: int | None = Field(
        default=None, description="Most tokens for examples, 0 to 130000. Extraction only."
    )
    max_example_number: NumberOrWord = Field(
        default=None, description="Most examples: a number, 0 for none, or Unlimited. Extraction only."
    )
    min_example_similarity: float | None = Field(
        default=None, description="Least similarity of an example, 0 (any) to 1 (the same). Extraction only."
    )
    enable_thinking: YesNo = Field(default=None, description="Let the model reason first.")
    thinking_token_budget: NumberOrWord = Field(
        default=None, description="Most tokens for reasoning: a number, or Unlimited."
    )
    loop_detection: YesNo = Field(default=None, description="Stop when the model repeats itself.")
    random_seed: NumberOrWord = Field(default=None, description="A 64-bit integer, or random.")
    timeout: str | None = Field(
        default=None,
        description="The service's own limit for a job, such as 10m or 1h; the service's default is 60m.",
    )
    upload: Literal["octet-stream", "multipart"] = Field(
        default="octet-stream", description="How files go to a project; templates and content have one way."
    )
    organization: str | None = Field(
        default=None, description="List the jobs of this organization instead of one's own."
    )
    options: dict[str, Any] = Field(
        default={}, description="Further settings by their names at the service, sent as they are."
    )

    def settings(self) -> dict[str, Any]:
        """What the provider is made with; the examples become documents."""
        examples = tuple((Document.from_path(example.path), example.result) for example in self.examples)
        return {**super().settings(), "examples": examples}
