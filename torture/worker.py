"""The process that is killed: it takes documents through all steps, and tells of each as it ends."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.documents import invoices, name_of
from bench.services import client, provider
from prefect_docjobs.extraction import OnUncertain, Terms, extract_many, reconcile
from prefect_docjobs.http import AccountLimits, Kind
from prefect_docjobs.ledger import Ledger
from prefect_docjobs.models import Document, Outcome
from torture.steps import STEPS, Trap


@dataclass(frozen=True)
class Work:
    """What a worker has to do.

    Attributes:
        service: Registry name.
        base_url: Of the simulator.
        ledger: Address.
        documents: How many invoices, numbered from 0.
        lease: Of the ledger, in seconds.
        step: Where to die; None for nowhere.
        nth: When this step is reached for the so manieth time.
        on_uncertain: As for `extract_documents`.
        in_flow: In a Prefect flow.
        stalls: How often the event loop stands still, for half a lease longer than one lease.
        submits_per_second: Never more; None for no limit.
        files: Folder with the documents; None: they are in memory.
    """

    service: str
    base_url: str
    ledger: str
    documents: int
    lease: float = 1.0
    step: str | None = None
    nth: int = 1
    on_uncertain: OnUncertain = "fail"
    in_flow: bool = False
    stalls: int = 0
    submits_per_second: float | None = None
    files: str | None = None

    def as_argument(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


def tell(**news: Any) -> None:
    """One line of JSON for the harness."""
    print(json.dumps(news), flush=True)


async def outcomes(work: Work) -> AsyncIterator[Outcome]:
    """Each document's outcome, from the pipeline itself."""
    terms = Terms(on_uncertain=work.on_uncertain)
    rates: dict[Kind, float] = {"submit": work.submits_per_second} if work.submits_per_second else {}
    async with (
        client(work.service, work.base_url, account_limits=AccountLimits(rates)) as http,
        Ledger(work.ledger, lease=work.lease) as ledger,
        aclosing(
            extract_many(
                provider(work.service), http, documents(work), terms=terms, ledger=ledger, timeout=120.0
            )
        ) as ended,
    ):
        tell(ready=True)
        stalling = asyncio.create_task(stall(work))
        async for _, outcome in ended:
            yield outcome
        stalling.cancel()


def documents(work: Work) -> Sequence[Document]:
    """The invoices, in memory or as files."""
    if work.files is None:
        return invoices(work.documents)
    return [Document.from_path(Path(work.files) / name_of(number)) for number in range(work.documents)]


async def stall(work: Work) -> None:
    """Block the event loop now and then, as a long computation of a user's does."""
    for _ in range(work.stalls):
        await asyncio.sleep(0.3)
        time.sleep(1.5 * work.lease)  # noqa: ASYNC251 (that is the point)


async def outcomes_of_a_flow(work: Work) -> AsyncIterator[Outcome]:
    """The same through a flow and a task, where the environment says which server and which ledger."""
    from torture.flow import batch

    tell(ready=True)
    for outcome in await batch(work):
        yield outcome


async def run(work: Work) -> None:
    """Tell of every document; the last line says that all have ended."""
    async for outcome in outcomes_of_a_flow(work) if work.in_flow else outcomes(work):
        result = outcome.result
        tell(
            document=outcome.document,
            reason=outcome.reason.value if outcome.reason else None,
            error=outcome.error,
            number=result.fields["invoice_number"].value if result else None,
            sha256=outcome.ref.document_sha256 if outcome.ref else None,
        )
    tell(ended=True)


def main(work: Work) -> None:
    """Lay the trap, then work. The waits of a reconciliation are short: this service lists a job at once."""
    reconcile.GRACE, reconcile.RECHECKS = 0.5, (0.2, 0.5)
    if work.step:
        STEPS[work.step](Trap(work.nth))
    asyncio.run(run(work))


if __name__ == "__main__":
    main(Work(**json.loads(sys.argv[1])))
