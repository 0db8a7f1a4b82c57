"""What a provider must answer, and what it can do.

A provider is two pure halves for each verb, a request to send and the reading of its answer, plus short
async verbs that put them together. It opens no connection and knows no clock: the verbs are handed an
`Http`, and an answer brings the time at which it arrived.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, Field, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, cast

import anyio.to_thread

from prefect_docjobs.errors import (
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
from prefect_docjobs.http import Answer, Attempt, Http, InDoubt, Kind, Part, Request, error_for
from prefect_docjobs.models import Document, JobRef, JobState, JobStatus, Result
from prefect_docjobs.models.documents import PinnedDocument
from prefect_docjobs.providers.messages import Capabilities, JobPage, JobRow, Polling, Push, Submitted
from prefect_docjobs.providers.values import MAX_ID, check_job_id

__all__ = [
    "SMALL",
    "TRANSPORT",
    "Capabilities",
    "JobPage",
    "JobRow",
    "Polling",
    "Provider",
    "Push",
    "Submitted",
    "new_alias",
    "sign",
    "verify_signature",
]

T = TypeVar("T")
_READ_AT_ONCE = 1 << 18  # bytes of an answer; reading them takes some milliseconds
_UNTYPED = "application/octet-stream"
SMALL = 1 << 20
"""Bytes; reading and hashing these takes a millisecond, not worth a trip to a thread."""

TRANSPORT: Mapping[str, bool] = MappingProxyType({"transport": True})
"""Field metadata of a setting that decides only how a document travels or what its job is called, never what
the result says. It is no part of the pay-once key; every other setting is."""


class Provider(ABC):
    """One service, with the settings of one kind of job. Subclasses are frozen dataclasses.

    Class attributes:
        name: Registry name. `title`: what people call it. `default_base_url`: where it lives.
        env_key: The environment variable that people keep the key in (the official SDK's own where it has
            one).
        states: The service's own state words, in lower case, and what they mean.
        polling: Documented polling advice.
        rates: Requests per second that the service documents, by kind; a first refusal leads there.
        products: What `product` may be; empty where it is free.
        echoes_alias: The service keeps a key of ours and tells it in answers and pushes.
        signature_header: The header in which the service signs its webhook calls; empty where it does not.
            A call without it is refused before its body is read.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    default_base_url: ClassVar[str]
    env_key: ClassVar[str]
    states: ClassVar[Mapping[str, JobState]] = MappingProxyType({})
    polling: ClassVar[Polling] = Polling(first=2.0, every=2.0)
    capabilities: ClassVar[Capabilities] = Capabilities()
    rates: ClassVar[Mapping[Kind, float]] = MappingProxyType({})
    products: ClassVar[tuple[str, ...]] = ()
    echoes_alias: ClassVar[bool] = False
    signature_header: ClassVar[str] = ""

    # -- what a provider must say: pure, testable with literals

    @property
    @abstractmethod
    def product(self) -> str:
        """What is asked for; part of every ref."""

    @property
    def variant(self) -> str:
        """What else decides how long a job takes, such as the service's model; may be empty."""
        return ""

    @property
    def asks_for_pushes(self) -> bool:
        """Whether each submit names the webhooks to call."""
        return False

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
        """The request that looks at a job."""

    @abstractmethod
    def read_status(self, ref: JobRef, answer: Answer) -> JobStatus:
        """One observation, with the ref completed."""

    @abstractmethod
    def result_request(self, ref: JobRef) -> Request:
        """The request that fetches the result. Raises `Unreadable` when `ref` lacks what it needs."""

    @abstractmethod
    def map_result(self, ref: JobRef, payload: Any) -> Result:
        """The service's result (parsed JSON) in the one model; called through `read_result`."""

    @classmethod
    def read_error(cls, answer: Answer) -> ServiceError:
        """The typed error for an answer outside 2xx."""
        return error_for(answer, provider=cls.name)

    def needs_status(self, ref: JobRef) -> bool:
        """Whether fetching needs something that only a status request tells."""
        return False

    # -- what decides the result

    def canonical_settings(self) -> dict[str, Any]:
        """All settings by name. Override it so that settings that mean the same are equal."""
        settings = fields(cast("Any", self))  # a TypeError where it is no dataclass
        return {setting.name: getattr(self, setting.name) for setting in settings}

    def deciding_settings(self) -> dict[str, Any]:
        """The settings for the pay-once key: those with the metadata `TRANSPORT` have their defaults."""
        settings = fields(cast("Any", self))
        transport = {each.name: _default(each) for each in settings if each.metadata.get("transport")}
        return {**self.canonical_settings(), **transport}

    # -- the verbs

    async def submit(
        self,
        http: Http,
        document: Document,
        *,
        sha256: str | None = None,
        in_doubt: InDoubt | None = None,
        attempt: Attempt = nullcontext,
    ) -> JobRef:
        """Submit a document: one request, one bill.

        The content is hashed again while it is sent, and the last piece leaves only when it is what it was.

        Args:
            http: The account's client.
            document: What to submit.
            sha256: What its content is known to be, where the caller has hashed it; hashed here by default.
            in_doubt: Called as by `Http.submit`.
            attempt: Entered as by `Http.submit`.

        Raises:
            InvalidDocument: Nothing was accepted; the document is at fault, or is still being written.
            Unsupported: Nothing was sent; this service does not take such a document.
            SubmitUncertain: Sent, and the answer lost.
            ServiceError: Refused.
        """
        self.check(document)
        alias = new_alias()
        try:
            size, sha256, request = await self._prepared(document, alias, sha256)
            answer = await http.submit(request, in_doubt=in_doubt, attempt=attempt)
            submitted = await self.read_off_loop(answer, self._read_submitted, answer)
        except DocJobsError as error:
            raise error.about(document.name) from None
        return JobRef(
            provider=self.name,
            base_url=http.base_url,
            tenant=http.tenant,
            product=self.product,
            job_id=submitted.job_id,
            document_name=document.name,
            document_sha256=sha256,
            document_size=size,
            submitted_at=answer.received_at,
            alias=submitted.alias or (alias if self.echoes_alias else None),
            result_url=submitted.result_url,
            document_id=submitted.document_id,
        )

    async def status(self, http: Http, ref: JobRef, *, once: bool = False) -> JobStatus:
        """Look at a job. `once` is for poll loops: one request, in a turn that the caller has taken."""
        self.check_ref(http, ref)
        ask = http.look if once else http.send
        answer = await ask(self.request_for(self.status_request, ref))
        return await self.aread_status(ref, answer)

    async def aread_status(self, ref: JobRef, answer: Answer) -> JobStatus:
        """`read_status` for an event loop; see `read_off_loop`. Raises `Unreadable` as `read_result` does."""

        def read() -> JobStatus:
            with self.reading(answer):
                return self.read_status(ref, answer)

        return await self.read_off_loop(answer, read)

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
        """A fetched answer in the one model; pure.

        Raises:
            Unreadable: It is not what the service documents. The answer itself is not lost by that.
        """
        with self.reading(answer):
            return self.map_result(ref, answer.json())

    async def aread_result(self, ref: JobRef, answer: Answer) -> Result:
        """`read_result` for an event loop: a large answer is read in a thread."""
        return await self.read_off_loop(answer, self.read_result, ref, answer)

    async def read_off_loop(self, answer: Answer, read: Callable[..., T], *args: Any) -> T:
        """What the pure `read(*args)` returns; called in a thread where `answer` is large."""
        if len(answer.body) <= _READ_AT_ONCE:
            return read(*args)
        return await anyio.to_thread.run_sync(read, *args, abandon_on_cancel=True)

    async def cancel(self, http: Http, ref: JobRef) -> None:
        """Stop a job at the service. Raises `Unsupported` where the service cannot."""
        raise Unsupported(f"{self.title} cannot cancel a job. It runs to its end and is billed.")

    async def list_jobs(self, http: Http, *, skip: int = 0, limit: int = 100, once: bool = False) -> JobPage:
        """One page of the account's jobs; `once` as for `status`.

        Raises:
            Unsupported: The service has no list.
        """
        raise Unsupported(f"{self.title} has no list of jobs.")

    def stream(self, http: Http, ref: JobRef) -> AsyncIterator[JobStatus]:
        """The end of a job, told on an open connection. Raises `Unsupported` where there is none."""
        raise Unsupported(f"{self.title} has no stream of job events.")

    @classmethod
    def verify_push(cls, headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
        """Check a webhook call's signature over its raw body; several secrets allow rotation.

        Raises:
            InvalidPush: No secret, no signature, or no secret fits.
            Unsupported: The service documents no signature.
        """
        raise Unsupported(f"{cls.title} documents no signature for webhook calls.")

    @classmethod
    def read_push(cls, body: bytes) -> Push:
        """What a (verified) webhook call says. Raises `InvalidPush` when it is not the service's."""
        raise Unsupported(f"{cls.title} documents no webhook calls.")

    # -- shared checks

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

    def check(self, document: Document) -> None:
        """Raise unless the service documents that it takes such a document; see `Capabilities`."""
        document.check()
        able = self.capabilities
        if document.url is not None and not able.url_input:
            raise Unsupported(f"{self.title} takes no URLs. Give the file itself.").about(document.name)
        known = document.media_type != _UNTYPED and able.media_types is not None
        if known and document.media_type not in (able.media_types or ()):
            raise InvalidDocument(f"{self.title} does not take {document.media_type}.").about(document.name)
        if able.max_bytes is not None and (document.size or 0) > able.max_bytes:
            raise InvalidDocument(
                f"{document.size:,} bytes are more than {self.title} takes ({able.max_bytes:,})."
            ).about(document.name)

    async def _prepared(
        self, document: Document, alias: str, sha256: str | None
    ) -> tuple[int | None, str | None, Request]:
        def prepare() -> tuple[int | None, str | None, Request]:
            pinned = document if document.url is not None else document.pinned(sha256)
            request = self.submit_request(pinned, alias=alias)
            parts = tuple(_with_pinned(part) for part in request.parts)
            return pinned.size, pinned.sha256, replace(request, parts=parts) if parts else request

        if (document.size or 0) <= SMALL:
            return prepare()
        return await anyio.to_thread.run_sync(prepare)

    def _read_submitted(self, answer: Answer) -> Submitted:
        try:
            with self.reading(answer):
                submitted = self.read_submit(answer)
                check_job_id(submitted.job_id)
                if len(submitted.alias or "") > MAX_ID:
                    return replace(submitted, alias=None)
                return submitted
        except Unreadable as problem:
            raise SubmitUncertain(
                f"The submit was answered, but the answer names no job: {problem} The document may have been "
                "accepted and billed; it is not sent again.",
                provider=self.name,
                status=answer.status,
                request_id=answer.request_id,
            ) from None

    def request_for(self, build: Callable[[JobRef], Request], ref: JobRef) -> Request:
        """`build(ref)`; raises `Unreadable` where an id in `ref` cannot be part of a path (`segment`)."""
        try:
            return build(ref)
        except ValueError:
            raise Unreadable("The job's id cannot be part of a path.", provider=self.name) from None

    @classmethod
    @contextmanager
    def reading(cls, answer: Answer) -> Iterator[None]:
        """Turn whatever goes wrong while an answer is read into `Unreadable`."""
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

    @classmethod
    def state_of(cls, word: object) -> JobState:
        """Our state for the service's word, in any case; UNKNOWN for a word that is not documented."""
        known = word.strip().lower() if isinstance(word, str) else ""
        return cls.states.get(known, JobState.UNKNOWN)


# ------------------------------------------------------------------------------------- for all providers


def _default(setting: Field[Any]) -> Any:
    factory = setting.default_factory
    return setting.default if factory is MISSING else factory()


def _with_pinned(part: Part) -> Part:
    """The part with a document that stays what it is now, also in a later attempt: an example, for one."""
    if isinstance(part.content, (str, PinnedDocument)):
        return part
    return replace(part, content=part.content.pinned())


def new_alias() -> str:
    """A fresh key for services that echo one in answers and pushes."""
    return f"docjobs-{uuid.uuid4().hex}"


def sign(body: bytes, secret: str) -> str:
    """Lower-case hex HMAC-SHA256 of a raw body: how both Mindee APIs sign their webhook calls."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def verify_signature(headers: Mapping[str, str], name: str, body: bytes, secrets: Collection[str]) -> None:
    """Check a webhook call that is signed with `sign`.

    Args:
        headers: Of the call, their names in any case.
        name: The header that carries the signature.
        body: As it came, not parsed and written again.
        secrets: Several allow rotation; each is tried, in constant time.

    Raises:
        InvalidPush: No secret, no signature, or no secret fits.
    """
    known = [secret for secret in secrets if secret]  # an empty secret would let anybody sign
    if not known:
        raise InvalidPush("No signing secret is configured, so nothing can be verified.")
    signature = {header.lower(): value for header, value in headers.items()}.get(name.lower())
    if not signature:
        raise InvalidPush("The call has no signature.")
    given = signature.strip().encode("utf-8", "replace")
    fits = [hmac.compare_digest(sign(body, secret).encode(), given) for secret in known]
    if not any(fits):
        raise InvalidPush("The signature does not fit the body.")
