"""What can go wrong between a load and its destination."""

from __future__ import annotations

from prefect_docjobs.errors import DocJobsError, Reason


class DestinationUnavailable(DocJobsError):
    """The destination cannot be reached, read or written, or others hold it. Nothing is half written."""

    reason = Reason.UNAVAILABLE
