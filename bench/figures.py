"""What a measurement says: rows of figures, and how they are taken together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from prefect_docjobs.simulator.stats import summary

Figures: TypeAlias = Mapping[str, float | str | None]
"""Values by name; a name ends in its unit where it has one."""

REQUESTS = "status requests/job"
MEAN = "mean delay, s"
P95 = "p95 delay, s"
REFUSED = "refused, %"
REAL_TIME = "1:1"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        part: Which measurement, `a` to `f`.
        case: What was measured under.
        way: Who did the work.
        figures: What came out.
        clock: `1:1`, or how many seconds of the simulated clock passed in one real second.
    """

    part: str
    case: str
    way: str
    figures: Figures = field(default_factory=dict)
    clock: str = REAL_TIME

    def number(self, name: str) -> float | None:
        """A figure that is a number; None when it was not measured."""
        value = self.figures.get(name)
        return value if isinstance(value, (int, float)) else None


def detection(requests: float, jobs: int, delays: Iterable[float]) -> dict[str, float | None]:
    """How many requests it took to learn of the ends of jobs, and how late that was.

    Args:
        requests: Status requests of all kinds.
        jobs: How many jobs there were.
        delays: Seconds from each job's end until somebody was told.
    """
    late = summary(delays)
    return {REQUESTS: requests / jobs, MEAN: late["mean"], P95: late["p95"]}


def medians(runs: Sequence[Figures]) -> dict[str, float | str | None]:
    """Of each figure the median over runs; texts and what was not measured are those of the first run."""
    return {name: _median([run.get(name) for run in runs]) for name in runs[0]}


def _median(values: Sequence[float | str | None]) -> float | str | None:
    numbers = [value for value in values if isinstance(value, (int, float))]
    return median(numbers) if len(numbers) == len(values) else values[0]


def find(rows: Iterable[Row], part: str, case: str, way: str) -> Row | None:
    """The row of this name, or None when it was not measured."""
    return next((row for row in rows if (row.part, row.case, row.way) == (part, case, way)), None)
