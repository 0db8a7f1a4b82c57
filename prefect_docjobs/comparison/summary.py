"""How services did on the same documents."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect_docjobs.comparison.comparing import FieldComparison
from prefect_docjobs.comparison.consensus import MAJORITY, VotingRule
from prefect_docjobs.models import Outcome
from prefect_docjobs.models.percentiles import percentile


@dataclass
class ServiceTally:
    """The sums of one service.

    Attributes:
        documents: That it was given.
        delivered: Results.
        reasons: How many documents failed why.
        fields: Values that it found.
        votes: Of those, how many are in fields that other services found something for, and a value won.
        agreeing: Of those, how many are the value that won.
        seconds: Per delivered document that was not paid for before.
        pages: As the service counts them.
        credits: As the service counts them.
        told_pages: Whether it told of pages at all.
        told_credits: Whether it told of credits at all.
    """

    documents: int = 0
    delivered: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    fields: int = 0
    votes: int = 0
    agreeing: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))
    pages: int = 0
    credits: float = 0.0
    told_pages: bool = False
    told_credits: bool = False

    def add(self, outcome: Outcome) -> None:
        """Count one document."""
        self.documents += 1
        if outcome.result is None:
            reason = str(outcome.reason or "nothing")
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
            return
        self.delivered += 1
        if outcome.seconds is not None and not outcome.reused:
            self.seconds.append(outcome.seconds)
        usage = outcome.result.usage
        self.pages += usage.pages or 0
        self.credits += usage.credits or 0.0
        self.told_pages |= usage.pages is not None
        self.told_credits |= usage.credits is not None

    def row(self) -> dict[str, Any]:
        """Plain JSON: what is counted, shares from 0 to 1, None for what is not known."""
        return {
            "documents": self.documents,
            "delivered": self.delivered,
            "reasons": dict(sorted(self.reasons.items())),
            "fields": self.fields,
            "agreement": self.agreeing / self.votes if self.votes else None,
            "seconds_p50": percentile(self.seconds, 50),
            "seconds_p95": percentile(self.seconds, 95),
            "pages": self.pages if self.told_pages else None,
            "credits": self.credits if self.told_credits else None,
        }


class Scoreboard:
    """The sums of several services over many documents, counted one document at a time.

    Args:
        services: Their labels, in the order of the rows.
        rule: Which value of a field is the one to agree with.
    """

    def __init__(self, services: Sequence[str], rule: VotingRule = MAJORITY) -> None:
        self.tallies = {service: ServiceTally() for service in services}
        self._rule = rule

    def add(self, outcomes: Mapping[str, Outcome], compared: Sequence[FieldComparison]) -> None:
        """Count one document.

        Args:
            outcomes: Of the services that were given it.
            compared: What they found in it.
        """
        for service, outcome in outcomes.items():
            self.tallies[service].add(outcome)
        delivered = sum(outcome.result is not None for outcome in outcomes.values())
        for comparison in compared:
            self._count(comparison, delivered)

    def rows(self) -> list[dict[str, Any]]:
        """One row for each service."""
        return [{"service": service, **tally.row()} for service, tally in self.tallies.items()]

    def _count(self, comparison: FieldComparison, delivered: int) -> None:
        winner = self._rule.winner(comparison, delivered) if comparison.found > 1 else None
        for candidate in comparison.candidates:
            for service in candidate.services:
                tally = self.tallies[service]
                tally.fields += 1
                tally.votes += winner is not None
                tally.agreeing += candidate is winner
