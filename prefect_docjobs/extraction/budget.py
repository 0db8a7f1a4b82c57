"""What a run may cost: the submit that would pass it is not made."""

from __future__ import annotations

import asyncio
import math

from prefect_docjobs.errors import ConfigurationError, DocJobsError, Reason
from prefect_docjobs.extraction.pages import Pages, pages_of
from prefect_docjobs.models import Document


class OverBudget(DocJobsError):
    """The submit would cost more than is left. Nothing was sent."""

    reason = Reason.BUDGET


class Budget:
    """What may be spent, by all submits that share this object on one event loop.

    Documents are counted one after the other, in the order in which they come to be submitted. A document
    that does not fit is refused; a smaller one that comes later may still fit.

    Args:
        most: Pages that may be bought, or with `price_per_page` what they may cost; None for no limit.
        max_submits: Documents that may be submitted; None for no limit.
        price_per_page: What a page costs, in any currency; None where that is not known.

    Raises:
        ConfigurationError: A number is not finite, or negative.
    """

    def __init__(
        self,
        most: float | None = None,
        *,
        max_submits: int | None = None,
        price_per_page: float | None = None,
    ) -> None:
        given = {"budget": most, "max_submits": max_submits, "price_per_page": price_per_page}
        for name, number in given.items():
            if number is not None and not (math.isfinite(number) and number >= 0):
                raise ConfigurationError(f"{name} must be a number that is not negative, not {number}.")
        self.most = most
        self.max_submits = max_submits
        self.price_per_page = price_per_page
        self._pages = 0
        self._bought = 0
        self._counting = asyncio.Lock()

    @property
    def pages(self) -> int:
        """Pages that were bought, as they were counted here; a page that nobody can count is in it."""
        return self._pages

    @property
    def bought(self) -> int:
        """Documents that were bought."""
        return self._bought

    @property
    def cost(self) -> float | None:
        """What was spent; None without a price."""
        return None if self.price_per_page is None else self._pages * self.price_per_page

    async def take(self, document: Document) -> Pages:
        """Take what a document costs, and return its pages.

        Raises:
            OverBudget: It is more than is left.
            InvalidDocument: It cannot be read.
        """
        async with self._counting:
            self._check(Pages(), document)  # without a look at documents for which nothing is left
            pages = await pages_of(document)
            self._check(pages, document)
            self._pages += pages.number
            self._bought += 1
            return pages

    def charge(self, pages: int) -> None:
        """Count a document that was bought on this budget before, by a run that is going on again."""
        self._pages += pages
        self._bought += 1

    def give_back(self, pages: Pages) -> None:
        """Return what was taken for a document that was not bought."""
        self._pages -= pages.number
        self._bought -= 1

    def _check(self, pages: Pages, document: Document) -> None:
        if self.max_submits is not None and self._bought >= self.max_submits:
            raise OverBudget(f"max_submits={self.max_submits:,} are made.").about(document.name)
        if self.most is None:
            return
        each = 1.0 if self.price_per_page is None else self.price_per_page
        after = (self._pages + pages.number) * each
        if after > self.most and not math.isclose(after, self.most):  # ten times 0.1 are no more than 1
            raise OverBudget(self._told(pages)).about(document.name)

    def _told(self, pages: Pages) -> str:
        few = "1 page" if pages.number == 1 else f"{pages.number:,} pages"
        if self.price_per_page is None:
            return f"{few} would pass the budget: {self._pages:,} of {self.most:,g} pages are bought."
        cost, spent = pages.number * self.price_per_page, self._pages * self.price_per_page
        return f"{few} for {cost:,g} would pass the budget: {spent:,g} of {self.most:,g} is spent."
