"""OpenTelemetry: spans and metrics of documents, wherever this process exports them.

A document and each of its phases is a span, and each request that is no poll. Polls are counted and have no
spans of their own: a long batch makes thousands, and what one poll was like says little. The span of a wait
has their number. Names are closed: never an error's text, a field, an address or a header, and the name of a
document only with `PREFECT_DOCJOBS_TELEMETRY_DOCUMENT_NAMES=true`. Trace context is not sent along: the
services are other people's.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import ParamSpec
from urllib.parse import urlsplit

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue
from typing_extensions import Self

from prefect_docjobs.errors import DocJobsError, Throttled
from prefect_docjobs.models import JobRef, Outcome, Phase, Usage

SCOPE = "prefect_docjobs"
"""Of all spans and metrics."""

DOCUMENT = "docjobs.document"
"""The span of a document; that of a phase is `docjobs.<phase>`, a request is named after its method."""

# Metrics.
DOCUMENT_DURATION = "docjobs.document.duration"
JOB_DURATION = "docjobs.job.duration"
DETECTION_DELAY = "docjobs.job.detection_delay"
POLLS = "docjobs.poll.count"
THROTTLED = "docjobs.throttled.count"
PAGES = "docjobs.page.count"
CREDITS = "docjobs.credit.count"

# Attributes; the number of polls of one job has the name of the metric.
PROVIDER = "docjobs.provider"
PRODUCT = "docjobs.product"
JOB_ID = "docjobs.job.id"
REUSED = "docjobs.reused"
OUTCOME = "docjobs.outcome"
REASON = "docjobs.reason"
REQUEST_KIND = "docjobs.request.kind"
DOCUMENT_NAME = "docjobs.document.name"
DOCUMENT_SIZE = "docjobs.document.size"
ERROR_TYPE = "error.type"
METHOD = "http.request.method"
STATUS = "http.response.status_code"
SERVER = "server.address"
PORT = "server.port"

_ABANDONED = "abandoned"  # the outcome of what was cancelled, or ends with its process
_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_DELAYS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
_TRUE = frozenset({"1", "true", "yes", "on"})

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_Attributes = dict[str, AttributeValue]


def _guarded(report: Callable[_P, None]) -> Callable[_P, None]:
    """Telemetry costs no document: what an exporter of the process raises is logged once."""
    is_logged = False

    @functools.wraps(report)
    def guarded(*args: _P.args, **options: _P.kwargs) -> None:
        nonlocal is_logged
        try:
            report(*args, **options)
        except Exception:  # noqa: BLE001 (processors, samplers and views are other people's)
            if not is_logged:
                is_logged = True
                _log.exception("Telemetry breaks in %s", report.__qualname__)

    return guarded


class Operation:
    """What takes its time: a span, the current one while the context is open. For one use.

    Args:
        tracer: Makes the span; None where the operation is only counted.
        name: Of the span.
        about: Its attributes.
        kind: CLIENT for a request.
        on_end: Called at the end with the HTTP status, 0 where none was noted, and the error.
    """

    __slots__ = ("_about", "_kind", "_name", "_on_end", "_span", "_status", "_token", "_tracer")

    def __init__(
        self,
        tracer: trace.Tracer | None,
        name: str,
        about: _Attributes,
        kind: SpanKind = SpanKind.INTERNAL,
        on_end: Callable[[int, BaseException | None], None] | None = None,
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._about = about
        self._kind = kind
        self._on_end = on_end
        self._span: Span = trace.INVALID_SPAN
        self._token: Token[Context] | None = None
        self._status = 0

    def __enter__(self) -> Self:
        if self._tracer is not None:
            self._begin(self._tracer)
        return self

    @_guarded
    def _begin(self, tracer: trace.Tracer) -> None:
        self._span = tracer.start_span(self._name, kind=self._kind, attributes=self._about)
        if self._span.get_span_context().is_valid:  # invalid where no provider is configured
            self._token = context.attach(trace.set_span_in_context(self._span))

    @_guarded
    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._token is not None:
            context.detach(self._token)
        if isinstance(error, Exception):
            self._failed(str(self._status) if self._status >= 400 else type(error).__name__)
            if isinstance(error, DocJobsError):
                self._span.set_attribute(REASON, error.reason.value)
        elif error is not None:
            self._span.set_attribute(OUTCOME, _ABANDONED)
        self._span.end()
        if self._on_end is not None:
            self._on_end(self._status, error)

    def _failed(self, error_type: str) -> None:
        self._span.set_attribute(ERROR_TYPE, error_type)
        self._span.set_status(StatusCode.ERROR)

    @_guarded
    def job(self, ref: JobRef) -> None:
        """Name the job that it is about."""
        self._span.set_attributes(_job(ref))

    @_guarded
    def note(self, name: str, value: bool | float) -> None:
        """Set an attribute."""
        if name == STATUS:
            self._status = int(value)
        self._span.set_attribute(name, value)

    @_guarded
    def ended(self, outcome: Outcome) -> None:
        """Say what became of a document."""
        self._span.set_attributes({**_ending(outcome), REUSED: outcome.reused})
        if outcome.reason is not None:
            self._failed(outcome.reason.value)
        if outcome.ref is not None:
            self.job(outcome.ref)


class Telemetry:
    """Spans and metrics through the providers of this process, or through others.

    Args:
        tracers: Makes spans.
        meters: Makes metrics.
        document_names: Whether spans have the names of documents: they may be personal data.
    """

    def __init__(
        self, tracers: trace.TracerProvider, meters: metrics.MeterProvider, *, document_names: bool = False
    ) -> None:
        from prefect_docjobs import __version__

        self._document_names = document_names
        self._tracer = tracers.get_tracer(SCOPE, __version__)
        meter = meters.get_meter(SCOPE, __version__)
        # A boundary of a histogram is advice: views may have others.
        self._document_duration = meter.create_histogram(
            DOCUMENT_DURATION,
            "s",
            "From the start of the submit to the result, or to the reason why there is none.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._job_duration = meter.create_histogram(
            JOB_DURATION,
            "s",
            "From the submit to the end of a job that has succeeded.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._detection_delay = meter.create_histogram(
            DETECTION_DELAY,
            "s",
            "From the end of a job, where the service reports it, until it was seen.",
            explicit_bucket_boundaries_advisory=_DELAYS,
        )
        self._polls = meter.create_counter(POLLS, "{request}", "Status requests, and pages of a list.")
        self._throttled = meter.create_counter(
            THROTTLED,
            "{request}",
            "Requests that were refused because there were too many (HTTP 429).",
        )
        self._pages = meter.create_counter(PAGES, "{page}", "Pages that the service has billed.")
        self._credits = meter.create_counter(CREDITS, "{credit}", "Credits that the service has billed.")

    def document(self, provider: str, product: str, name: str) -> Operation:
        """One document, from the submit to its result or to the reason why there is none."""
        about: _Attributes = {PROVIDER: provider, PRODUCT: product}
        return Operation(
            self._tracer, DOCUMENT, {**about, DOCUMENT_NAME: name} if self._document_names else about
        )

    def phase(self, phase: Phase, provider: str, product: str, ref: JobRef | None = None) -> Operation:
        """One phase of a document, or of the job `ref` that was submitted before."""
        about = {PROVIDER: provider, PRODUCT: product, **(_job(ref) if ref else {})}
        return Operation(self._tracer, f"docjobs.{phase.value}", about)

    def request(self, kind: str, method: str, provider: str, base_url: str) -> Operation:
        """One HTTP request of a kind (`submit`, `status`, `result`); a poll is only counted."""
        about: _Attributes = {PROVIDER: provider, REQUEST_KIND: kind}

        def count(status: int, error: BaseException | None) -> None:
            if isinstance(error, Throttled):
                self._throttled.add(1, about)
            if kind == "status":
                seen: _Attributes = {PROVIDER: provider}
                if status:
                    seen[STATUS] = status
                if error is not None:
                    seen[ERROR_TYPE] = str(status) if status >= 400 else type(error).__name__
                self._polls.add(1, seen)

        if kind == "status":
            return Operation(None, method, about, on_end=count)
        about_it = {**about, METHOD: method, **_server(base_url)}
        return Operation(self._tracer, method, about_it, SpanKind.CLIENT, count)

    @_guarded
    def document_done(self, provider: str, product: str, outcome: Outcome) -> None:
        """Measure how long a document took."""
        about: _Attributes = {PROVIDER: provider, PRODUCT: product, **_ending(outcome)}
        self._document_duration.record(outcome.seconds or 0.0, about)

    @_guarded
    def job_done(self, ref: JobRef, *, age: float, took: float | None) -> None:
        """Measure a job that has succeeded.

        Args:
            ref: The job.
            age: Seconds from the submit until it was seen.
            took: Seconds from the submit to the end by the service's clock, where it reports them.
        """
        about = {PROVIDER: ref.provider, PRODUCT: ref.product}
        self._job_duration.record(age if took is None else took, about)
        if took is not None:
            self._detection_delay.record(max(0.0, age - took), about)

    @_guarded
    def billed(self, ref: JobRef, usage: Usage) -> None:
        """Count what a job cost; once."""
        about = {PROVIDER: ref.provider, PRODUCT: ref.product}
        if usage.pages:
            self._pages.add(usage.pages, about)
        if usage.credits:
            self._credits.add(usage.credits, about)


def active() -> Telemetry:
    """Telemetry through this process's providers, as they are now."""
    wanted = os.environ.get("PREFECT_DOCJOBS_TELEMETRY_DOCUMENT_NAMES", "").strip().lower() in _TRUE
    return _telemetry(trace.get_tracer_provider(), metrics.get_meter_provider(), wanted)


@functools.lru_cache(maxsize=4)
def _telemetry(
    tracers: trace.TracerProvider, meters: metrics.MeterProvider, document_names: bool
) -> Telemetry:
    return Telemetry(tracers, meters, document_names=document_names)


def _job(ref: JobRef) -> _Attributes:
    size: _Attributes = {} if ref.document_size is None else {DOCUMENT_SIZE: ref.document_size}
    return {JOB_ID: ref.job_id, **size}


def _ending(outcome: Outcome) -> _Attributes:
    reason: _Attributes = {} if outcome.reason is None else {REASON: outcome.reason.value}
    return {OUTCOME: "done" if outcome.ok else "failed", **reason}


@functools.lru_cache(maxsize=64)
def _server(base_url: str) -> Mapping[str, AttributeValue]:
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {SERVER: parts.hostname or "", PORT: port}
