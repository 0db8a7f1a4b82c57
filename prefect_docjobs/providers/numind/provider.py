"""NuExtract: its settings, its requests, and the reading of submits, statuses, lists and streams."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import anyio
import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from prefect_docjobs.errors import (
    ConfigurationError,
    DocJobsError,
    InvalidDocument,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotFound,
    ResultLost,
    ServiceError,
    Throttled,
    Unavailable,
    Unfinished,
    Unreadable,
)
from prefect_docjobs.http import Answer, Http, Part, Request
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus, Result
from prefect_docjobs.providers.base import (
    TRANSPORT,
    Capabilities,
    JobPage,
    JobRow,
    Polling,
    Provider,
    Submitted,
)
from prefect_docjobs.providers.numind import errors, results
from prefect_docjobs.providers.values import (
    check_choice,
    date,
    index,
    list_of,
    object_of,
    objects,
    seconds_between,
    segment,
    text,
    text_of,
    usable_id,
)

# numind 0.4.2 SDK, STRUCTURED_EXTRACTION_SETTING_NAMES and the parameters of its job routes. Ranges are
# left to the service: they changed between its versions (temperature 0..1, later 0..2).
_WIRE_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "temperature": "temperature",
        "dpi": "rasterizationDPI",
        "image_width": "imageWidth",
        "max_output_tokens": "maxOutputTokens",
        "max_example_token_number": "maxExampleTokenNumber",
        "max_example_number": "maxExampleNumber",
        "min_example_similarity": "minExampleSimilarity",
        "enable_thinking": "enableThinking",
        "thinking_token_budget": "thinkingTokenBudget",
        "loop_detection": "loopDetection",
        "random_seed": "randomSeed",
        "timeout": "timeout",
    }
)
# Numbers that the service wants as text, so that "Unlimited" and "random" fit in (numind 0.4.2 SDK).
_AS_TEXT = frozenset({"max_output_tokens", "max_example_number", "thinking_token_budget", "random_seed"})
_OF_EXAMPLES = ("max_example_token_number", "max_example_number", "min_example_similarity")
# "Format examples: 1000ms, 10s, 1m, 1h" (numind 0.4.2 SDK).
_DURATION = re.compile(r"([0-9]+)(ms|s|m|h)")
_MILLISECONDS: Mapping[str, int] = MappingProxyType({"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1})
_OCTETS = "application/octet-stream"
_LARGEST_PAGE = 100  # numind JobsApi.md, get_api_jobs; the numind 0.4.2 SDK lets 300 pass


@dataclass(frozen=True, kw_only=True)
class NuMind(Provider):
    """NuExtract, by NuMind. A setting that is None is left to the service or to the project.

    Attributes:
        product: `extraction` (named values) or `content` (the document as markdown).
        template: What to extract, as NuExtract's schema: `{"total": "number", "tags": ["string"]}`.
        project_id: A project at the service instead of a template; optional for `content`.
        instructions: Guidance for the model; with a template only, a project has its own.
        examples: Solved documents, each with its expected result; with a template only.
        temperature: Output diversity, 0..2.
        dpi: Resolution for documents that are turned into images: 1..600, or `automatic`.
        image_width: For single images: pixels, `automatic` or `original`.
        max_output_tokens: A positive number, or `Unlimited`.
        max_example_token_number: Tokens for examples, 0..130000; `extraction` only.
        max_example_number: A number, 0 for none, or `Unlimited`; `extraction` only.
        min_example_similarity: 0 (any) to 1 (the same document); `extraction` only.
        enable_thinking: Let the model reason first.
        thinking_token_budget: A positive number, or `Unlimited`.
        loop_detection: Stop when the model repeats itself.
        random_seed: A 64-bit integer, or `random`.
        timeout: The service's own limit for the job: `1000ms`, `10s`, `1m`, `1h`. It takes 60m by default
            and raises what is below its minimum, 5m by default.
        upload: How files go to a project: `octet-stream` (as both SDKs do) or `multipart` (as the
            service's curl examples do). One user of the service reports HTTP 500 for the former.
        organization: Lists the jobs of this organization instead of one's own.
        options: Further settings by their names at the service, sent as they are.

    Raises:
        ConfigurationError: Settings that do not go together; the message says what to give.
    """

    name = "numind"
    title = "NuMind NuExtract"
    default_base_url = "https://nuextract.ai"
    env_key = "NUMIND_API_KEY"
    # The models say only "string" (numind JobsApi.md, numind 0.4.2 SDK). See `_state` for what ends a job.
    states = MappingProxyType(
        {
            "completed": JobState.SUCCEEDED,  # numind 0.4.2 SDK, JOB_STATUS_COMPLETED
            "failed": JobState.FAILED,  # numind SDK's own tests, 2026
            "running": JobState.PROCESSING,  # numind SDK's own tests, 2026
            "timeout": JobState.FAILED,  # code of users, 2026; the outcome is documented, its word is not
            "cancelled": JobState.CANCELLED,  # the same
            "canceled": JobState.CANCELLED,
        }
    )
    # The numind 0.4.2 SDK polls every 4 s. It polls at once after the submit, too, which is left out here.
    polling = Polling(first=4.0, every=4.0)
    # No webhook, no submit by URL, no idempotency key (numind JobsApi.md, numind 0.4.2 SDK); which media
    # types and sizes are taken is not documented.
    capabilities = Capabilities(list_jobs=True, stream=True, cancel=True)
    products = ("extraction", "content")

    product: str = "extraction"
    template: Mapping[str, Any] | None = None
    project_id: str | None = None
    instructions: str | None = None
    examples: Sequence[tuple[Document, Mapping[str, Any]]] = ()
    temperature: float | None = None
    dpi: int | str | None = None
    image_width: int | str | None = None
    max_output_tokens: int | str | None = None
    max_example_token_number: int | None = None
    max_example_number: int | str | None = None
    min_example_similarity: float | None = None
    enable_thinking: bool | None = None
    thinking_token_budget: int | str | None = None
    loop_detection: bool | None = None
    random_seed: int | str | None = None
    timeout: str | None = None
    upload: str = field(default="octet-stream", metadata=TRANSPORT)
    organization: str | None = field(default=None, metadata=TRANSPORT)  # of the list alone
    options: Mapping[str, Any] = field(default_factory=dict)

    # -- settings

    def __post_init__(self) -> None:
        check_choice("product", self.product, self.products)
        check_choice("upload", self.upload, ("octet-stream", "multipart"))
        if self.timeout is not None and not _DURATION.fullmatch(str(self.timeout)):
            raise ConfigurationError(
                f"timeout: give a duration such as 1000ms, 10s, 10m or 1h, not {self.timeout!r}."
            )
        if self.project_id is not None and usable_id(self.project_id) is None:
            raise ConfigurationError(
                f"project_id: {self.project_id!r} is not an id. Copy it from the project's API tab."
            )
        if self.product == "extraction":
            self._check_extraction()
        else:
            self._check_left_out(
                ("template", "instructions", "examples", *_OF_EXAMPLES),
                'product "content" has no such setting. Leave it out.',
            )
        try:
            self._manifest()
        except (TypeError, ValueError, RecursionError) as problem:
            raise ConfigurationError(
                f"template, examples, options: they must be plain JSON ({problem})."
            ) from None

    def _check_extraction(self) -> None:
        if (self.template is None) == (self.project_id is None):
            raise ConfigurationError("template, project_id: give exactly one of them.")
        if self.template is None:
            message = "these go with a template. For a project, set them in the project."
            self._check_left_out(("instructions", "examples"), message)
        elif not isinstance(self.template, Mapping) or not self.template:
            raise ConfigurationError(
                'template: give an object that names what to extract, such as {"total": "number"}.'
            )
        for example in self.examples:
            match example:
                case (Document(url=None), Mapping()):
                    pass
                case _:
                    raise ConfigurationError(
                        "examples: give pairs of a document (a file or bytes, no URL) and its result."
                    )

    def _check_left_out(self, names: Sequence[str], message: str) -> None:
        for name in names:
            if getattr(self, name) not in (None, (), [], ""):
                raise ConfigurationError(f"{name}: {message}")

    def canonical_settings(self) -> dict[str, Any]:
        """See `Provider.canonical_settings`: `options` replace what they name at the service."""
        given = super().canonical_settings()
        options = dict(given["options"])
        named = {name: options.pop(wire) for name, wire in _WIRE_NAMES.items() if wire in options}
        settings = {**given, **named, "options": options, "instructions": given["instructions"] or None}
        numbers = {name: _number(settings[name]) for name in (*_AS_TEXT, "dpi", "image_width")}
        return {**settings, **numbers, "timeout": _duration(settings["timeout"])}

    @property
    def variant(self) -> str:
        """The project, whose template decides how much there is to do."""
        return self.project_id or ""

    def _settings(self) -> dict[str, Any]:
        """What is set, by the service's names."""
        given = {name: getattr(self, name) for name in _WIRE_NAMES}
        typed = {
            _WIRE_NAMES[name]: str(value) if name in _AS_TEXT else value
            for name, value in given.items()
            if value is not None
        }
        return {**typed, **self.options}

    def _query(self, *, text: bool = False) -> dict[str, Any]:
        """The query parameters of a submit; `text` for one of plain text, which has no resolution.

        A submit with a template takes only `timeout` there (numind 0.4.2 SDK).
        """
        settings = self._settings()
        if self.template is not None:
            return {"timeout": settings["timeout"]} if "timeout" in settings else {}
        if self.product == "content":
            return {"projectId": self.project_id, **settings} if self.project_id else settings
        dpi = settings.pop("rasterizationDPI", None)
        # The project route calls it `dpi`, all others `rasterizationDPI` (numind 0.4.2 SDK).
        return settings if dpi is None or text else {"dpi": dpi, **settings}

    def _manifest(self) -> str:
        """The `request` part of a submit with a template (numind 0.4.2 SDK, projectless submit)."""
        settings = self._settings()
        settings.pop("timeout", None)
        request: dict[str, Any] = {
            "schema": self.template,
            "instructions": self.instructions or "",
            "settings": settings,
        }
        if self.examples:
            request["examples"] = [{"result": result} for _, result in self.examples]
        return json.dumps(request, allow_nan=False)

    # -- submit

    @classmethod
    def auth_headers(cls, api_key: str) -> dict[str, str]:
        """The API key as bearer token (numind 0.4.2 SDK; numind JobsApi.md calls it oauth2Auth)."""
        return {"authorization": f"Bearer {api_key}"}

    def submit_request(self, document: Document, *, alias: str) -> Request:  # noqa: ARG002 (nothing echoes it)
        """Submit by template, to a project, or for content (numind 0.4.2 SDK)."""
        if self.product == "content":
            route = "/api/content-extraction/jobs"
            return Request("POST", route, params=self._query(), parts=(Part("file", document),))
        if self.project_id is None:
            # The part's file name is literally "document" in the numind 0.4.2 SDK.
            file = Part("document", document, filename="document", media_type=_OCTETS)
            examples = (Part("exampleFiles", example, media_type=_OCTETS) for example, _ in self.examples)
            parts = (Part("request", self._manifest()), file, *examples)
            return Request("POST", "/api/structured-extraction/jobs", params=self._query(), parts=parts)
        route = f"/api/structured-extraction/{segment(self.project_id)}/jobs"
        if document.media_type == "text/plain":
            text = {"text": _text_of(document)}
            return Request("POST", f"{route}/text", params=self._query(text=True), json=text)
        if self.upload == "multipart":
            return Request("POST", route, params=self._query(), parts=(Part("file", document),))
        headers = {"content-type": _OCTETS}
        return Request("POST", route, params=self._query(), headers=headers, body=document)

    def read_submit(self, answer: Answer) -> Submitted:
        """`{"jobId"}` (numind 0.4.2 SDK, JobIdResponse)."""
        return Submitted(job_id=text_of(object_of(answer.json())["jobId"]))

    # -- status

    def status_request(self, ref: JobRef) -> Request:
        """`GET /api/jobs/{jobId}/status` (numind JobsApi.md)."""
        return Request("GET", f"{_job_path(ref)}/status")

    def job_request(self, ref: JobRef) -> Request:
        """`GET /api/jobs/{jobId}`: the job with its output or its error (numind JobsApi.md).

        The numind SDK lost it after 0.2.0, and whether the service still answers it is not known.
        """
        return Request("GET", _job_path(ref), large=True)

    def read_status(self, ref: JobRef, answer: Answer) -> JobStatus:
        """A JobStatusResponse, or a JobResponse (numind JobsApi.md)."""
        return JobStatus(ref=ref, seen_at=answer.received_at, **_facts(_own_job(ref, answer.json())))

    async def status(self, http: Http, ref: JobRef, *, once: bool = False) -> JobStatus:
        """Poll a job; one more request for the reason when it failed, or on 404.

        `/status` came after `GET /api/jobs/{id}` (numind 0.1.3 SDK has only the latter) and names no
        reason, so the older route stands in for it and completes it.
        """
        try:
            seen = await super().status(http, ref, once=once)
        except NotFound as unknown:
            try:
                seen = await self._job(http, ref, once=once)
            except (Throttled, Unavailable):
                raise
            except ServiceError:
                raise unknown from None
        if seen.state is not JobState.FAILED or seen.error is not None:
            return seen
        try:
            reason = await self._reason(http, ref)
        except DocJobsError:
            return seen
        if reason is None or reason.error is None:
            return seen
        return seen.model_copy(update={"error": reason.error, "expired": seen.expired or reason.expired})

    async def _job(self, http: Http, ref: JobRef, *, once: bool) -> JobStatus:
        if once:  # a second request, beside the one that the caller has taken a token for
            await http.wait_for_token("status")
        send = http.poll if once else http.send
        answer = await send(self.request_for(self.job_request, ref))
        return await self.read(answer, self.read_status, ref, answer)

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

    async def cancel(self, http: Http, ref: JobRef) -> None:
        """Stop a job within one heartbeat; does nothing to one that has ended (numind 0.4.2 SDK)."""
        self.check_ref(http, ref)
        await http.send(Request("POST", f"{self.request_for(self.job_request, ref).path}/cancel"))

    # -- result

    def result_request(self, ref: JobRef) -> Request:
        """The typed result route of the product (numind 0.2.0 and 0.4.2 SDK); answers 200 or 206."""
        kind = "content-extraction" if self.product == "content" else "structured-extraction"
        return Request("GET", f"/api/{kind}/jobs/{segment(ref.job_id)}", verbatim=True)

    async def fetch(self, http: Http, ref: JobRef) -> Answer:
        """The typed result, else the job with its output; see `Provider.fetch`.

        Raises:
            Unavailable: The job has not ended yet (HTTP 400, JobNotCompleted).
            JobError: The job failed or was cancelled, or its result is gone.
        """
        try:
            return await super().fetch(http, ref)
        except ResultLost as lost:
            try:
                answer = await http.send(replace(self.request_for(self.job_request, ref), verbatim=True))
                await self.read(answer, lambda: _job_output(ref, answer.json()))
            except (Throttled, Unavailable):
                raise
            except ServiceError:
                raise lost from None
            return answer

    def read_result(self, ref: JobRef, answer: Answer) -> Result:
        """See `Provider.read_result`; HTTP 206 without a message is a warning, too."""
        result = super().read_result(ref, answer)
        unsaid = answer.status == 206 and not result.warnings
        return result.model_copy(update={"warnings": (results.PARTIAL,)}) if unsaid else result

    def map_result(self, ref: JobRef, payload: Any) -> Result:
        """A typed result, or a JobResponse, whose `outputData` has the same as JSON text.

        Raises:
            JobError: The job failed or was cancelled, or there is no result.
            Unfinished: The job has not ended yet.
        """
        body = object_of(payload)
        # A typed result has neither of these keys.
        of_a_job = "outputData" in body or ("status" in body and "result" not in body)
        output = _job_output(ref, body) if of_a_job else body
        return results.map_output(ref, output, raw=payload)

    @classmethod
    def read_error(cls, answer: Answer) -> ServiceError:
        """`{"code", "message"}`, text, or anything else; see `errors.read_error`."""
        return errors.read_error(answer, provider=cls.name)

    # -- list, stream

    async def list_jobs(self, http: Http, *, skip: int = 0, limit: int = 100, once: bool = False) -> JobPage:
        """One page of the user's jobs, or of `organization`'s; at most 100 (numind JobsApi.md)."""
        page = {"skip": max(0, skip), "perPage": min(max(1, limit), _LARGEST_PAGE)}
        params = {"organization": self.organization, **page} if self.organization else page
        send = http.poll if once else http.send
        answer = await send(Request("GET", "/api/jobs", params=params))
        return await self.read(answer, read_page, answer)

    async def stream(self, http: Http, ref: JobRef) -> AsyncIterator[JobStatus]:
        """The end of a job, reported on an open connection, at once for one that has ended.

        Raises:
            Unavailable: The stream ended without a result, or with an error of the service.
            Unreadable: It is no stream of events, or not this job's.
        """
        async with aclosing(self._events(http, ref)) as events:
            async for status in events:
                if status is not None:
                    yield status
                    if status.state.is_terminal:
                        return
        raise Unavailable("The job's stream ended without a result.", provider=self.name)

    async def _events(self, http: Http, ref: JobRef) -> AsyncGenerator[JobStatus | None, None]:
        """What each event of `GET /api/jobs/{jobId}/stream` says (numind JobsApi.md); None for a ping."""
        self.check_ref(http, ref)
        headers = {"accept": "text/event-stream, application/json"}
        path = self.request_for(self.job_request, ref).path
        request = Request("GET", f"{path}/stream", headers=headers)
        async with http.stream(request) as response:
            async for event in _server_sent_events(response, http.limits.answer_bytes):
                data = http.redacted(event.data.encode())
                answer = Answer(response.status_code, httpx.Headers(), data, url=request.path)
                with self.reading(answer):
                    status = read_event(ref, event.event, answer)
                yield status


def _job_path(ref: JobRef) -> str:
    return f"/api/jobs/{segment(ref.job_id)}"


def _text_of(document: Document) -> str:
    """A text document as text: its route takes JSON, and so nothing but UTF-8."""
    try:
        return document.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidDocument("The text is not UTF-8. Save it as UTF-8.").about(document.name) from None


def _number(value: object) -> object:
    """A whole number that is given as text, as a number; both are sent as the same text."""
    return int(value) if isinstance(value, str) and re.fullmatch("-?[0-9]{1,19}", value) else value


def _duration(value: object) -> object:
    """`60s` as `1m`: the largest unit that divides it."""
    match = _DURATION.fullmatch(str(value))
    if match is None or int(match[1]) == 0:
        return value
    length = int(match[1]) * _MILLISECONDS[match[2]]
    unit, size = next((unit, size) for unit, size in _MILLISECONDS.items() if length % size == 0)
    return f"{length // size}{unit}"


# --------------------------------------------------------------------------------- a job, in all its answers


def _own_job(ref: JobRef, payload: object) -> dict[str, Any]:
    """`payload` as the job that `ref` names; raises `Unreadable` for another one."""
    job = object_of(payload)
    if text_of(job["id"]) != ref.job_id:
        raise Unreadable("The answer is about another job.")
    return job


def _state(job: Mapping[str, Any]) -> JobState:
    """The state of a job by its `status` and `completedAt`; one without the other ends nothing.

    With `completedAt`, every word beside `completed` means failed: so the numind 0.4.2 SDK decides.
    """
    word = text_of(job["status"]).strip().lower()
    known = NuMind.state_of(word)
    if not job.get("completedAt"):
        return JobState.UNKNOWN if known.is_terminal else known
    if "cancel" in word:
        return JobState.CANCELLED
    return known if known.is_terminal else JobState.FAILED


def _facts(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a job says of itself; a JobStatusResponse has no error."""
    state = _state(job)
    ended_badly = state in {JobState.FAILED, JobState.CANCELLED}
    return {
        "state": state,
        "raw_state": job["status"],
        "error": errors.problem(job.get("errorMessage"), job.get("errorCode")) if ended_badly else None,
        "expired": state is JobState.FAILED and errors.timed_out(job),
        "took": seconds_between(job.get("createdAt"), job.get("completedAt")) if state.is_terminal else None,
    }


def _job_output(ref: JobRef, payload: object) -> dict[str, Any]:
    """The result in a job's `outputData`, which is JSON text inside the JSON (numind 0.2.0 SDK).

    Raises:
        JobError: The job failed, was cancelled, or holds no output.
        Unfinished: The job has not ended yet.
    """
    job = _own_job(ref, payload)
    facts = _facts(job)
    message = str(facts["error"] or f'The job ended as "{job["status"]}".')
    if not facts["state"].is_terminal:
        raise Unfinished(f'The job has not ended yet: it is "{job["status"]}".')
    if facts["state"] is JobState.CANCELLED:
        raise JobCancelled(message, ref=ref)
    if facts["state"] is JobState.FAILED:
        raise JobExpired(message, ref=ref) if facts["expired"] else JobFailed(message, ref=ref)
    if job.get("outputData") is None:
        raise ResultLost("The job succeeded, but the service holds no output for it.", ref=ref)
    output = job["outputData"]
    return object_of(json.loads(output) if isinstance(output, str) else output)


def read_page(answer: Answer) -> JobPage:
    """One page of `GET /api/jobs`. Rows that are not jobs are left out: one must not hide all others."""
    page = object_of(answer.json())
    jobs = [
        job for job in objects(list_of(page["items"])) if usable_id(job.get("id")) and text(job.get("status"))
    ]
    return JobPage(
        rows={job["id"]: JobRow(**_facts(job), created_at=date(job.get("createdAt"))) for job in jobs},
        seen_at=answer.received_at,
        total=index(page.get("totalCount")),
    )


# ----------------------------------------------------------------------------------------- a stream of events


def read_event(ref: JobRef, name: str, answer: Answer) -> JobStatus | None:
    """What one event of a job's stream says; None for one that says nothing, such as `ping`.

    Raises:
        Unavailable: The service reports an error of its own, not of the job.
    """
    if name not in {"result", "error"}:
        return None
    if name == "result" and "status" in (job := object_of(answer.json())):
        return JobStatus(ref=ref, seen_at=answer.received_at, **_facts(_own_job(ref, job)))
    message, code, _ = errors.error_facts(answer)
    if name == "error" and code != errors.JOB_TIMEOUT:
        raise Unavailable(f"The job's stream ended with an error: {message or 'no message'}", code=code)
    if message is None and code is None:
        raise ValueError("neither a job nor an error")
    # The numind SDK's own tests send a bare error, its code a number, as the `result` of a failed job.
    return JobStatus(
        ref=ref,
        state=JobState.FAILED,
        raw_state=code,
        error=errors.problem(message, code),
        expired=code == errors.JOB_TIMEOUT,
        seen_at=answer.received_at,
    )


async def _server_sent_events(response: httpx.Response, limit: int) -> AsyncIterator[ServerSentEvent]:
    """The events of a `text/event-stream` body as they come; one that breaks off is left out.

    Raises:
        Unreadable: It is no event stream, or `limit` bytes came without an event among them.
    """
    received = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal received
        async for piece in response.aiter_bytes():
            received += len(piece)
            if received > limit:
                raise Unreadable(f"One event is larger than {limit:,} bytes.")
            yield piece

    # Without its charset: an event stream is UTF-8 (HTML standard, server-sent events).
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    source = EventSource(
        httpx.Response(response.status_code, headers={"content-type": kind}, content=pieces())
    )
    try:
        async with aclosing(source.aiter_sse()) as events:
            async for event in events:
                received = 0
                yield event
    except SSEError:
        raise Unreadable(f"The answer is no stream of events ({kind or 'no content type'}).") from None
