"""The client: one request at a time, answered or refused with a typed error."""

from __future__ import annotations

import asyncio
import io
import logging
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import httpx
from typing_extensions import Self

from prefect_docjobs.errors import (
    ConfigurationError,
    DocJobsError,
    ForeignOrigin,
    ServiceError,
    SubmitUncertain,
    Throttled,
    Unauthorized,
    Unavailable,
    Unreadable,
)
from prefect_docjobs.http.connections import Limits, headers_of, new_client, shared_ssl_context
from prefect_docjobs.http.messages import (
    MASK,
    PIECE,
    Answer,
    InDoubt,
    Request,
    Upload,
    common_headers,
    encoded,
    error_for,
    held_back,
    too_large,
    tracked,
)
from prefect_docjobs.http.origin import is_proxied, normalize_base_url, path_of, resolve
from prefect_docjobs.http.rate_limits import AccountLimits, Kind, RateLimiter
from prefect_docjobs.http.retry import (
    may_repeat_read,
    may_repeat_submit,
    repeat,
    submit_error,
    transport_error,
    uncertain,
)
from prefect_docjobs.telemetry import STATUS, Telemetry, active

if TYPE_CHECKING:
    from prefect_docjobs.http.fast_gets import FastGetClient

_LARGEST_REFUSAL = 1 << 18  # bytes; of a refusal, the rest is left unread
_BROKEN = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError, OSError)

SendContext = Callable[[], AbstractAsyncContextManager[None]]
"""Entered when a submit has its token and is about to be sent; left with its outcome."""

Renew = Callable[[], Awaitable[tuple[Mapping[str, str], str]]]
"""Gives the headers that carry the key, and the key itself."""

_log = logging.getLogger(__name__)
_RENEW_EVERY = 60.0  # seconds, after a new key was found; it may be saved a moment after it is exchanged:
_RENEW_SOON = 2.0


class Http:
    """Sends requests to one service as one tenant. Use it as an async context manager, on one event loop.

    Args:
        provider: Registry name of the service, for errors.
        base_url: Where credentials may go; every other origin is refused.
        headers: Sent with each request, credentials among them.
        tenant: Whose account it is.
        secrets: Texts that must not appear in any error.
        read_error: Turns an answer outside 2xx into the service's typed error.
        transport: An httpx transport, for tests and for the simulator in process.
        account_limits: How fast each kind of request may be sent; shared by all clients of an account.
        sleep: Waits between two attempts.
        clock: Monotonic seconds; the event loop's by default.
        renew: Gives the headers and the key as they are saved now; called when the key is refused.
        telemetry: Records requests, waits and documents; as the process exports it by default.
    """

    def __init__(
        self,
        *,
        provider: str,
        base_url: str,
        headers: Mapping[str, str],
        tenant: str = "",
        secrets: Collection[str] = (),
        read_error: Callable[[Answer], ServiceError] = error_for,
        limits: Limits | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        account_limits: AccountLimits | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] | None = None,
        renew: Renew | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.provider = provider
        self.base_url = sys.intern(normalize_base_url(base_url))
        self.tenant = sys.intern(tenant)
        self.limits = limits or Limits()
        self.telemetry = telemetry or active()
        self._headers = dict(headers)
        self._secrets = _checked(secrets)
        self._renew = renew
        self._renew_at = -math.inf
        self._renewing = asyncio.Lock()
        self._read_error = read_error
        self._transport = transport
        self._sleep = sleep
        self._clock = clock
        self._given_limits = account_limits
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"Http({self.provider!r}, {self.base_url!r}, tenant={self.tenant!r})"

    async def __aenter__(self) -> Self:
        self._now = self._clock or asyncio.get_running_loop().time
        self._gate = anyio.Semaphore(self.limits.in_flight, fast_acquire=True)
        self._account_limits = self._given_limits or AccountLimits(clock=self._now)
        self._fast_gets = self._fast_get_client()
        opened, limits, transport = self._stack.enter_async_context, self.limits, self._transport
        self._reads = await opened(new_client(limits, transport, keepalive=30.0))
        # A POST on a connection that the server is about to close is a submit with an unknown end.
        self._submits = await opened(new_client(limits, transport, keepalive=1.5, uploads=True))
        self._streams = await opened(new_client(limits, transport, keepalive=1.5))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def _fast_get_client(self) -> FastGetClient | None:
        """The client for GETs; None where a given transport, or a proxy, takes all requests."""
        if self._transport is not None or is_proxied(self.base_url):
            return None
        from prefect_docjobs.http.fast_gets import FastGetClient  # importing aiohttp takes 0.1 s

        reads = FastGetClient(
            common_headers() | self._headers, self.limits, shared_ssl_context(), self._answer
        )
        self._stack.push_async_callback(reads.aclose)
        return reads

    # -- verbs

    async def get(self, path: str, **options: Any) -> Answer:
        """GET a path; see `send`. `options` are fields of `Request`."""
        return await self.send(Request("GET", path, **options))

    async def send(self, request: Request, *, attempts: int | None = None) -> Answer:
        """Send a request that may be repeated: a GET, or a POST that changes nothing when sent twice.

        Args:
            request: What to send.
            attempts: Requests at most; by default as `Limits` say.

        Raises:
            ServiceError: Of the kind that says what to do.
        """
        kind: Kind = "result" if request.verbatim else "status"
        once = partial(self._once, self._reads, request, kind)
        usual = self.limits.result_attempts if kind == "result" else self.limits.attempts
        return await self._repeat(once, attempts or usual, may_repeat_read)

    async def poll(self, request: Request) -> Answer:
        """Send the GET of a poll loop: one attempt, for which the caller has taken a token.

        Raises:
            ServiceError: As for `send`; sending it again is up to the caller.
        """
        return await self._with_the_newest_key(
            partial(self._once, self._reads, request, "status", has_token=True)
        )

    async def wait_for_token(self, kind: Kind) -> None:
        """Wait for a rate token of the account for this kind of request, and take it."""
        limiter = self._account_limits[kind]
        while (wait := limiter.take()) > 0:  # a refusal meanwhile makes it longer
            await self._sleep(wait)

    def limiter(self, kind: Kind) -> RateLimiter:
        """The rate limiter for this kind of request."""
        return self._account_limits[kind]

    async def submit(
        self, request: Request, *, in_doubt: InDoubt | None = None, context: SendContext = nullcontext
    ) -> Answer:
        """Send a request that costs money. Repeated only when it surely was not accepted.

        That is: on 429, on 503 where the service itself says so, and when the request did not get through
        completely, with or without a connection.

        Args:
            request: What to send.
            in_doubt: Called with True each time the last piece of the request is about to be sent, and with
                False when that was surely refused. What it raises breaks the request off before that piece.
            context: Entered each time that it is sent, after a token was taken.

        Raises:
            InvalidDocument: A document is not what it was; the request was broken off before its last piece.
            SubmitUncertain: The request was sent and its answer lost, or means nothing (5xx, for one).
            ServiceError: It was refused.
        """

        async def once() -> Answer:
            try:
                return await self._once(
                    self._submits, request, "submit", context=context, upload=Upload(in_doubt)
                )
            except SubmitUncertain:
                raise
            except DocJobsError:
                if in_doubt:
                    in_doubt(False)
                raise

        return await self._repeat(once, self.limits.attempts, may_repeat_submit)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[httpx.Response]:
        """A response whose body arrives piece by piece (server-sent events); never repeated.

        It has a connection of its own outside the gate, so that a stream never holds up requests. What
        is read from it must go through `redacted` before it is shown.
        """
        url = self.own(request.path)
        with self._translated(request, None), ExitStack() as opened:
            built = await self._build(self._streams, url, request, opened)
            response = await self._streams.send(built, stream=True)
            try:
                if not response.is_success:
                    answer = await self._read(response, request)
                    self._refuse(self._masked(answer), "status", url, None)
                yield response
            finally:
                await response.aclose()

    def own(self, url: str) -> str:
        """An absolute URL on the service's own origin, for a path or an address that the service gave.

        Raises:
            ForeignOrigin: It lies elsewhere.
        """
        target = resolve(self.base_url, url)
        if target is None:
            raise ForeignOrigin(
                "The service pointed to an address outside its own origin; it is not followed.",
                provider=self.provider,
            )
        return target

    # -- one call = a few attempts

    async def _repeat(
        self,
        once: Callable[[], Awaitable[Answer]],
        attempts: int,
        may_repeat: Callable[[ServiceError], bool],
    ) -> Answer:
        current_key = partial(self._with_the_newest_key, once)
        return await repeat(
            current_key, may_repeat, attempts, self.limits, clock=self._now, sleep=self._sleep
        )

    async def _with_the_newest_key(self, once: Callable[[], Awaitable[Answer]]) -> Answer:
        """Call `once`, and again where the key was refused and has been exchanged meanwhile."""
        known = self._headers
        try:
            return await once()
        except Unauthorized as refused:
            if refused.status != 401 or not await self._has_newer_key(known):
                raise
        return await once()

    async def _has_newer_key(self, known: Mapping[str, str]) -> bool:
        async with self._renewing:
            if self._renew is None or self._headers is not known:
                return self._headers is not known
            if self._now() < self._renew_at:
                return False
            self._renew_at = self._now() + _RENEW_EVERY
            try:
                headers, secret = await self._renew()
            except Exception as problem:  # noqa: BLE001 (the refusal of the key says what is wrong)
                _log.warning("The credentials cannot be loaded again: %s", type(problem).__name__)
                return False
            if headers == known:
                self._renew_at = self._now() + _RENEW_SOON
                return False
            self._secrets = (*self._secrets, *_checked([secret]))
            self._headers = dict(headers)
            if self._fast_gets:
                self._fast_gets.use(self._headers)
            _log.info("The key of %s was refused; the saved credentials have another one.", self.base_url)
            return True

    async def _once(
        self,
        client: httpx.AsyncClient,
        request: Request,
        kind: Kind,
        *,
        has_token: bool = False,
        context: SendContext = nullcontext,
        upload: Upload | None = None,
    ) -> Answer:
        url = self.own(request.path)
        if not has_token:
            await self.wait_for_token(kind)
        async with self._gate, context():
            return await self._send_once(client, url, request, kind, upload)

    async def _send_once(
        self, client: httpx.AsyncClient, url: str, request: Request, kind: Kind, upload: Upload | None
    ) -> Answer:
        with self.telemetry.request(kind, request.method, self.provider, self.base_url) as span:
            with self._translated(request, upload):
                answer = await self._answered(client, url, request, upload)
            span.note(STATUS, answer.status)
            if not (200 <= answer.status < 300 or answer.status in request.accept):
                self._refuse(self._masked(answer), kind, url, upload)
            if upload and not upload.complete:
                raise uncertain("It came before the whole document was upload.", provider=self.provider)
            self._account_limits[kind].answered()
            if kind != "submit" and answer.headers.get("content-type", "").lower().startswith("text/html"):
                raise Unavailable("An HTML page came in place of an answer.", status=answer.status)
        return answer

    async def _answered(
        self, client: httpx.AsyncClient, url: str, request: Request, upload: Upload | None
    ) -> Answer:
        if request.method == "GET" and self._fast_gets:
            return await self._fast_gets.get(url, request)
        return await self._exchange(client, url, request, upload)

    async def _exchange(
        self, client: httpx.AsyncClient, url: str, request: Request, upload: Upload | None
    ) -> Answer:
        with ExitStack() as opened:
            built = await self._build(client, url, request, opened)
            with anyio.fail_after(self.limits.total):
                response = await client.send(tracked(built, upload) if upload else built, stream=True)
                if upload:
                    upload.answered()
                try:
                    return await self._read(response, request)
                finally:
                    await response.aclose()

    def _refuse(self, answer: Answer, kind: Kind, url: str, upload: Upload | None) -> NoReturn:
        error = self._read_error(answer)
        error.provider = self.provider
        if isinstance(error, Throttled):
            self._account_limits[kind].throttled(error.retry_after)
        else:
            self._account_limits[kind].answered()
        raise submit_error(answer, error, url, upload) if upload else error

    @contextmanager
    def _translated(self, request: Request, upload: Upload | None) -> Iterator[None]:
        """Turn what a transport raises into our errors; a submit's by whether its last piece had left.

        `from None`: an httpx error carries the request, and so the key.
        """
        try:
            yield
        except _BROKEN as problem:
            raise self._broken_off(request, problem, upload) from None
        except Unreadable as problem:
            problem.provider = self.provider
            if upload and upload.complete:
                raise uncertain(str(problem), provider=self.provider) from None
            raise

    def _broken_off(self, request: Request, problem: Exception, upload: Upload | None) -> ServiceError:
        text = str(problem)  # some of httpx's errors have none
        name = type(problem).__name__
        described = self.redacted((f"{name} ({text})" if text else name).encode()).decode()
        return transport_error(
            problem,
            described,
            upload,
            request=f"{request.method} {path_of(request.path)}",
            base_url=self.base_url,
            provider=self.provider,
        )

    # -- one request

    async def _build(
        self, client: httpx.AsyncClient, url: str, request: Request, opened: ExitStack
    ) -> httpx.Request:
        headers, body, documents = encoded(request, opened)
        params, headers = dict(request.params) or None, self._headers | headers
        built = client.build_request(request.method, url, params=params, headers=headers, **body)
        return await held_back(built, documents)

    async def _read(self, response: httpx.Response, request: Request) -> Answer:
        status, limit, received = response.status_code, self.limits.largest(request), io.BytesIO()
        if not (response.is_success or status in request.accept):
            return await self._read_refusal(response, request)
        async for piece in response.aiter_bytes(PIECE):
            if received.tell() + len(piece) > limit:
                raise too_large(limit, status)
            received.write(piece)
        return self._answer(request, status, headers_of(response), received.getvalue())

    async def _read_refusal(self, response: httpx.Response, request: Request) -> Answer:
        """A refusal: its status counts, also when its body is too large, damaged or cut off."""
        body = b""
        with suppress(*_BROKEN), anyio.move_on_after(self.limits.idle):
            async for piece in response.aiter_bytes(PIECE):
                body += piece[: _LARGEST_REFUSAL - len(body)]
                if len(body) >= _LARGEST_REFUSAL:
                    break
        return self._answer(request, response.status_code, headers_of(response), body)

    def _answer(self, request: Request, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
        """What came, with secrets masked; a result is kept as it is."""
        secrets = () if request.verbatim else self._secrets
        shown = self.redacted(body) if secrets else body
        return Answer(status, headers, shown, path_of(request.path), secrets=secrets)

    def _masked(self, answer: Answer) -> Answer:
        body = self.redacted(answer.body[:_LARGEST_REFUSAL])
        return replace(answer, body=body, secrets=self._secrets)

    def redacted(self, body: bytes) -> bytes:
        """`body` with every secret of this client masked."""
        for secret in self._secrets:
            body = body.replace(secret.encode(), MASK.encode())
        return body


def _checked(secrets: Collection[str]) -> tuple[str, ...]:
    """The secrets that can travel in a header; raises `ConfigurationError` for others."""
    given = tuple(secret for secret in secrets if secret)
    if all(secret.isascii() and secret.isprintable() and secret == secret.strip() for secret in given):
        return given
    raise ConfigurationError("The API key has blanks or characters that no HTTP header can carry.")
