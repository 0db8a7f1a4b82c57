"""Unsiloed's answers and requests as tests write and read them."""

from __future__ import annotations

from typing import Any

from support import wire
from support.wire import Handler, ref_of

from prefect_docjobs.http import Http
from prefect_docjobs.models import JobRef
from prefect_docjobs.providers.unsiloed import Unsiloed

KEY = "un_test_123"
JOB_ID = "b2094b38-e432-44b6-a5d0-67bed07d5de1"
SCHEMA = {"type": "object", "properties": {"supplier": {"type": "string"}}}


def job(product: str = "extract", **settings: Any) -> Unsiloed:
    """A job block's provider with the least that its product needs."""
    needed: dict[str, dict[str, Any]] = {
        "extract": {"schema_data": SCHEMA},
        "parse": {},
        "classify": {"categories": ["invoice", "contract"]},
        "split": {"categories": ["invoice", "contract"]},
    }
    return Unsiloed(**{"product": product, **needed[product], **settings})


def ref(product: str = "extract", **changes: Any) -> JobRef:
    """The job of the examples."""
    facts = {"product": product, "job_id": JOB_ID, "document_sha256": "ab" * 32, **changes}
    return ref_of(Unsiloed, **facts)


def client(handler: Handler) -> Http:
    """The real client, answered by a function; pauses take no time."""
    return wire.client(Unsiloed, handler, key=KEY)
