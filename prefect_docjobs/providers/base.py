"""What a provider says about its service, and what it gets for that; read it from top to bottom.

A provider is a frozen dataclass: its fields are the settings of one kind of job, in the service's own words.
For each step it has two pure methods, a request to send and the reading of its answer. It opens no connection
and reads no clock: an `Http` is passed to the verbs, and an answer brings the time at which it arrived.

The folder of a provider has the same files for every service:

- `provider.py`: settings, requests, and the reading of submits and statuses;
- `results.py`: the service's result as a `Result`;
- `errors.py`: the service's words for a refusal and for a failed job, as typed errors;
- `webhooks.py`: the calls that the service makes, where it makes any.

`values.py` has readers of single JSON values for all of them.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, dataclass, fields, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, cast

import anyio.to_thread

from prefect_docjobs.errors import (
    ConfigurationError,
    DocJobsError,
    InvalidDocument,
    InvalidPush,
    NotFound,
    RefMismatch,
    ResultLost,
    ServiceError,
    SubmitUncertain,
    Unfinished,
    Unreadable,
    Unsupported,
)
from prefect_docjobs.http import Answer, Http, InDoubt, Kind, Request, SendContext, error_for
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus, Problem, Result
from prefect_docjobs.models.documents import PinnedDocument
from prefect_docjobs.providers.values import MAX_ID, check_job_id

T = TypeVar("T")
_READ_AT_ONCE = 1 << 18  # bytes of an answer; reading them takes some milliseconds
SMALL = 1 << 20
"""Bytes; reading and hashing these takes a millisecond, not worth a trip to a thread."""

TRANSPORT: Mapping[str, bool] = MappingProxyType({"transport": True})
"""Field metadata of a setting that decides only how a document travels or what its job is called, never what
the result says. It is no part of the pay-once key; every other setting is."""


# ---------------------------------------------------------------------------------- the values of a provider


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a service can do, so that callers choose and never guess.

    Attributes:
        list_jobs: One request observes many jobs (`Provider.list_jobs`).
        stream: The service reports the end of a job on an open connection (`Provider.stream`).
        cancel: A running job can be stopped (`Provider.cancel`).
        push: The service calls a webhook that can be verified (`Provider.read_push`).
        hints: The service calls a webhook that cannot be verified: a reason to poll, and no more.
        url_input: The service downloads documents from https addresses itself.
        media_types: What the service documents as accepted; None where it does not say.
        max_bytes: Largest document that the service documents; None where it does not say.
    """

    list_jobs: bool = False
    stream: bool = False
    cancel: bool = False
    push: bool = False
    hints: bool = False
    url_input: bool = False
    media_types: frozenset[str] | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Polling:
    """When to poll a job, in seconds, as the service or its own SDK recommends.

    Attributes:
        first: After the submit.
        every: Between two polls.
        at_least: The service's documented minimum between two polls.
    """

    first: float
    every: float
    at_least: float = 1.0


@dataclass(frozen=True, slots=True)
class Submitted:
    """What the answer to a submit says about the new job."""

    job_id: str
    alias: str | None = None
    result_url: str | None = None
    document_id: str | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job of a list; the fields are those of `JobStatus`, and when it was created (UTC)."""

    state: JobState
    raw_state: str | None = None
    error: Problem | None = None
    expired: bool = False
    took: float | None = None
    created_at: datetime | None = None

    def status(self, ref: JobRef, seen_at: datetime) -> JobStatus:
        """The row as an observation of the job that `ref` names."""
        facts = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "created_at"}
        return JobStatus(ref=ref, seen_at=seen_at, **facts)


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of a list of jobs.

    Attributes:
        rows: By job id, in the service's order.
        seen_at: When the answer arrived (UTC).
        total: Jobs in the whole list, or None.
    """

    rows: Mapping[str, JobRow]
    seen_at: datetime
    total: int | None = None

    @property
    def dates(self) -> list[datetime]:
        """When its jobs were created (UTC), in the service's order, where the service says so."""
        return [row.created_at for row in self.rows.values() if row.created_at is not None]

    @property
    def oldest_first(self) -> bool | None:
        """The order of the list, from the dates of this page; None when they do not show it."""
        dates = self.dates
        return None if len(dates) < 2 or dates[0] == dates[-1] else dates[0] < dates[-1]


@dataclass(frozen=True, slots=True)
class Push:
    """A verified webhook call. It names its job by `job_id`, by `alias`, or by both.

    Attributes:
        state: SUCCEEDED or FAILED.
        payload: The whole call as JSON; `Provider.map_result` takes it where the job succeeded.
    """

    state: JobState
    payload: Any
    raw_state: str | None = None
    job_id: str | None = None
    alias: str | None = None
    error: Problem | None = None


class Provider(ABC):
    """One service, with the settings of one kind of job. Subclasses are frozen dataclasses.

    Class attributes:
        name: Registry name. `title`: what people call it. `default_base_url`: where it is.
        env_key: The environment variable that people keep the key in (the official SDK's own where it has
            one).
        key_required: False for a service that also answers without an API key, such as one's own server.
        states: The service's own state words, in lower case, and what they mean.
        polling: Documented polling advice.
        rates: Requests per second that the service documents, by kind; a first refusal leads there.
        products: What `product` may be; empty where it is free.
        echoes_alias: The service keeps a key of ours and repeats it in answers and pushes.
        signature_header: The header with the HMAC-SHA256 of a webhook call (`sign`); empty where the service
            signs nothing. A call without it is refused before its body is read.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    default_base_url: ClassVar[str]
    env_key: ClassVar[str]
    key_required: ClassVar[bool] = True
    states: ClassVar[Mapping[str, JobState]] = MappingProxyType({})
    polling: ClassVar[Polling] = Polling(first=2.0, every=2.0)
    capabilities: ClassVar[Capabilities] = Capabilities()
    rates: ClassVar[Mapping[Kind, float]] = MappingProxyType({})
    products: ClassVar[tuple[str, ...]] = ()
    echoes_alias: ClassVar[bool] = False
    signature_header: ClassVar[str] = ""

    # ---------------------------------------------------------------------------- what a provider must say

    @property
    @abstractmethod
    def product(self) -> str:
        """What the service is to do with a document; part of every ref."""

    @classmethod
    @abstractmethod
    def auth_headers(cls, api_key: str) -> dict[str, str]:
        """The headers that carry the key."""

    @abstractmethod
    def submit_request(self, document: Document, *, alias: str) -> Request:
        """The request that submits a document. `alias` is a fresh key of ours, for services that echo one.

        Leave the document in the request, or take its bytes with `Document.read`: both notice a change.
        """

    @abstractmethod
    def read_submit(self, answer: Answer) -> Submitted:
        """The job that a submit made. Anything unreadable raises; the caller treats it as uncertain."""

    @abstractmethod
    def status_request(self, ref: JobRef) -> Request:
        """The request for a job's status."""

    @abstractmethod
    def read_status(self, ref: JobRef, answer: Answer) -> JobStatus:
        """One observation, with the ref completed. Raises `Unreadable` for an answer about another job."""

    @abstractmethod
    def result_request(self, ref: JobRef) -> Request:
        """The request that fetches the result. Raises `Unreadable` when `ref` lacks what it needs."""

    @abstractmethod
    def map_result(self, ref: JobRef, payload: Any) -> Result:
        """The service's result (parsed JSON) as a `Result`; called through `read_result`."""

    # ----------------------------------------------------------------------------- what a provider may say

    @property
    def variant(self) -> str:
        """What else decides how long a job takes, such as the service's model; may be empty."""
        return ""

    @property
    def asks_for_pushes(self) -> bool:
        """Whether each submit names the webhooks to call."""
        return False

    def canonical_settings(self) -> dict[str, Any]:
        """All settings by name. Override it so that settings that mean the same are equal."""
        settings = fields(cast("Any", self))  # a TypeError where it is no dataclass
        return {setting.name: getattr(self, setting.name) for setting in settings}

    def check(self, document: Document) -> None:
        """Raise unless the service documents that it takes such a document; see `Capabilities`."""
        document.check()
        able, kind, refusal = self.capabilities, document.media_type, None
        if document.url is not None and not able.url_input:
            raise Unsupported(f"{self.title} takes no URLs. Give the file itself.").about(document.name)
        if able.media_types is not None and kind not in able.media_types | {"application/octet-stream"}:
            refusal = f"{self.title} does not take {kind}."
        elif able.max_bytes is not None and (document.size or 0) > able.max_bytes:
            refusal = f"{document.size:,} bytes are more than {self.title} takes ({able.max_bytes:,})."
        if refusal:
            raise InvalidDocument(refusal).about(document.name)

    @classmethod
    def read_error(cls, answer: Answer) -> ServiceError:
        """The typed error for an answer outside 2xx."""
        return error_for(answer, provider=cls.name)

    def needs_status(self, ref: JobRef) -> bool:
        """Whether fetching needs something that only the answer to a status request has."""
        return False

    async def cancel(self, http: Http, ref: JobRef) -> None:
        """Stop a job at the service. Raises `Unsupported` where the service cannot."""
        raise Unsupported(f"{self.title} cannot cancel a job. It runs to its end and is billed.")

    async def list_jobs(self, http: Http, *, skip: int = 0, limit: int = 100, once: bool = False) -> JobPage:
        """One page of the account's jobs; `once` as for `status`. Raises `Unsupported` without a list."""
        raise Unsupported(f"{self.title} has no list of jobs.")

    def stream(self, http: Http, ref: JobRef) -> AsyncIterator[JobStatus]:
        """The end of a job, reported on an open connection. Raises `Unsupported` where there is none."""
        raise Unsupported(f"{self.title} has no stream of job events.")

    @classmethod
    def verify_push(cls, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
        """Check the signature of a webhook call.

        Args:
            headers: Of the call, their names in any case.
            body: As it came, not parsed and written again.
            secrets: Several allow rotation; each is tried, in constant time.

        Raises:
            InvalidPush: No secret, no signature, or no secret fits.
            Unsupported: The service documents no signature.
        """
        if not cls.signature_header:
            raise Unsupported(f"{cls.title} documents no signature for webhook calls.")
        known = [secret for secret in secrets if secret]  # an empty secret would let anybody sign
        if not known:
            raise InvalidPush("No signing secret is configured, so nothing can be verified.")
        signature = {name.lower(): value for name, value in headers.items()}.get(cls.signature_header.lower())
        if not signature:
            raise InvalidPush("The call has no signature.")
        given = signature.strip().encode("utf-8", "replace")
        fits = [hmac.compare_digest(sign(body, secret).encode(), given) for secret in known]
        if not any(fits):
            raise InvalidPush("The signature does not fit the body.")

    @classmethod
    def read_push(cls, body: bytes) -> Push:
        """What a (verified) webhook call says. Raises `InvalidPush` when it is not the service's."""
        raise Unsupported(f"{cls.title} documents no webhook calls.")

    # ------------------------------------------------------------------------ what a provider gets: verbs

    @classmethod
    def connect(
        cls, *, base_url: str | None = None, api_key: str | None = None, tenant: str = "", **options: Any
    ) -> Http:
        """A client of one account, to be opened with `async with`; `options` are those of `Http`.

        Raises:
            ConfigurationError: There is no key, and the service needs one.
        """
        if not api_key and cls.key_required:
            raise ConfigurationError(f"{cls.title} needs an API key; people keep it in {cls.env_key}.")
        return Http(
            provider=cls.name,
            base_url=base_url or cls.default_base_url,
            headers=cls.auth_headers(api_key) if api_key else {},
            tenant=tenant,
            secrets=[api_key] if api_key else [],
            read_error=cls.read_error,
            **options,
        )

    async def submit(
        self,
        http: Http,
        document: Document,
        *,
        sha256: str | None = None,
        in_doubt: InDoubt | None = None,
        context: SendContext = nullcontext,
    ) -> JobRef:
        """Submit a document: one request, one bill.

        The content is hashed again while it is sent, and the last piece leaves only when it is what it was.

        Args:
            http: The account's client.
            document: What to submit.
            sha256: What its content is known to be, where the caller has hashed it; hashed here by default.
            in_doubt: Called as by `Http.submit`.
            context: Entered as by `Http.submit`.

        Raises:
            InvalidDocument: Nothing was accepted; the document is at fault, or is still being written.
            Unsupported: Nothing was sent; this service does not take such a document.
            SubmitUncertain: Sent, and the answer lost.
            ServiceError: Refused.
        """
        self.check(document)
        alias = f"docjobs-{uuid.uuid4().hex}"

        def prepare() -> tuple[Document, Request]:
            pinned = document if document.url is not None else document.pinned(sha256)
            return pinned, _pinned_parts(self.submit_request(pinned, alias=alias))

        try:
            small = (document.size or 0) <= SMALL
            pinned, request = prepare() if small else await anyio.to_thread.run_sync(prepare)
            answer = await http.submit(request, in_doubt=in_doubt, context=context)
            submitted = await self.read(answer, self.read_new_job, answer)
        except DocJobsError as error:
            raise error.about(document.name) from None
        return JobRef(
            provider=self.name,
            base_url=http.base_url,
            tenant=http.tenant,
            product=self.product,
            job_id=submitted.job_id,
            document_name=document.name,
            document_sha256=pinned.sha256,
            document_size=pinned.size,
            submitted_at=answer.received_at,
            alias=submitted.alias or (alias if self.echoes_alias else None),
            result_url=submitted.result_url,
            document_id=submitted.document_id,
        )

    async def status(self, http: Http, ref: JobRef, *, once: bool = False) -> JobStatus:
        """Poll a job. `once` is for poll loops: one request, with a rate token that the caller has taken."""
        self.check_ref(http, ref)
        send = http.poll if once else http.send
        answer = await send(self.request_for(self.status_request, ref))
        return await self.read(answer, self.read_status, ref, answer)

    async def fetch(self, http: Http, ref: JobRef) -> Answer:
        """The result's answer, complete and unparsed, so that it can be kept before it is read.

        Raises:
            ResultLost: The service no longer has it (some delete a result when it is read).
            Unfinished: The job still runs.
        """
        self.check_ref(http, ref)
        if self.needs_status(ref):
            status = await self.status(http, ref)
            if not status.state.is_terminal:
                raise Unfinished(f"There is no result yet: the job is {status.raw_state!r}.")
            ref = status.ref
        try:
            return await http.send(self.request_for(self.result_request, ref))
        except NotFound as gone:
            raise ResultLost(f"The service has no result for this job (any more): {gone}", ref=ref) from None

    def read_result(self, ref: JobRef, answer: Answer) -> Result:
        """A fetched answer as a `Result`; pure.

        Raises:
            Unreadable: It is not what the service documents. The answer itself is not lost by that.
        """
        with self.reading(answer):
            return self.map_result(ref, answer.json())

    async def aread_result(self, ref: JobRef, answer: Answer) -> Result:
        """`read_result` for an event loop: a large answer is read in a thread."""
        return await self.read(answer, self.read_result, ref, answer)

    # ------------------------------------------------------------------------ what a provider gets: tools

    async def read(self, answer: Answer, read: Callable[..., T], *args: Any) -> T:
        """What the pure `read(*args)` returns, within `reading`; in a thread where `answer` is large."""

        def checked() -> T:
            with self.reading(answer):
                return read(*args)

        if len(answer.body) <= _READ_AT_ONCE:
            return checked()
        return await anyio.to_thread.run_sync(checked, abandon_on_cancel=True)

    @classmethod
    @contextmanager
    def reading(cls, answer: Answer) -> Iterator[None]:
        """Turn everything that goes wrong while an answer is read into `Unreadable`."""
        try:
            yield
        except ServiceError as error:
            error.provider = cls.name
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as problem:
            raise Unreadable(
                f"The answer is not what {cls.title} documents: {type(problem).__name__}.",
                provider=cls.name,
                status=answer.status,
                request_id=answer.request_id,
            ) from None

    def read_new_job(self, answer: Answer) -> Submitted:
        """`read_submit` with an id that can be used. Raises `SubmitUncertain` where there is none."""
        try:
            with self.reading(answer):
                submitted = self.read_submit(answer)
                check_job_id(submitted.job_id)
                return submitted if len(submitted.alias or "") <= MAX_ID else replace(submitted, alias=None)
        except Unreadable as problem:
            raise SubmitUncertain(
                f"The submit was answered, but the answer names no job: {problem} The document may have been "
                "accepted and billed; it is not sent again.",
                status=answer.status,
                request_id=answer.request_id,
            ) from None

    def request_for(self, build: Callable[[JobRef], Request], ref: JobRef) -> Request:
        """`build(ref)`; raises `Unreadable` where an id in `ref` cannot be part of a path (`segment`)."""
        try:
            return build(ref)
        except ValueError:
            raise Unreadable("The job's id cannot be part of a path.", provider=self.name) from None

    def check_ref(self, http: Http, ref: JobRef) -> None:
        """Raise `RefMismatch` unless this provider, with this client, made `ref`."""
        ours = (self.name, http.base_url, http.tenant, self.product)
        theirs = (ref.provider, ref.base_url, ref.tenant, ref.product)
        for what, mine, its in zip(("service", "base_url", "tenant", "product"), ours, theirs, strict=True):
            if mine != its:
                raise RefMismatch(
                    f"{ref.document_name}: the job's {what} is {its!r}, the block's is {mine!r}. "
                    "Use the block that the job was submitted with."
                )

    @classmethod
    def state_of(cls, word: object) -> JobState:
        """Our state for the service's word, in any case; UNKNOWN for a word that is not documented."""
        known = word.strip().lower() if isinstance(word, str) else ""
        return cls.states.get(known, JobState.UNKNOWN)

    def deciding_settings(self) -> dict[str, Any]:
        """The settings for the pay-once key: those with the metadata `TRANSPORT` have their defaults."""
        defaults = {
            each.name: each.default if each.default_factory is MISSING else each.default_factory()
            for each in fields(cast("Any", self))
            if each.metadata.get("transport")
        }
        return {**self.canonical_settings(), **defaults}


def _pinned_parts(request: Request) -> Request:
    """The request with documents that stay what they are now, also for a later attempt."""
    parts = tuple(
        part
        if isinstance(part.content, (str, PinnedDocument))
        else replace(part, content=part.content.pinned())
        for part in request.parts
    )
    return replace(request, parts=parts) if parts else request


def sign(body: bytes, secret: str) -> str:
    """Lower-case hex HMAC-SHA256 of a raw body: how both Mindee APIs sign their webhook calls."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
