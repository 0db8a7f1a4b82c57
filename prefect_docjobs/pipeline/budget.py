"""What a run may cost: the submit that would pass it is not made."""

from __future__ import annotations

from prefect_docjobs.errors import DocJobsError, Reason
from prefect_docjobs.models import Document


class OverBudget(DocJobsError):
    """The submit would cost more than is left. Nothing was sent."""

    reason = Reason.BUDGET


class Budget:
    """What may be spent, by all submits that share this object.

    Args:
        documents: Documents that may be bought; None for no limit.
    """

    def __init__(self, documents: int | None = None) -> None:
        self._left = float("inf") if documents is None else float(documents)

    async def take(self, document: Document) -> float:
        """Take what a document costs, and return it.

        Raises:
            OverBudget: It is more than is left.
        """
        if self._left < 1.0:
            raise OverBudget("No more documents may be bought in this run.").about(document.name)
        self._left -= 1.0
        return 1.0

    def give_back(self, cost: float) -> None:
        """Return what was taken for a document that was not bought."""
        self._left += cost
