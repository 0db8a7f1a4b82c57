"""Acme Reader: its settings, its requests, and the reading of submits and statuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from docjobs_acme import errors, results
from prefect_docjobs.errors import ConfigurationError, ServiceError
from prefect_docjobs.http import Answer, Request
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus, Result
from prefect_docjobs.providers.base import Capabilities, Polling, Provider, Submitted
from prefect_docjobs.providers.values import object_of, segment, text, text_of


@dataclass(frozen=True, kw_only=True)
class Acme(Provider):
    """Acme Reader with the settings of one kind of job.

    Attributes:
        fields: Names of what to read.

    Raises:
        ConfigurationError: There is no field.
    """

    name = "acme"
    title = "Acme Reader"
    default_base_url = "http://localhost:8090"  # a server of one's own
    env_key = "ACME_API_KEY"
    key_required = False
    # All words of the page "Jobs" (docs.acme.example, read 2026-11).
    states = MappingProxyType(
        {
            "waiting": JobState.QUEUED,
            "reading": JobState.PROCESSING,
            "done": JobState.SUCCEEDED,
            "failed": JobState.FAILED,
        }
    )
    polling = Polling(first=1.0, every=1.0)
    capabilities = Capabilities(media_types=frozenset({"application/pdf", "image/png"}), max_bytes=20_000_000)
    products = ("read",)

    fields: Sequence[str]

    def __post_init__(self) -> None:
        if not self.fields:
            raise ConfigurationError("fields must name at least one thing to read.")

    @property
    def product(self) -> str:
        return "read"

    @classmethod
    def auth_headers(cls, api_key: str) -> dict[str, str]:
        return {"Acme-Key": api_key}

    def submit_request(self, document: Document, *, alias: str) -> Request:
        headers = {"Content-Type": document.media_type, "Acme-File-Name": quote(document.name)}
        params = {"fields": ",".join(self.fields)}
        return Request("POST", "/reader/jobs", params=params, headers=headers, body=document)

    def read_submit(self, answer: Answer) -> Submitted:
        return Submitted(job_id=text_of(object_of(answer.json()).get("job")))

    def status_request(self, ref: JobRef) -> Request:
        return Request("GET", f"/reader/jobs/{segment(ref.job_id)}")

    def read_status(self, ref: JobRef, answer: Answer) -> JobStatus:
        job = results.own_job(ref, answer.json())
        word = text(job.get("state"))
        return JobStatus(
            ref=ref,
            state=self.state_of(word),
            raw_state=word,
            error=errors.read_problem(job.get("problem")),
            seen_at=answer.received_at,
        )

    def result_request(self, ref: JobRef) -> Request:
        return Request("GET", f"/reader/jobs/{segment(ref.job_id)}/values", verbatim=True)

    def map_result(self, ref: JobRef, payload: Any) -> Result:
        return results.map_result(ref, payload)

    @classmethod
    def read_error(cls, answer: Answer) -> ServiceError:
        return errors.read_error(answer, provider=cls.name)
