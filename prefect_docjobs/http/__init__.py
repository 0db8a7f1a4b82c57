"""The only room that talks HTTP: one request at a time, with an answer or a typed error.

In this room: credentials bound to their origin, retries of a request, rate limits, a gate on requests in
flight, time and size limits, redaction. Elsewhere: what a request means (`providers`), and polling until a
job ends (`waiting`).
"""

from __future__ import annotations

from prefect_docjobs.http.client import Http, SendContext
from prefect_docjobs.http.connections import Limits, shared_ssl_context
from prefect_docjobs.http.messages import (
    MASK,
    Answer,
    InDoubt,
    Part,
    Request,
    error_for,
    parse_retry_after,
    safe_file_name,
)
from prefect_docjobs.http.origin import InsecureTransport, normalize_base_url
from prefect_docjobs.http.rate_limits import (
    AccountLimits,
    Kind,
    Lease,
    OnThrottled,
    RateLimiter,
    Refill,
    shared_limits,
)

__all__ = [
    "MASK",
    "AccountLimits",
    "Answer",
    "Http",
    "InDoubt",
    "InsecureTransport",
    "Kind",
    "Lease",
    "Limits",
    "OnThrottled",
    "Part",
    "RateLimiter",
    "Refill",
    "Request",
    "SendContext",
    "error_for",
    "normalize_base_url",
    "parse_retry_after",
    "safe_file_name",
    "shared_limits",
    "shared_ssl_context",
]
