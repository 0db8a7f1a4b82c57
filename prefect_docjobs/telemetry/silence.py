"""What is told where nobody listens: nothing, at the price of a few calls that do nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from typing_extensions import Self

if TYPE_CHECKING:
    from prefect_docjobs.models import JobRef, Outcome, Phase, Usage


class Operation:
    """Something that takes its time; a context manager, for one use. This one is not measured."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        return None

    def job(self, ref: JobRef) -> None:
        """Name the job that it is about."""

    def note(self, name: str, value: bool | float) -> None:
        """Set an attribute; see `names`."""

    def ended(self, outcome: Outcome) -> None:
        """Tell what became of the document."""


_UNMEASURED = Operation()


class Telemetry:
    """Where it is told what happens to documents. This one tells nobody."""

    __slots__ = ()

    def document(self, provider: str, product: str, name: str) -> Operation:  # noqa: ARG002
        """One document, from the submit to its result or to the reason why there is none."""
        return _UNMEASURED

    def phase(self, phase: Phase, provider: str, product: str, ref: JobRef | None = None) -> Operation:  # noqa: ARG002
        """One phase of a document, or of the job `ref` that was submitted before."""
        return _UNMEASURED

    def request(self, kind: str, method: str, provider: str, base_url: str) -> Operation:  # noqa: ARG002
        """One HTTP request of a kind (`submit`, `status`, `result`)."""
        return _UNMEASURED

    def job_done(self, ref: JobRef, *, age: float, took: float | None) -> None:
        """Tell of a job that has succeeded.

        Args:
            ref: The job.
            age: Seconds from the submit until it was seen.
            took: Seconds from the submit to the end by the service's clock, where it tells.
        """

    def billed(self, ref: JobRef, usage: Usage) -> None:
        """Tell what a job cost; once."""


OFF = Telemetry()
"""Where nobody listens."""


def active() -> Telemetry:
    """Telemetry as this process exports it now; `OFF` where no provider is configured."""
    if "opentelemetry" not in sys.modules:  # whoever configures an exporter has imported it
        return OFF
    from prefect_docjobs.telemetry.exporting import configured

    return configured()
