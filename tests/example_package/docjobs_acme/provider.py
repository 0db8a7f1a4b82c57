"""Acme Reader: its settings, its requests, and the reading of submits and statuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar
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

    name: ClassVar[str] = "acme"
    title: ClassVar[str] = "Acme Reader"
    default_base_url: ClassVar[str] = "http://localhost:8090"  # a server of one's own
    env_key: ClassVar[str] = "ACME_API_KEY"
    key_required: ClassVar[bool] = False
    # All words of the page "Jobs" (docs.acme.example, read 2026-11).
    states: ClassVar[Mapping[str, JobState]] = MappingProxyType(
        {
            "waiting": JobState.QUEUED,
            "reading": JobState.PROCESSING,
            "done": JobState.SUCCEEDED,
            "failed": JobState.FAILED,
        }
    )
    polling: ClassVar[Polling] = Polling(first=1.0, every=1.0)
    capabilities: ClassVar[Capabilities] = Capabilities(
        media_types=frozenset({"application/pdf", "image/png"}), max_bytes=20_000_000
    )
    products: ClassVar[tuple[str, ...]] = ("read",)

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
