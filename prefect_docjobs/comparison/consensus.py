"""One result of several: the values that most services found, and conflicts for a person to decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from prefect_docjobs.comparison.comparing import Candidate, FieldComparison, compare_results
from prefect_docjobs.comparison.leaves import Names, tree_of, with_value
from prefect_docjobs.comparison.paths import Path, placed
from prefect_docjobs.comparison.values import Comparators
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.models import Field, Result
from prefect_docjobs.models.jobs import Frozen

Weighting: TypeAlias = Literal["equal", "confidence"]
"""Whether each service has one vote for a field, or as much of one as it is confident."""

_UNKNOWN = 0.5  # the weight of a value whose service gives no confidence


@dataclass(frozen=True)
class VotingRule:
    """When services agree enough.

    Attributes:
        share: A value wins with more than this share of the weight of all values that were found. With 0.5
            more than half of the services have to agree; with less the leading value wins, if it leads alone.
        quorum: Services that have to have found the value, at least. 2 makes a conflict of what only one of
            several found; it does not count where only one service delivered.
        weighting: `equal`, or `confidence`: a service weighs as much as it is confident, 0.5 where it gives
            no confidence.

    Raises:
        ConfigurationError: `share` is not from 0 to below 1, or `quorum` is not positive.
    """

    share: float = 0.5
    quorum: int = 1
    weighting: Weighting = "equal"

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 1.0:
            raise ConfigurationError("share must be at least 0 and less than 1.")
        if self.quorum < 1:
            raise ConfigurationError("quorum must be at least 1.")

    def winner(self, comparison: FieldComparison, services: int) -> Candidate | None:
        """The value that wins; None where none does.

        Args:
            comparison: Of one field.
            services: How many delivered a result.
        """
        ranked = sorted(comparison.candidates, key=self._weight, reverse=True)
        if not ranked:
            return None
        weights = [self._weight(candidate) for candidate in ranked]
        leads = len(ranked) == 1 or (weights[0] > weights[1] and weights[0] > self.share * sum(weights))
        has_quorum = len(ranked[0].answers) >= min(self.quorum, services)
        return ranked[0] if leads and has_quorum else None

    def _weight(self, candidate: Candidate) -> float:
        if self.weighting == "equal":
            return float(len(candidate.answers))
        sure = (answer.confidence for answer in candidate.answers)
        # Sorted, so that the sum does not depend on the order in which services are given.
        return sum(sorted(_UNKNOWN if each is None else each for each in sure))


MAJORITY = VotingRule()
"""More than half of the services that found a value."""


class AgreedField(Frozen):
    """A field that services agree on.

    Attributes:
        path: The way to it in the tree of fields.
        candidate: The value, and which services found it.
        others: Values that lost the vote.
        silent: Services that found nothing.
    """

    path: Path
    candidate: Candidate
    others: tuple[Candidate, ...] = ()
    silent: tuple[str, ...] = ()

    @property
    def value(self) -> Any:
        """As the most confident service wrote it."""
        return self.candidate.value

    @property
    def services(self) -> tuple[str, ...]:
        """Those that found this value."""
        return self.candidate.services

    @property
    def confidence(self) -> float | None:
        """The highest of theirs."""
        return self.candidate.confidence


class Consensus(Frozen):
    """What services agree on, and what they do not.

    Attributes:
        services: All that delivered a result, in alphabetical order.
        fields: The agreed values, by name of the field.
        conflicts: Fields for which no value won, with all values, their services, confidences and places.
    """

    services: tuple[str, ...]
    fields: dict[str, AgreedField]
    conflicts: tuple[FieldComparison, ...] = ()

    def values(self) -> dict[str, Any]:
        """The agreed values as plain data, by name of the field."""
        return {name: agreed.value for name, agreed in self.fields.items()}

    def tree(self, decided: Mapping[str, Field] | None = None) -> dict[str, Field]:
        """The agreed values as the fields of a result; of a conflict nothing is in it.

        Args:
            decided: Values by names of fields, instead of the agreed ones and for conflicts.
        """
        tree = tree_of({agreed.path: agreed.candidate.as_field() for agreed in self.fields.values()})
        open_ones = {conflict.field: conflict.path for conflict in self.conflicts}
        for name, leaf in (decided or {}).items():
            path = open_ones.get(name)
            tree = placed(tree, path, leaf) if path else with_value(tree, name, leaf)
        return tree


def consensus_of(
    results: Mapping[str, Result],
    *,
    names: Names | None = None,
    comparators: Comparators | None = None,
    rule: VotingRule = MAJORITY,
) -> Consensus:
    """Let services vote on each field of one document.

    Services that found nothing for a field do not vote on it. The consensus of equal results, and of a single
    one, is that result without what was not found; the order in which results are given does not count.

    Args:
        results: By any label, such as the name of the service or of the job.
        names: What is voted on, and what the services call it; None for everything, by its own name.
        comparators: When two values are the same, by field; `auto` for fields without one.
        rule: What it takes to win.

    Raises:
        ConfigurationError: A name of a column or of a comparator is none.
    """
    return decide(compare_results(results, names=names, comparators=comparators), tuple(results), rule=rule)


def decide(
    compared: list[FieldComparison], services: tuple[str, ...], *, rule: VotingRule = MAJORITY
) -> Consensus:
    """The same, from a comparison that is there already.

    Args:
        compared: The fields of one document.
        services: All that delivered a result for it.
        rule: What it takes to win.
    """
    fields: dict[str, AgreedField] = {}
    conflicts = []
    for comparison in compared:
        winner = rule.winner(comparison, len(services))
        if winner is not None:
            others = tuple(each for each in comparison.candidates if each is not winner)
            fields[comparison.field] = AgreedField(
                path=comparison.path, candidate=winner, others=others, silent=comparison.silent
            )
        elif comparison.candidates:
            conflicts.append(comparison)
    return Consensus(services=tuple(sorted(services)), fields=fields, conflicts=tuple(conflicts))
