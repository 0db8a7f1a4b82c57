"""Telling OpenTelemetry: a span for each document and phase, and for each request that is no poll.

Polls are counted and have no spans of their own: a long batch makes thousands, a sweep over a list of jobs
belongs to no document, and what one poll was like says little. The span of a wait has their number.

Trace context is not sent along: the services are other people's.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry import metrics, trace

from prefect_docjobs.telemetry import names
from prefect_docjobs.telemetry.instruments import Instruments
from prefect_docjobs.telemetry.operations import DocumentSpan, Poll, RequestSpan, Spanned, job_facts, quietly
from prefect_docjobs.telemetry.silence import OFF, Operation, Telemetry

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from prefect_docjobs.models import JobRef, Phase, Usage

_TRUE = frozenset({"1", "true", "yes", "on"})


def configured() -> Telemetry:
    """Telemetry of the process's providers; `OFF` where both are the API's own, which export nothing.

    `PREFECT_DOCJOBS_TELEMETRY_DOCUMENT_NAMES=true` has the names of documents told, too.
    """
    tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
    if _is_of_the_api(tracers) and _is_of_the_api(meters):
        return OFF
    wanted = os.environ.get("PREFECT_DOCJOBS_TELEMETRY_DOCUMENT_NAMES", "")
    return _exporting(tracers, meters, wanted.strip().lower() in _TRUE)


def _is_of_the_api(provider: object) -> bool:
    return type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


@lru_cache(maxsize=4)
def _exporting(
    tracers: trace.TracerProvider, meters: metrics.MeterProvider, document_names: bool
) -> Exporting:
    return Exporting(tracers, meters, document_names=document_names)


class Exporting(Telemetry):
    """Telemetry through a provider of spans and one of metrics.

    Args:
        tracers: Makes spans.
        meters: Makes metrics.
        document_names: Whether the names of documents are told: they may be personal data.
    """

    __slots__ = ("_instruments", "_names", "_tracer")

    def __init__(
        self, tracers: trace.TracerProvider, meters: metrics.MeterProvider, *, document_names: bool = False
    ) -> None:
        from prefect_docjobs import __version__

        self._tracer = tracers.get_tracer(names.SCOPE, __version__)
        self._instruments = Instruments(meters.get_meter(names.SCOPE, __version__))
        self._names = document_names

    def document(self, provider: str, product: str, name: str) -> Operation:
        """See `Telemetry.document`; a span, and its duration as a metric."""
        about: dict[str, AttributeValue] = {names.PROVIDER: provider, names.PRODUCT: product}
        if self._names:
            about[names.DOCUMENT_NAME] = name
        return DocumentSpan(self._tracer, about, self._instruments.document_duration)

    def phase(self, phase: Phase, provider: str, product: str, ref: JobRef | None = None) -> Operation:
        """See `Telemetry.phase`; a span."""
        about = {names.PROVIDER: provider, names.PRODUCT: product, **(job_facts(ref) if ref else {})}
        return Spanned(self._tracer, f"docjobs.{phase.value}", about)

    def request(self, kind: str, method: str, provider: str, base_url: str) -> Operation:
        """See `Telemetry.request`; a span, or for a poll a count."""
        about: dict[str, AttributeValue] = {names.PROVIDER: provider}
        throttled = self._instruments.throttled
        if kind == "status":
            return Poll(about, self._instruments.polls, throttled)
        about = {**about, names.REQUEST_KIND: kind, names.METHOD: method, **_server(base_url)}
        return RequestSpan(self._tracer, method, about, throttled)

    @quietly
    def job_done(self, ref: JobRef, *, age: float, took: float | None) -> None:
        """See `Telemetry.job_done`."""
        about = {names.PROVIDER: ref.provider, names.PRODUCT: ref.product}
        self._instruments.job_duration.record(age if took is None else took, about)
        if took is not None:
            self._instruments.detection_delay.record(max(0.0, age - took), about)

    @quietly
    def billed(self, ref: JobRef, usage: Usage) -> None:
        """See `Telemetry.billed`."""
        about = {names.PROVIDER: ref.provider, names.PRODUCT: ref.product}
        if usage.pages:
            self._instruments.pages.add(usage.pages, about)
        if usage.credits:
            self._instruments.credits.add(usage.credits, about)


@lru_cache(maxsize=64)
def _server(base_url: str) -> dict[str, AttributeValue]:
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {names.SERVER: parts.hostname or "", names.PORT: port}
