"""What proves that a submit was not accepted, and the errors for what proves it and what does not."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpcore
import httpx

from prefect_docjobs.errors import Rejected, ServiceError, SubmitUncertain
from prefect_docjobs.http.bodies import Sent
from prefect_docjobs.http.messages import Answer

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


def surely_refused(answer: Answer, error: ServiceError) -> bool:
    """Whether an answer outside 2xx proves that a submit was not accepted.

    408 and 499 do not: somebody was late. A 503 does only when the service itself refuses, and not a gateway
    that gave up waiting for it.
    """
    if answer.status == 503:
        return error.retry_after is not None or error.from_service
    return 400 <= answer.status < 500 and answer.status not in {408, 499}


def never_connected(problem: Exception, sent: Sent | None) -> bool:
    """Whether there was no connection at all, a proxy's refusal included.

    The kind of the error alone proves nothing: some transports report a connection that broke after the whole
    body as a failure to connect. It is believed before the body has left, and when httpcore is the cause.
    """
    if not isinstance(problem, _NO_CONNECTION):
        return False
    cause = problem.__cause__
    return sent is None or not sent.complete or cause is None or isinstance(cause, _NO_CONNECTION_CAUSES)


def redirected(url: str, answer: Answer, *, provider: str) -> Rejected | None:
    """The error for a redirect that proves that a submit was not accepted; None for any other answer.

    302 and 303 may point to what an accepted submit has made; to the same path they do not. A query may hold
    a token, and so is not named.
    """
    if answer.status not in {*_MOVED, 302, 303}:
        return None
    asked, target = httpx.URL(url), _target(url, answer.location)
    is_same = bool(answer.location) and target is not None and target.path == asked.path
    if answer.status not in _MOVED and not is_same:
        return None
    place, advice = "an address that cannot be used", ""
    if target is not None:
        origin = _origin(target)
        path = target.raw_path.partition(b"?")[0].decode("ascii", "replace")
        place = answer.mask(origin + path)[:_LONGEST_PLACE]
        if origin != _origin(asked):
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


def uncertain(why: str, **facts: Any) -> SubmitUncertain:
    """The error for a submit that may have been accepted."""
    return SubmitUncertain(
        f"The submit was sent, but its answer is lost: {why} The document may have been accepted and "
        "billed; it is not sent again.",
        **facts,
    )
