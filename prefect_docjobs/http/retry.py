"""What may be sent again: after which failures, how often, and what proves that a submit was refused.

A submit was refused when there was no connection, when its body was not handed over completely, or when the
answer proves it. Every other failure of a submit is uncertain, and it is not sent again.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpcore
import httpx

from prefect_docjobs.errors import (
    Rejected,
    ServiceError,
    SubmitUncertain,
    Throttled,
    Unavailable,
    Unfinished,
)
from prefect_docjobs.http.connections import Limits
from prefect_docjobs.http.messages import Answer, Upload

_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_NO_CONNECTION_CAUSES = (
    httpcore.ConnectError,
    httpcore.ConnectTimeout,
    httpcore.PoolTimeout,
    httpcore.ProxyError,
)
_MOVED = frozenset({301, 307, 308})
_IN_URLS = "%/:?#[]@!$&'()*+,;=~"
_LONGEST_PLACE = 500  # characters


# -- how often


def may_repeat_read(error: ServiceError) -> bool:
    """Whatever may pass by itself; a GET changes nothing when it is sent twice."""
    return isinstance(error, (Throttled, Unavailable)) and not isinstance(error, Unfinished)


def may_repeat_submit(error: ServiceError) -> bool:
    """429, 503 and a request that did not get through; a submit that may have been accepted is neither."""
    return isinstance(error, Unavailable) or (isinstance(error, Throttled) and error.status == 429)


async def repeat(
    once: Callable[[], Awaitable[Answer]],
    may_repeat: Callable[[ServiceError], bool],
    attempts: int,
    limits: Limits,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> Answer:
    """Call `once` until it succeeds, or fails for good. Answer and error get the number of attempts.

    The pause is what the service demands, and a growing one with jitter on top so that callers spread out.
    """
    started, number, failures = clock(), 0, 0
    while True:
        number += 1
        try:
            return replace(await once(), attempts=number)
        except ServiceError as error:
            error.attempts = number
            demanded = error.retry_after or 0.0
            if isinstance(error, Throttled):
                is_last = clock() - started > limits.throttled
            else:
                failures += 1
                is_last = failures >= attempts
            if is_last or attempts == 1 or demanded > limits.longest_pause or not may_repeat(error):
                raise
        ceiling = min(limits.longest_pause, limits.backoff * 2.0 ** min(number - 1, 10))
        await sleep(demanded + ceiling * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)


# -- refused or uncertain


def submit_error(answer: Answer, error: ServiceError, url: str, upload: Upload) -> ServiceError:
    """The error for a submit's answer outside 2xx: `error` where it was surely refused."""
    if elsewhere := _redirected(url, answer, provider=error.provider):
        return elsewhere
    if upload.complete and not _proves_refusal(answer, error):
        facts = {"status": answer.status, "request_id": answer.request_id}
        return uncertain(str(error), provider=error.provider, **facts)
    return error


def transport_error(
    problem: Exception,
    described: str,
    upload: Upload | None,
    *,
    request: str,
    base_url: str,
    provider: str,
) -> ServiceError:
    """The error for what a transport raised.

    Args:
        problem: What it raised.
        described: The same in words, without secrets.
        upload: How far a submit has got; None for another request.
        request: Method and path.
        base_url: Where it went.
        provider: Registry name of the service.
    """
    if _never_connected(problem, upload):
        return Unavailable(f"No connection to {base_url}: {described}.", provider=provider)
    why = f"{request} was broken off: {described}."
    if upload and upload.complete:
        return uncertain(why, provider=provider)
    if upload:
        why += " The document was not sent completely, so it was not accepted."
    return Unavailable(why, provider=provider)


def uncertain(why: str, **facts: Any) -> SubmitUncertain:
    """The error for a submit that may have been accepted."""
    return SubmitUncertain(
        f"The submit was sent, but its answer is lost: {why} The document may have been accepted and "
        "billed; it is not sent again.",
        **facts,
    )


def _proves_refusal(answer: Answer, error: ServiceError) -> bool:
    """408 and 499 do not: one side was late. A 503 does only where the service itself refuses.

    A gateway that gave up waiting for the service answers 503, too.
    """
    if answer.status == 503:
        return error.retry_after is not None or error.from_service
    return 400 <= answer.status < 500 and answer.status not in {408, 499}


def _never_connected(problem: Exception, upload: Upload | None) -> bool:
    """Whether there was no connection at all; a proxy's refusal is one such case.

    The kind of the error alone proves nothing: some transports report a connection that broke after the whole
    body as a failure to connect. It counts before the body has left, and when httpcore is the cause.
    """
    if not isinstance(problem, _NO_CONNECTION):
        return False
    cause = problem.__cause__
    return upload is None or not upload.complete or cause is None or isinstance(cause, _NO_CONNECTION_CAUSES)


def _redirected(url: str, answer: Answer, *, provider: str | None) -> Rejected | None:
    """The error for a redirect that proves that a submit was not accepted; None for any other answer.

    302 and 303 may point to what an accepted submit has made; to the same path they do not. A query may hold
    a token, and so is not named.
    """
    if answer.status not in {*_MOVED, 302, 303}:
        return None
    requested, target = httpx.URL(url), _target(url, answer.location)
    is_same = bool(answer.location) and target is not None and target.path == requested.path
    if answer.status not in _MOVED and not is_same:
        return None
    place, advice = "an address that cannot be used", ""
    if target is not None:
        origin = _origin(target)
        path = target.raw_path.partition(b"?")[0].decode("ascii", "replace")
        place = answer.mask(origin + path)[:_LONGEST_PLACE]
        if origin != _origin(requested):
            advice = f" If the service is there, give {answer.mask(origin)} as base_url."
    return Rejected(
        f"The submit was redirected to {place}. Redirects are not followed, and nothing was accepted."
        + advice,
        provider=provider,
        status=answer.status,
        request_id=answer.request_id,
    )


def _target(url: str, location: str | None) -> httpx.URL | None:
    """Where a redirect leads; None where that is no address on the web."""
    try:
        target = httpx.URL(url).join(quote(location or "", safe=_IN_URLS))
    except (httpx.InvalidURL, ValueError):
        return None
    return target if target.scheme in {"http", "https"} and target.host else None


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"
