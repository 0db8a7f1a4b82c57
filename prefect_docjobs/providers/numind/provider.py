"""The NuExtract provider: its requests and its verbs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import anyio
import httpx

from prefect_docjobs.errors import (
    DocJobsError,
    InvalidDocument,
    NotFound,
    ResultLost,
    ServiceError,
    Throttled,
    Unavailable,
)
from prefect_docjobs.http import Answer, Http, Part, Request
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus, Result
from prefect_docjobs.providers.base import (
    Capabilities,
    JobPage,
    Polling,
    Provider,
    Submitted,
)
from prefect_docjobs.providers.numind import answers, results, settings
from prefect_docjobs.providers.numind.events import read_events
from prefect_docjobs.providers.numind.settings import PRODUCTS, NuMindSettings
from prefect_docjobs.providers.values import object_of, segment, text_of

_OCTETS = "application/octet-stream"
_LARGEST_PAGE = 100  # numind JobsApi.md, get_api_jobs; the numind 0.4.2 SDK lets 300 pass


@dataclass(frozen=True, kw_only=True)
class NuMind(NuMindSettings, Provider):
    """NuExtract, by NuMind: see `NuMindSettings` for what can be set.

    There is no webhook, no submit by URL and no idempotency key (numind JobsApi.md, numind 0.4.2 SDK);
    which media types and sizes are taken is not documented.
    """

    name: ClassVar[str] = "numind"
    title: ClassVar[str] = "NuMind NuExtract"
    default_base_url: ClassVar[str] = "https://nuextract.ai"
    env_key: ClassVar[str] = "NUMIND_API_KEY"
    states: ClassVar[Mapping[str, JobState]] = answers.STATES
    # The numind 0.4.2 SDK looks every 4 s. It looks at once after the submit, too, which is left out here.
    polling: ClassVar[Polling] = Polling(first=4.0, every=4.0)
    capabilities: ClassVar[Capabilities] = Capabilities(list_jobs=True, stream=True, cancel=True)
    products: ClassVar[tuple[str, ...]] = PRODUCTS

    def canonical_settings(self) -> dict[str, Any]:
        """See `Provider.canonical_settings`."""
        return settings.canonical(super().canonical_settings())

    # -- requests

    @classmethod
    def auth_headers(cls, api_key: str) -> dict[str, str]:
        """The API key as bearer token (numind 0.4.2 SDK; numind JobsApi.md calls it oauth2Auth)."""
        return {"authorization": f"Bearer {api_key}"}

    def submit_request(self, document: Document, *, alias: str) -> Request:  # noqa: ARG002 (nothing echoes it)
        """Submit by template, to a project, or for content (numind 0.4.2 SDK)."""
        if self.product == "content":
            route = "/api/content-extraction/jobs"
            return Request("POST", route, params=self.query(), parts=(Part("file", document),))
        if self.project_id is not None:
            return self._project_request(
                document, f"/api/structured-extraction/{segment(self.project_id)}/jobs"
            )
        # The part's file name is literally "document" in the numind 0.4.2 SDK.
        file = Part("document", document, filename="document", media_type=_OCTETS)
        examples = (Part("exampleFiles", example, media_type=_OCTETS) for example, _ in self.examples)
        parts = (Part("request", self.manifest()), file, *examples)
        return Request("POST", "/api/structured-extraction/jobs", params=self.query(), parts=parts)

    def _project_request(self, document: Document, route: str) -> Request:
        if document.media_type == "text/plain":
            text = {"text": _text_of(document)}
            return Request("POST", f"{route}/text", params=self.query(text=True), json=text)
        if self.upload == "multipart":
            return Request("POST", route, params=self.query(), parts=(Part("file", document),))
        headers = {"content-type": _OCTETS}
        return Request("POST", route, params=self.query(), headers=headers, body=document)

    def status_request(self, ref: JobRef) -> Request:
        """`GET /api/jobs/{jobId}/status` (numind JobsApi.md)."""
        return Request("GET", f"{_job_path(ref)}/status")

    def job_request(self, ref: JobRef) -> Request:
        """`GET /api/jobs/{jobId}`: the job with its output or its error (numind JobsApi.md).

        The numind SDK lost it after 0.2.0, and whether the service still answers it is not known.
        """
        return Request("GET", _job_path(ref), large=True)

    def result_request(self, ref: JobRef) -> Request:
        """The typed result route of the product (numind 0.2.0 and 0.4.2 SDK); answers 200 or 206."""
        kind = "content-extraction" if self.product == "content" else "structured-extraction"
        return Request("GET", f"/api/{kind}/jobs/{segment(ref.job_id)}", verbatim=True)

    def cancel_request(self, ref: JobRef) -> Request:
        """`POST /api/jobs/{jobId}/cancel`; does nothing to a job that has ended (numind 0.4.2 SDK)."""
        return Request("POST", f"{_job_path(ref)}/cancel")

    def stream_request(self, ref: JobRef) -> Request:
        """`GET /api/jobs/{jobId}/stream`: server-sent events (numind JobsApi.md)."""
        headers = {"accept": "text/event-stream, application/json"}
        return Request("GET", f"{_job_path(ref)}/stream", headers=headers)

    # -- answers

    def read_submit(self, answer: Answer) -> Submitted:
        """`{"jobId"}` (numind 0.4.2 SDK, JobIdResponse)."""
        return Submitted(job_id=text_of(object_of(answer.json())["jobId"]))

    @property
    def variant(self) -> str:
        """The project, whose template decides how much there is to do."""
        return self.project_id or ""

    def read_status(self, ref: JobRef, answer: Answer) -> JobStatus:
        """A JobStatusResponse, or a JobResponse (numind JobsApi.md)."""
        return answers.job_status(ref, answer)

    def read_result(self, ref: JobRef, answer: Answer) -> Result:
        """See `Provider.read_result`; HTTP 206 without a message is a warning, too."""
        result = super().read_result(ref, answer)
        unsaid = answer.status == 206 and not result.warnings
        return result.model_copy(update={"warnings": (results.PARTIAL,)}) if unsaid else result

    def map_result(self, ref: JobRef, payload: Any) -> Result:
        """A typed result, or a JobResponse with `outputData`."""
        return results.map_result(ref, payload)

    @classmethod
    def read_error(cls, answer: Answer) -> ServiceError:
        """`{"code", "message"}`, text, or anything else; 403 is told apart by its message."""
        return answers.service_error(answer, provider=cls.name)

    # -- verbs

    async def status(self, http: Http, ref: JobRef, *, once: bool = False) -> JobStatus:
        """Look at a job once; one more request for the reason when it failed, or on 404.

        `/status` came after `GET /api/jobs/{id}` (numind 0.1.3 SDK has only the latter) and names no
        reason, so the older route stands in for it and completes it.
        """
        try:
            seen = await super().status(http, ref, once=once)
        except NotFound as unknown:
            seen = await self._status_of_job(http, ref, unknown, once)
        if seen.state is JobState.FAILED and seen.error is None:
            return await self._explained(http, seen)
        return seen

    async def _status_of_job(self, http: Http, ref: JobRef, unknown: NotFound, once: bool) -> JobStatus:
        try:
            return await self._job(http, ref, once)
        except (Throttled, Unavailable):
            raise
        except ServiceError:
            raise unknown from None

    async def _job(self, http: Http, ref: JobRef, once: bool) -> JobStatus:
        if once:  # a second request, beside the one that the caller has taken a turn for
            await http.turn("status")
        ask = http.look if once else http.send
        answer = await ask(self.request_for(self.job_request, ref))
        return await self.aread_status(ref, answer)

    async def _explained(self, http: Http, seen: JobStatus) -> JobStatus:
        """`seen` with the service's reason, if it can be had; not having it changes nothing else."""
        try:
            told = await self._reason(http, seen.ref)
        except DocJobsError:
            return seen
        if told is None or told.error is None:
            return seen
        return seen.model_copy(update={"error": told.error, "expired": seen.expired or told.expired})

    async def _reason(self, http: Http, ref: JobRef) -> JobStatus | None:
        """Where the job's own route is gone, its stream begins with the result, as the 0.4.2 SDK reads it."""
        try:
            return await self._job(http, ref, once=True)
        except (Throttled, Unavailable):
            raise
        except ServiceError:
            with anyio.move_on_after(http.limits.idle):
                async with aclosing(self._events(http, ref)) as events:
                    return await anext(events, None)
            return None

    async def fetch(self, http: Http, ref: JobRef) -> Answer:
        """The typed result, else the job with its output; see `Provider.fetch`.

        Raises:
            Unavailable: The job has not ended yet (HTTP 400, JobNotCompleted).
            JobError: The job failed or was cancelled, or its result is gone.
        """
        try:
            return await super().fetch(http, ref)
        except ResultLost as lost:
            return await self._fetch_job(http, ref, lost)

    async def _fetch_job(self, http: Http, ref: JobRef, lost: ResultLost) -> Answer:
        try:
            answer = await http.send(replace(self.request_for(self.job_request, ref), verbatim=True))
            await self.read_off_loop(answer, self._check_output, ref, answer)
        except (Throttled, Unavailable):
            raise
        except ServiceError:
            raise lost from None
        return answer

    def _check_output(self, ref: JobRef, answer: Answer) -> None:
        with self.reading(answer):
            results.job_output(ref, answer.json())

    async def cancel(self, http: Http, ref: JobRef) -> None:
        """Ask the service to stop a job; it stops within one heartbeat. May be repeated."""
        self.check_ref(http, ref)
        await http.send(self.request_for(self.cancel_request, ref))

    async def list_jobs(self, http: Http, *, skip: int = 0, limit: int = 100, once: bool = False) -> JobPage:
        """One page of the user's jobs, or of `organization`'s; at most 100 (numind JobsApi.md)."""
        page = {"skip": max(0, skip), "perPage": min(max(1, limit), _LARGEST_PAGE)}
        params = {"organization": self.organization, **page} if self.organization else page
        ask = http.look if once else http.send
        answer = await ask(Request("GET", "/api/jobs", params=params))
        return await self.read_off_loop(answer, self._read_page, answer)

    def _read_page(self, answer: Answer) -> JobPage:
        with self.reading(answer):
            return answers.job_page(answer)

    async def stream(self, http: Http, ref: JobRef) -> AsyncIterator[JobStatus]:
        """The end of a job, told on an open connection, at once for one that has ended.

        Raises:
            Unavailable: The stream ended without a result, or with an error of the service.
            Unreadable: It is no stream of events, or not this job's.
        """
        async with aclosing(self._events(http, ref)) as events:
            async for told in events:
                if told is not None:
                    yield told
                    if told.state.is_terminal:
                        return
        raise Unavailable("The job's stream ended without a result.", provider=self.name)

    async def _events(self, http: Http, ref: JobRef) -> AsyncGenerator[JobStatus | None, None]:
        """What each event of the job's stream says, None for a ping."""
        self.check_ref(http, ref)
        request = self.request_for(self.stream_request, ref)
        async with http.stream(request) as response:
            async for event in read_events(response, http.limits.answer_bytes):
                data = http.redacted(event.data.encode())
                heard = Answer(response.status_code, httpx.Headers(), data, url=request.path)
                with self.reading(heard):
                    told = answers.event_status(ref, event.event, heard)
                yield told


def _job_path(ref: JobRef) -> str:
    return f"/api/jobs/{segment(ref.job_id)}"


def _text_of(document: Document) -> str:
    """A text document as text: its route takes JSON, and so nothing but UTF-8."""
    try:
        return document.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidDocument("The text is not UTF-8. Save it as UTF-8.").about(document.name) from None
