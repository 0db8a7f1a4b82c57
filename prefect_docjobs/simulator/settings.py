"""Everything about the simulator that can be set, at start and while it runs.

One tree of pydantic models, so that the same names work in Python, in JSON (``PATCH /_simulator/settings``,
RFC 7396 merge patch) and on a command line. Times are seconds, shares are probabilities in 0..1.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Kind = Literal["submit", "status", "result"]
"""The kinds of request that faults and rate limits tell apart; lists and streams count as ``status``."""

KINDS: tuple[Kind, ...] = ("submit", "status", "result")


class _Section(BaseModel):
    """A part of the settings: unknown names are refused, values do not change in place."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Duration(_Section):
    """How long a job takes from its submit to its end.

    Attributes:
        law: ``fixed`` (always ``seconds``), ``uniform`` (``low`` to ``high``) or ``lognormal``
            (``median`` seconds, ``sigma`` of the logarithm; 0.4 is a moderate tail, 1.0 a long one).
        queue_share: The part of each duration that the job spends queued before it is processed.
    """

    law: Literal["fixed", "uniform", "lognormal"] = "lognormal"
    seconds: Seconds = 2.0
    low: Seconds = 1.0
    high: Seconds = 3.0
    median: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 2.0
    sigma: Annotated[float, Field(ge=0.0, le=5.0)] = 0.4
    queue_share: Share = 0.25

    @model_validator(mode="after")
    def _low_is_not_above_high(self) -> Duration:
        if self.low > self.high:
            raise ValueError("duration.low must not be greater than duration.high")
        return self

    def draw(self, rng: random.Random) -> float:
        """Seconds for one job; takes exactly one number from ``rng`` under ``uniform``."""
        if self.law == "fixed":
            return self.seconds
        if self.law == "uniform":
            return rng.uniform(self.low, self.high)
        return self.median * rng.lognormvariate(0.0, self.sigma)


class RateLimit(_Section):
    """A token bucket: ``per_second`` requests on average, ``burst`` at once. None: no limit."""

    per_second: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    burst: Annotated[int, Field(ge=1)] = 1


class RateLimits(_Section):
    """The 429s: one bucket for each service and kind of request."""

    submit: RateLimit = RateLimit()
    status: RateLimit = RateLimit()
    result: RateLimit = RateLimit()


class RetryAfter(_Section):
    """The ``Retry-After`` header of 429 and 503 answers.

    Attributes:
        form: ``none`` (no header), ``seconds`` (a whole number) or ``date`` (an HTTP date, RFC 9110 10.2.3).
        seconds: The time that it gives. None: for a 429 the time until the bucket has a token again,
            for a 503 one second; both rounded up.
    """

    form: Literal["none", "seconds", "date"] = "none"
    seconds: Seconds | None = None


class FaultShares(_Section):
    """The shares of requests of one kind that go wrong; a request has at most one fault.

    Attributes:
        unavailable: HTTP 503 in the service's own error shape, the request not acted on.
        bad_gateway: HTTP 502 with an HTML page, as a proxy answers, the request not acted on.
        dropped: The connection is cut before the request is acted on.
        lost: The request is acted on (a submit makes its job, a single-use result is used up), then the
            connection is cut instead of answering. Only requests that would have got a 2xx or 3xx.
        garbled: HTTP 200 with a JSON body that is no answer of the service, the request not acted on.
    """

    unavailable: Share = 0.0
    bad_gateway: Share = 0.0
    dropped: Share = 0.0
    lost: Share = 0.0
    garbled: Share = 0.0

    @model_validator(mode="after")
    def _shares_fit_into_one(self) -> FaultShares:
        if sum(self.model_dump().values()) > 1.0 + 1e-9:
            raise ValueError("the shares of one kind of request must not add up to more than 1")
        return self


class Faults(_Section):
    """Fault shares for each kind of request, so that a test can spare the submits."""

    submit: FaultShares = FaultShares()
    status: FaultShares = FaultShares()
    result: FaultShares = FaultShares()


class Webhooks(_Section):
    """Pushes to a receiver, sent when a job ends.

    Attributes:
        url: Where to POST; ``{service}`` in it becomes ``mindee``, ``mindee-v1`` or ``unsiloed``.
            None: no pushes.
        secret: The signing secret of services that sign.
        lost_share: Pushes that are never sent.
        twice_share: Pushes that are sent two times.
        late_share: Pushes that are sent ``late_seconds`` after the job's end.
        attempts: Tries for one push that gets no 2xx. The real services' number is not published.
        retry_seconds: Time between two tries.
    """

    url: str | None = None
    secret: str = "simulator-secret"  # noqa: S105  (a default for localhost, not a secret)
    lost_share: Share = 0.0
    twice_share: Share = 0.0
    late_share: Share = 0.0
    late_seconds: Seconds = 5.0
    attempts: Annotated[int, Field(ge=1, le=10)] = 1
    retry_seconds: Seconds = 1.0


class Mindee(_Section):
    """What only Mindee V2 has.

    Attributes:
        dates_without_zone: Send dates as Mindee's published test data has them, without a zone. Its OpenAPI
            says ``date-time`` (RFC 3339), which needs one: that is the default.
    """

    dates_without_zone: bool = False


class NuMind(_Section):
    """What only NuMind has.

    Attributes:
        truncated_share: Structured extractions whose model does not finish normally: HTTP 206 with an
            ``error`` and ``isTruncated``.
        quota: Submits that are accepted before the billing quota is exceeded (HTTP 403); None: no quota.
    """

    truncated_share: Share = 0.0
    quota: Annotated[int, Field(ge=0)] | None = None


class Unsiloed(_Section):
    """What only Unsiloed has. The service's documentation shows several shapes of the same things.

    Attributes:
        field_shape: Fields of an extraction: ``newest`` (``score`` is an object, ``citation``), ``bboxes``
            (``score`` is a number, ``bboxes``, ``page_no``; the pages of 2026-03) or ``legacy`` (``score``
            is a number, nothing else).
        error_shape: ``detail`` (FastAPI style; plain text on ``/parse``) or ``envelope``
            (``{"error": {…}}``).
        parse_failure_key: Where a failed parse says why.
        review_share: Extractions that end as ``review`` rather than ``completed``.
        pii_blocked_share: Documents that are refused as ``pii_blocked`` when they are submitted.
        quota: Credits at the start; a page costs one, and a submit without credits gets HTTP 402.
        most_bytes: Size of the largest file taken, answered with HTTP 413 above; the default is the limit
            that the service documents for extractions.
    """

    field_shape: Literal["newest", "bboxes", "legacy"] = "newest"
    error_shape: Literal["detail", "envelope"] = "detail"
    parse_failure_key: Literal["message", "error"] = "message"
    review_share: Share = 0.0
    pii_blocked_share: Share = 0.0
    quota: Annotated[int, Field(ge=0)] = 100_000
    most_bytes: Annotated[int, Field(ge=1)] = 100_000_000


class Settings(_Section):
    """All settings of one simulator.

    Attributes:
        seed: Start of every random choice. How a job goes depends on the seed, its document's content and how
            often that content was submitted to that product before, not on the order of other documents.
        api_key: The one key that all services accept.
        duration: How long jobs take.
        failed_share: Jobs that end as failed although their document is good.
        stuck_share: Jobs that stay in processing for ever.
        not_found_after_submit: Seconds after a submit in which its job is answered with 404.
        refuse_media_types: Refuse documents of a type that the service does not take (read off the bytes), as
            the services do; False lets plain text through everywhere, for tests and benchmarks.
        single_use_results: A result can be read once; a second read gets 404 (Mindee's model option
            "Delete extracted data when fetched").
        rates: Rate limits, answered with 429.
        retry_after: The Retry-After header of 429 and 503.
        faults: Shares of requests that go wrong.
        webhooks: Pushes.
        mindee: What only Mindee V2 has.
        numind: What only NuMind has.
        unsiloed: What only Unsiloed has.
    """

    seed: int = 0
    api_key: Annotated[str, Field(min_length=1)] = "simulator"
    duration: Duration = Duration()
    failed_share: Share = 0.0
    stuck_share: Share = 0.0
    not_found_after_submit: Seconds = 0.0
    refuse_media_types: bool = True
    single_use_results: bool = False
    rates: RateLimits = RateLimits()
    retry_after: RetryAfter = RetryAfter()
    faults: Faults = Faults()
    webhooks: Webhooks = Webhooks()
    mindee: Mindee = Mindee()
    numind: NuMind = NuMind()
    unsiloed: Unsiloed = Unsiloed()

    def merged(self, patch: Mapping[str, Any]) -> Settings:
        """New settings with an RFC 7396 merge patch applied; null puts a default back.

        Raises:
            pydantic.ValidationError: The patch names something unknown or a value out of range.
        """
        return Settings.model_validate(_merge(self.model_dump(), patch))


def _merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in patch.items():
        before = merged.get(name)
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            merged[name] = _merge(before, value)
        else:
            merged[name] = value
    return merged
