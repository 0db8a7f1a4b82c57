"""Acme Reader's blocks for Prefect."""

from __future__ import annotations

from pydantic import Field, HttpUrl

from prefect_docjobs.blocks import DocJob, DocJobsCredentials


class AcmeCredentials(DocJobsCredentials):
    """An account with Acme Reader; a server of one's own asks for no key.

    Example:
        Load saved credentials:
        ```python
        from docjobs_acme.blocks import AcmeCredentials

        credentials = AcmeCredentials.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Acme Credentials"
    _block_type_slug = "acme-credentials"
    _documentation_url = HttpUrl("https://docs.acme.example/prefect")
    _provider = "acme"

    base_url: str = Field(
        default="http://localhost:8090",
        title="Base URL",
        description="Where the service is: scheme, host and port. The key goes nowhere else.",
    )


class AcmeJob(DocJob):
    """A job at Acme Reader: what to read.

    Example:
        Load a saved job, and extract from a document:
        ```python
        from docjobs_acme.blocks import AcmeJob
        from prefect_docjobs import Document, extract_documents

        job = AcmeJob.load("BLOCK_NAME")
        batch = extract_documents(job, [Document.from_path("invoice.pdf")])
        ```
    """

    _block_type_name = "Acme Job"
    _block_type_slug = "acme-job"
    _documentation_url = HttpUrl("https://docs.acme.example/prefect")
    _provider = "acme"

    credentials: AcmeCredentials = Field(description="The account that runs and pays for the job.")
    fields: list[str] = Field(description="Names of what to read.")
