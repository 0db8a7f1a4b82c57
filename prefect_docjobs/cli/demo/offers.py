"""Which documents go to which service."""

from __future__ import annotations

from prefect_docjobs.models import Document
from prefect_docjobs.providers import Provider

_UNTYPED = "application/octet-stream"


def takes(service: type[Provider], document: Document) -> bool:
    """Whether the service documents that it takes such a document; one of an unknown type is tried."""
    accepted = service.capabilities.media_types
    return accepted is None or document.media_type in {*accepted, _UNTYPED}
