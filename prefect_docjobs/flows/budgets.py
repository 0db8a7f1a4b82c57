"""The budget of a flow run, which holds for all that the run buys, also after it was suspended or retried."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING

import anyio.to_thread
from prefect import runtime

from prefect_docjobs.blocks.buying import open_ledger
from prefect_docjobs.errors import InvalidDocument, Reason, Unavailable
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.extraction.options import Options
from prefect_docjobs.extraction.pages import pages_of
from prefect_docjobs.ledger import Record
from prefect_docjobs.models import Document

if TYPE_CHECKING:
    from prefect_docjobs.ledger import Ledger

_PAGE = 1000


async def budget_of_run(
    budget: float | None,
    price_per_page: float | None,
    documents: Iterable[Document] = (),
    *,
    max_submits: int | None = None,
    fetch: Callable[[str], Document | None] | None = None,
) -> Budget | None:
    """The budget of the flow run that is going on; what it has bought already, by its ledger, is spent.

    Args:
        budget: As for `Budget`.
        price_per_page: What a page costs.
        documents: Those of the run, to count the pages of what is spent as they were counted before.
        max_submits: Documents that may be submitted.
        fetch: Gets a document by its name, in a thread, where it is none of `documents` and nobody knows its
            pages.
    """
    options = Options(budget=budget, max_submits=max_submits, price_per_page=price_per_page)
    limit = options.spending()
    if limit is None or (budget is None and max_submits is None):
        return limit
    named = {document.name: document for document in documents}
    async with open_ledger() as ledger:
        if not ledger.in_memory:
            async for record in _bought(ledger, str(runtime.flow_run.id)):
                document = named.get(record.document_name)
                if document is None and record.pages is None and fetch is not None:
                    document = await anyio.to_thread.run_sync(fetch, record.document_name)
                limit.charge(await _pages(record, document))
    return limit


async def _bought(ledger: Ledger, flow_run_id: str) -> AsyncIterator[Record]:
    """What a flow run has bought, or may have."""
    last = 0
    while page := await ledger.find(flow_run_id=flow_run_id, limit=_PAGE, after_id=last):
        last = page[-1].id
        for record in page:
            if record.job_id is not None or record.state.is_open or record.reason is Reason.UNCERTAIN:
                yield record


async def _pages(record: Record, document: Document | None) -> int:
    try:
        return (await pages_of(document)).number if document else record.pages or 1
    except (InvalidDocument, Unavailable):  # it is gone, or cannot be read now
        return record.pages or 1
