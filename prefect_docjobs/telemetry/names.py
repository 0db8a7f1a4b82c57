"""The names of spans, metrics and attributes, as OpenTelemetry's conventions have or would have them."""

from __future__ import annotations

from typing import Final

SCOPE: Final = "prefect_docjobs"
"""Of all spans and metrics."""

# -- spans; a phase is `docjobs.<phase>`, a request is named after its method

DOCUMENT: Final = "docjobs.document"

# -- metrics

DOCUMENT_DURATION: Final = "docjobs.document.duration"
JOB_DURATION: Final = "docjobs.job.duration"
DETECTION_DELAY: Final = "docjobs.job.detection_delay"
POLLS: Final = "docjobs.poll.count"
THROTTLED: Final = "docjobs.throttled.count"
PAGES: Final = "docjobs.page.count"
CREDITS: Final = "docjobs.credit.count"

# -- attributes; the number of polls of one job has the name of the metric

PROVIDER: Final = "docjobs.provider"
PRODUCT: Final = "docjobs.product"
JOB_ID: Final = "docjobs.job.id"
REUSED: Final = "docjobs.reused"
OUTCOME: Final = "docjobs.outcome"
REASON: Final = "docjobs.reason"
REQUEST_KIND: Final = "docjobs.request.kind"
DOCUMENT_NAME: Final = "docjobs.document.name"
DOCUMENT_SIZE: Final = "docjobs.document.size"
ERROR_TYPE: Final = "error.type"
METHOD: Final = "http.request.method"
STATUS: Final = "http.response.status_code"
SERVER: Final = "server.address"
PORT: Final = "server.port"
