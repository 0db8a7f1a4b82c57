"""Operations that are measured. Of an error its type and reason are told, never its text."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, StatusCode
from typing_extensions import Self

from prefect_docjobs.errors import DocJobsError, Throttled
from prefect_docjobs.telemetry import names
from prefect_docjobs.telemetry.silence import Operation

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.metrics import Counter, Histogram
    from opentelemetry.util.types import AttributeValue

    from prefect_docjobs.models import JobRef, Outcome

_log = logging.getLogger(__name__)
_ABANDONED = "abandoned"
"""The outcome of what nobody waits for any more: it was cancelled, or the process is ending."""

_P = ParamSpec("_P")


def quietly(tell: Callable[_P, None]) -> Callable[_P, None]:
    """Telling costs no document: what an exporter of the process raises is logged once."""
    is_logged = False

    @functools.wraps(tell)
    def guarded(*args: _P.args, **options: _P.kwargs) -> None:
        nonlocal is_logged
        try:
            tell(*args, **options)
        except Exception:  # noqa: BLE001 (processors, samplers and views are other people's)
            if not is_logged:
                is_logged = True
                _log.exception("Telemetry breaks in %s", tell.__qualname__)

    return guarded


def job_facts(ref: JobRef) -> dict[str, AttributeValue]:
    """Attributes of a job."""
    facts: dict[str, AttributeValue] = {names.JOB_ID: ref.job_id}
    if ref.document_size is not None:
        facts[names.DOCUMENT_SIZE] = ref.document_size
    return facts


class Spanned(Operation):
    """An operation with a span, which is the current one while the context is open.

    Args:
        tracer: Makes the span.
        name: Of the span.
        about: Its attributes.
        kind: CLIENT for a request.
    """

    __slots__ = ("_about", "_kind", "_name", "_span", "_token", "_tracer")
    _span: trace.Span
    _token: Token[Context]

    def __init__(
        self,
        tracer: trace.Tracer,
        name: str,
        about: dict[str, AttributeValue],
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._about = about
        self._kind = kind

    def __enter__(self) -> Self:
        self._begin()
        return self

    @quietly
    def _begin(self) -> None:
        self._span = self._tracer.start_span(self._name, kind=self._kind, attributes=self._about)
        self._token = context.attach(trace.set_span_in_context(self._span))

    @quietly
    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        context.detach(self._token)
        if isinstance(error, Exception):
            self._failed(self._type_of(error))
            if isinstance(error, DocJobsError):
                self._span.set_attribute(names.REASON, error.reason.value)
        elif error is not None:
            self._span.set_attribute(names.OUTCOME, _ABANDONED)
        self._span.end()

    def _type_of(self, error: Exception) -> str:
        return type(error).__name__

    def _failed(self, error_type: str) -> None:
        self._span.set_attribute(names.ERROR_TYPE, error_type)
        self._span.set_status(StatusCode.ERROR)

    @quietly
    def job(self, ref: JobRef) -> None:
        """See `Operation.job`."""
        self._span.set_attributes(job_facts(ref))

    @quietly
    def note(self, name: str, value: bool | float) -> None:
        """See `Operation.note`."""
        self._span.set_attribute(name, value)


class DocumentSpan(Spanned):
    """A document; how long it took is a metric, too.

    Args:
        tracer: Makes the span.
        about: Its attributes, some of which the metric has.
        duration: The metric.
    """

    __slots__ = ("_duration",)

    def __init__(self, tracer: trace.Tracer, about: dict[str, AttributeValue], duration: Histogram) -> None:
        super().__init__(tracer, names.DOCUMENT, about)
        self._duration = duration

    @quietly
    def ended(self, outcome: Outcome) -> None:
        """See `Operation.ended`."""
        facts: dict[str, AttributeValue] = {names.OUTCOME: "done" if outcome.ok else "failed"}
        if outcome.reason is not None:
            facts[names.REASON] = outcome.reason.value
            self._failed(outcome.reason.value)
        self._span.set_attributes({**facts, names.REUSED: outcome.reused})
        if outcome.ref is not None:
            self.job(outcome.ref)
        told = {name: self._about[name] for name in (names.PROVIDER, names.PRODUCT)}
        self._duration.record(outcome.seconds or 0.0, {**told, **facts})


class RequestSpan(Spanned):
    """A request that is no poll; named after its method, as its path has ids in it.

    Args:
        tracer: Makes the span.
        method: Of the request.
        about: Attributes of the span, some of which the metric has.
        throttled: Counts requests that were refused with HTTP 429.
    """

    __slots__ = ("_status", "_throttled")

    def __init__(
        self, tracer: trace.Tracer, method: str, about: dict[str, AttributeValue], throttled: Counter
    ) -> None:
        super().__init__(tracer, method, about, SpanKind.CLIENT)
        self._throttled = throttled
        self._status = 0.0

    @quietly
    def note(self, name: str, value: bool | float) -> None:
        """See `Operation.note`."""
        super().note(name, value)
        if name == names.STATUS:
            self._status = value

    @quietly
    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        super().__exit__(kind, error, traceback)
        if isinstance(error, Throttled):
            told = {name: self._about[name] for name in (names.PROVIDER, names.REQUEST_KIND)}
            self._throttled.add(1, told)

    def _type_of(self, error: Exception) -> str:
        return str(self._status) if self._status >= 400 else super()._type_of(error)


class Poll(Operation):
    """A status request: it is counted.

    Args:
        about: Attributes of the metrics.
        polls: Counts status requests.
        throttled: Counts requests that were refused with HTTP 429.
    """

    __slots__ = ("_about", "_polls", "_status", "_throttled")

    def __init__(self, about: dict[str, AttributeValue], polls: Counter, throttled: Counter) -> None:
        self._about = about
        self._polls = polls
        self._throttled = throttled
        self._status = 0.0

    @quietly
    def note(self, name: str, value: bool | float) -> None:
        """See `Operation.note`."""
        if name == names.STATUS:
            self._status = value

    @quietly
    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        facts: dict[str, AttributeValue] = {}
        if self._status:
            facts[names.STATUS] = self._status
        if error is not None:
            facts[names.ERROR_TYPE] = str(self._status) if self._status >= 400 else type(error).__name__
        self._polls.add(1, {**self._about, **facts})
        if isinstance(error, Throttled):
            self._throttled.add(1, {**self._about, names.REQUEST_KIND: "status"})
