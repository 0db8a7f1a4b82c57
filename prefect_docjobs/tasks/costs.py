"""What a batch cost, in one line of the log."""

from __future__ import annotations

from collections.abc import Sequence

from prefect_docjobs.extraction.budget import Budget
from prefect_docjobs.models import Batch, Outcome, Phase
from prefect_docjobs.tasks.journal import Log
from prefect_docjobs.tasks.names import count


def log_costs(log: Log, batch: Batch, budget: Budget | None, *, is_shared: bool) -> None:
    """Say what a batch cost. What is counted in a shared budget is not this batch's alone."""
    price = budget.price_per_page if budget else None
    counted = budget.pages if budget and not is_shared else None
    log.info("%s", cost_line(batch, price_per_page=price, counted=counted))


def is_bought(outcome: Outcome) -> bool:
    """Whether this call bought the document's job.

    The failure of a submit may name a job: that of an earlier call, or of another worker.
    """
    was_sent = outcome.ok or outcome.phase is not Phase.SUBMIT
    return outcome.ref is not None and was_sent and not outcome.reused


def cost_line(batch: Batch, *, price_per_page: float | None = None, counted: int | None = None) -> str:
    """What was bought, what was there already, and what the service says of it.

    Args:
        batch: All its outcomes.
        price_per_page: What a page costs, where that is known.
        counted: Pages that were bought as they were counted before the submit; used where the service tells
            the pages of none.

    Returns:
        Such as `3 documents bought, 2 reused; 18 pages, 18 credits, 982 left; 0.9 at 0.05 a page`.
    """
    bought = [head for head in batch.heads if is_bought(head)]
    reused = sum(head.reused for head in batch.heads)
    parts = [f"{count(len(bought), 'document')} bought, {reused:,} reused"]
    if told := _told(bought):
        parts.append(told)
    if price_per_page is not None and (cost := _cost(bought, price_per_page, counted)):
        parts.append(cost)
    return "; ".join(parts)


def _told(bought: Sequence[Outcome]) -> str:
    """Pages, credits and the quota, as far as the service tells."""
    usages = [head.result.usage for head in bought if head.result is not None]
    pages = [usage.pages for usage in usages if usage.pages is not None]
    credits_ = [usage.credits for usage in usages if usage.credits is not None]
    left = [usage.quota_remaining for usage in usages if usage.quota_remaining is not None]
    parts = [
        count(sum(pages), "page") if pages else "",
        f"{sum(credits_):,g} credits" if credits_ else "",
        f"{min(left):,g} left" if left else "",  # it only falls while a batch goes on
    ]
    return ", ".join(part for part in parts if part)


def _cost(bought: Sequence[Outcome], price: float, counted: int | None) -> str:
    usages = [head.result.usage for head in bought if head.result is not None]
    told = [usage.pages for usage in usages if usage.pages is not None]
    if not told:
        return "" if counted is None else f"{counted * price:,g} at {price:,g} a page, as counted here"
    at_least = "at least " if len(told) < len(bought) else ""
    return f"{at_least}{sum(told) * price:,g} at {price:,g} a page"
