"""A dry run: what would be submitted, what is paid for already, and what the rest would cost."""

from __future__ import annotations

from collections.abc import Iterable

from prefect_docjobs.blocks.buying import REUSE_DAYS, terms_of, the_ledger
from prefect_docjobs.extraction import OnUncertain
from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.extraction.plan import Account, Plan, plan_many
from prefect_docjobs.models import Document
from prefect_docjobs.tasks.arguments import Job, the_documents, the_job
from prefect_docjobs.tasks.journal import run_log
from prefect_docjobs.tasks.names import counting
from prefect_docjobs.tasks.twins import docjobs_task, plain_twin


@docjobs_task("plan-documents", counting("plan", "documents", "document"))
async def aplan_documents(
    job: Job,
    documents: Iterable[Document],
    *,
    on_uncertain: OnUncertain = "fail",
    reuse_days: float | None = REUSE_DAYS,
    budget: float | None = None,
    max_documents: int | None = None,
    price_per_page: float | None = None,
) -> Plan:
    """Say what `extract_documents` would do now with the same arguments.

    Nothing is sent to the service and nothing is written into the ledger. Each document is read once.

    Args:
        job: A job block, or the name of a saved one.
        documents: What would be extracted from.
        on_uncertain: As for `extract_documents`; so are the others.
        reuse_days: Days during which a result is used again for the same content; 0 never, None for ever.
        budget: Pages that may be bought, or with `price_per_page` what they may cost.
        max_documents: Documents that may be bought.
        price_per_page: What a page costs, in any currency.

    Returns:
        What would become of each document, in the same order, with the pages and the cost in total.

    Raises:
        ConfigurationError: The job, a document or a limit is no such thing.
        LedgerUnavailable: The ledger cannot be read.
    """
    block, given = await the_job(job), the_documents(documents)
    limit = Budget(budget, documents=max_documents, price_per_page=price_per_page)
    terms = terms_of(block, on_uncertain, reuse_days, limit)
    account = Account(block.credentials.base_url, block.credentials.tenant_id)
    async with the_ledger() as ledger:
        plan = await plan_many(block.provider(), account, given, terms=terms, ledger=ledger)
    run_log().info("%s", plan)
    return plan


plan_documents = plain_twin(aplan_documents)
