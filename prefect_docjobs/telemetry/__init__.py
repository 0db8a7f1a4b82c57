"""OpenTelemetry: spans and metrics of documents, wherever this process exports them.

Nothing is measured, and `opentelemetry` is not even imported, unless the process has configured a provider.
What is told is closed: names, numbers and words of ours, ids of jobs. Never an error's text, a field, an
address or a header, and the name of a document only where that is asked for.
"""

from __future__ import annotations

from prefect_docjobs.telemetry import names
from prefect_docjobs.telemetry.silence import OFF, Operation, Telemetry, active

__all__ = ["OFF", "Operation", "Telemetry", "active", "names"]
