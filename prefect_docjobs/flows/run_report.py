"""What is kept of a run's documents to be shown: sums, and tables of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from prefect_docjobs.flows.dead_letters import DeadLetter
from prefect_docjobs.flows.report import FailureTally, Tally
from prefect_docjobs.flows.tables import FailureTable, ResultTable
from prefect_docjobs.models import Batch


@dataclass
class RunReport:
    """The sums and tables of one run, filled as its chunks end.

    Attributes:
        price_per_page: What a page costs, in any currency; None where that is not known.
    """

    price_per_page: float | None = None
    tally: Tally = field(init=False)
    table: ResultTable = field(init=False)
    failure_tally: FailureTally = field(default_factory=FailureTally)
    failure_table: FailureTable = field(default_factory=FailureTable)

    def __post_init__(self) -> None:
        self.tally = Tally(price_per_page=self.price_per_page)
        self.table = ResultTable(self.price_per_page)

    def add(self, first: int, batch: Batch, letters: Sequence[DeadLetter]) -> None:
        """Add a chunk that has ended, with the dead letters of those that failed.

        Args:
            first: The number of its first document in the run.
            batch: The outcomes.
            letters: In the order of the outcomes.
        """
        self.tally.add(batch)
        self.table.add(first, batch)
        self.add_failures(first, letters)

    def add_failures(self, first: int, letters: Sequence[DeadLetter]) -> None:
        """Show documents without a result that are no part of the run's sums."""
        self.failure_tally.add(letters)
        self.failure_table.add(first, letters)
