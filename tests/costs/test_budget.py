"""A submit that would pass the budget is not made; what is paid for costs nothing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pypdf
import pytest
from support.services import Connected, connected, invoice

from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.extraction import Terms, submit_many
from prefect_docjobs.extraction.budget import Budget, OverBudget
from prefect_docjobs.extraction.options import Options
from prefect_docjobs.ledger import Ledger
from prefect_docjobs.models import Document, Outcome


def document(pages: int, *, number: int = 0) -> Document:
    """A PDF of blank pages, different for each number."""
    writer = pypdf.PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(100 + number, 100)
    out = io.BytesIO()
    writer.write(out)
    return Document.from_bytes(out.getvalue(), name=f"{number}-of-{pages}.pdf")


async def submit(
    service: Connected, documents: Sequence[Document], ledger: Ledger | None = None, **terms: Any
) -> list[Outcome]:
    outcomes = submit_many(service.provider, service.http, documents, terms=Terms(**terms), ledger=ledger)
    by_index = {index: outcome async for index, outcome in outcomes}
    return [by_index[index] for index in range(len(documents))]


def reasons(outcomes: Sequence[Outcome]) -> list[Reason | None]:
    return [outcome.reason for outcome in outcomes]


def submits(service: Connected) -> int:
    return sum(request.method == "POST" for request in service.requests)


async def spend(budget: Budget, *pages: int) -> list[bool]:
    """Which documents of so many pages are taken."""
    return [await fits(budget, document(each, number=number)) for number, each in enumerate(pages)]


async def fits(budget: Budget, document: Document) -> bool:
    try:
        await budget.take(document)
    except OverBudget:
        return False
    return True


class TestWhatIsCounted:
    async def test_pages_where_no_price_is_known(self) -> None:
        assert await spend(Budget(5), 3, 3, 2, 1) == [True, False, True, False]

    async def test_money_where_there_is_a_price(self) -> None:
        budget = Budget(0.5, price_per_page=0.1)
        assert await spend(budget, 3, 3, 2, 1) == [True, False, True, False]
        assert (budget.pages, budget.bought, budget.cost) == (5, 2, 0.5)

    async def test_a_budget_is_used_up_to_its_end_whatever_binary_fractions_add_up_to(self) -> None:
        assert all(await spend(Budget(1.0, price_per_page=0.1), *[1] * 10))

    async def test_documents(self) -> None:
        assert await spend(Budget(max_submits=2), 9, 9, 1) == [True, True, False]

    async def test_what_is_given_back_can_be_spent_again(self) -> None:
        budget = Budget(3, max_submits=1)
        pages = await budget.take(document(3))
        budget.give_back(pages)
        assert await spend(budget, 3) == [True]

    async def test_a_document_is_not_opened_when_nothing_is_left(self, tmp_path: Path) -> None:
        with pytest.raises(OverBudget, match=r"1 page would pass the budget: 0 of 0 pages"):
            await Budget(0).take(Document.from_path(tmp_path / "not-there.pdf"))

    async def test_the_message_tells_what_it_would_cost_and_what_is_spent(self) -> None:
        budget = Budget(0.5, price_per_page=0.1)
        await budget.take(document(4))
        with pytest.raises(OverBudget, match=r"2 pages for 0\.2 would pass the budget: 0\.4 of 0\.5 is"):
            await budget.take(document(2))


class TestWhatIsRefused:
    @pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf")])
    @pytest.mark.parametrize("name", ["most", "max_submits", "price_per_page"])
    def test_a_limit_that_is_none(self, name: str, wrong: float) -> None:
        with pytest.raises(ConfigurationError, match="not negative"):
            Budget(**{name: wrong})  # type: ignore[arg-type]

    def test_a_shared_budget_beside_limits_of_the_call(self) -> None:
        with pytest.raises(ConfigurationError, match="Give max_submits and price_per_page to the Budget"):
            Options(budget=Budget(5), max_submits=3).spending()

    def test_nothing_given_is_no_budget(self) -> None:
        assert Options().spending() is None


async def test_the_submit_that_would_pass_the_budget_is_not_made(tmp_path: Path) -> None:
    async with connected("mindee") as service, Ledger(str(tmp_path / "l.db")) as ledger:
        documents = [invoice(number) for number in range(20)]
        outcomes = await submit(service, documents, ledger, budget=Budget(7))
        assert reasons(outcomes).count(Reason.BUDGET) == 13
        assert submits(service) == 7
        assert all(outcome.ref is None for outcome in outcomes if not outcome.ok)


async def test_documents_are_bought_in_the_order_in_which_they_are_given(tmp_path: Path) -> None:
    async with connected("mindee") as service, Ledger(str(tmp_path / "l.db")) as ledger:
        outcomes = await submit(service, [invoice(n) for n in range(60)], ledger, budget=Budget(30))
        bought = [index for index, outcome in enumerate(outcomes) if outcome.ok]
        assert bought == list(range(30))


async def test_a_later_run_buys_the_rest_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    async with connected("mindee") as service, Ledger(str(tmp_path / "l.db")) as ledger:
        documents = [invoice(number) for number in range(10)]
        known = []
        for _ in range(4):
            outcomes = await submit(service, documents, ledger, budget=Budget(max_submits=3))
            known.append(sum(outcome.ok for outcome in outcomes))
        assert known == [3, 6, 9, 10]
        assert submits(service) == 10


async def test_what_is_paid_for_costs_nothing(tmp_path: Path) -> None:
    async with connected("mindee") as service, Ledger(str(tmp_path / "l.db")) as ledger:
        documents = [invoice(number) for number in range(3)]
        await submit(service, documents, ledger)
        budget = Budget(0)
        outcomes = await submit(service, documents, ledger, budget=budget)
        assert reasons(outcomes) == [None] * 3
        assert budget.bought == 0


async def test_a_submit_that_is_refused_costs_nothing() -> None:
    async with connected("numind", numind={"quota": 0}) as service:
        budget = Budget(5)
        assert not (await submit(service, [invoice(1)], budget=budget))[0].ok
        assert submits(service) == 1
        assert budget.pages == 0


async def test_a_submit_whose_answer_is_lost_stays_spent() -> None:
    lost = {"submit": {"lost": 1.0}}
    async with connected("mindee", faults=lost) as service:
        budget = Budget(5)
        assert reasons(await submit(service, [invoice(1)], budget=budget)) == [Reason.UNCERTAIN]
        assert budget.pages == 1
