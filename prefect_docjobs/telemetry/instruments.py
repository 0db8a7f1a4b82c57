"""The metrics: one object with an instrument for each."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from prefect_docjobs.telemetry import names

_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_DELAYS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)


class Instruments:
    """All metrics of a meter. A boundary of a histogram is a piece of advice: views may have others."""

    __slots__ = (
        "credits",
        "detection_delay",
        "document_duration",
        "job_duration",
        "pages",
        "polls",
        "throttled",
    )

    def __init__(self, meter: Meter) -> None:
        self.document_duration = meter.create_histogram(
            names.DOCUMENT_DURATION,
            "s",
            "From the start of the submit to the result, or to the reason why there is none.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.job_duration = meter.create_histogram(
            names.JOB_DURATION,
            "s",
            "From the submit to the end of a job that has succeeded.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.detection_delay = meter.create_histogram(
            names.DETECTION_DELAY,
            "s",
            "From the end of a job, where the service tells it, until it was seen.",
            explicit_bucket_boundaries_advisory=_DELAYS,
        )
        self.polls = meter.create_counter(names.POLLS, "{request}", "Status requests, and pages of a list.")
        self.throttled = meter.create_counter(
            names.THROTTLED, "{request}", "Requests that were refused because there were too many (HTTP 429)."
        )
        self.pages = meter.create_counter(names.PAGES, "{page}", "Pages that the service has billed.")
        self.credits = meter.create_counter(names.CREDITS, "{credit}", "Credits that the service has billed.")
