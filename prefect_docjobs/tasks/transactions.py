"""Prefect's transactions: when one is rolled back, the jobs that its tasks bought are given up."""

from __future__ import annotations

from typing import Any

from prefect.transactions import BaseTransaction

from prefect_docjobs.blocks.buying import BUYER, the_ledger
from prefect_docjobs.tasks.giving_up import GivingUp, running_records
from prefect_docjobs.tasks.journal import run_log
from prefect_docjobs.tasks.names import count

_NONE: dict[str, Any] = {}


async def cancel_bought_jobs(transaction: BaseTransaction) -> None:
    """A rollback hook for tasks that submit; it never raises.

    The tasks of this package that submit have it. A task of your own that calls `job.trigger` gets it with
    `my_task.on_rollback(cancel_bought_jobs)`.

    Jobs that this task run bought, and that have not ended, are cancelled where the service can, so that
    another run submits their documents again. Where it cannot they run to their end and are billed, which is
    noted in the ledger; another run takes them up. Results that are there stay: they are paid for.

    Args:
        transaction: The task run's own; Prefect gives it.
    """
    log, buyer = run_log(), transaction.get(BUYER, _NONE)
    if not buyer:
        return
    try:
        async with the_ledger() as ledger:
            if ledger is None:
                log.warning("There is no ledger, so the jobs that are rolled back are not known; they go on.")
                return
            running = await running_records(ledger, buyer["flow_run_id"])
            bought = [record for record in running if record.task_run_id == buyer["task_run_id"]]
            fates = await GivingUp(ledger, "The transaction was rolled back.", log).all(bought)
            for fate, number in fates.most_common():
                log.info("Rolled back: %s %s", count(number, "job"), fate)
    except Exception:  # the rollback of the other tasks goes on
        log.exception("What becomes of the jobs that are rolled back is not known.")
