"""What several services found in the same document, side by side: agreement, consensus, and how each did."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from prefect_docjobs.comparison.alignment import align
from prefect_docjobs.comparison.fields import (
    Leaves,
    Names,
    Path,
    column_of,
    leaves_of,
    path_of,
    tree_of,
    with_leaf,
    with_value,
)
from prefect_docjobs.comparison.values import Comparators, comparator_of
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.models import Field, Location, Outcome, Result
from prefect_docjobs.models.jobs import Frozen
from prefect_docjobs.models.percentiles import percentile

Weighting: TypeAlias = Literal["equal", "confidence"]
"""Whether each service has one vote for a field, or as much of one as it is confident."""

_UNKNOWN = 0.5  # the weight of a value whose service gives no confidence


class Answer(Frozen):
    """What one service found for a field.

    Attributes:
        service: Its label, as it was given.
        value: Plain data.
        confidence: 0 to 1, or None where the service gives none.
        confidence_label: The service's own word, where it speaks in words.
        locations: Where the value was found.
    """

    service: str
    value: Any = None
    confidence: float | None = None
    confidence_label: str | None = None
    locations: tuple[Location, ...] = ()

    def __str__(self) -> str:
        """Such as `mindee: 25.5 (confidence 0.61, page 1)`."""
        known = [
            self.confidence_label if self.confidence is None else f"confidence {self.confidence:g}",
            f"page {self.locations[0].page}" if self.locations else None,
        ]
        about = ", ".join(fact for fact in known if fact)
        return f"{self.service}: {self.value}" + (f" ({about})" if about else "")


class Candidate(Frozen):
    """One of the values that were found for a field, and who found it.

    Attributes:
        answers: Of the services that agree on it, the most confident first, then by label.
    """

    answers: tuple[Answer, ...]

    @property
    def value(self) -> Any:
        """As the most confident service wrote it."""
        return self.answers[0].value

    @property
    def services(self) -> tuple[str, ...]:
        """The labels of those that agree, in alphabetical order."""
        return tuple(sorted(answer.service for answer in self.answers))

    @property
    def confidence(self) -> float | None:
        """The highest that any of them gives; None where none gives one."""
        return self.answers[0].confidence

    def as_field(self) -> Field:
        """The value as a field of a result."""
        return Field(**self.answers[0].model_dump(exclude={"service"}))


class FieldComparison(Frozen):
    """One field of one document.

    Attributes:
        field: Its name, such as `supplier.name` or `line_items[0].amount`.
        path: The path to it, such as `("line_items", 0, "amount")`: the name alone is ambiguous where names
            have dots or brackets themselves.
        candidates: The different values, the one that most services found first, then the most confident.
        silent: Services that found nothing for it, in alphabetical order.
    """

    field: str
    path: Path
    candidates: tuple[Candidate, ...] = ()
    silent: tuple[str, ...] = ()

    @property
    def found(self) -> int:
        """How many services found something."""
        return sum(len(candidate.answers) for candidate in self.candidates)

    @property
    def agreeing(self) -> int:
        """How many services found the value that most of them found."""
        return max((len(candidate.answers) for candidate in self.candidates), default=0)

    @property
    def agreement(self) -> float | None:
        """Their share among those that found something; None where none did."""
        return self.agreeing / self.found if self.found else None

    @property
    def is_unanimous(self) -> bool:
        """Whether no service found another value."""
        return len(self.candidates) <= 1

    def answer(self, service: str) -> Answer | None:
        """What a service found; None where it found nothing."""
        answers = (answer for candidate in self.candidates for answer in candidate.answers)
        return next((answer for answer in answers if answer.service == service), None)


def compare_results(
    results: Mapping[str, Result], *, names: Names | None = None, comparators: Comparators | None = None
) -> list[FieldComparison]:
    """Put what services found in one document side by side.

    Rows of line items are matched first (see `align`). The order in which the results are given counts for
    the order of the fields alone.

    Args:
        results: By any label, such as the name of the service or of the job.
        names: What is compared, and what the services call it; None for everything, by its own name.
        comparators: When two values are the same, by field; `auto` for fields without one.

    Returns:
        One comparison for each field that any service has a value for, and for each that `names` names, but
        for columns.

    Raises:
        ConfigurationError: A name of a column or of a comparator is none.
    """
    found = {service: leaves_of(result.fields, names) for service, result in results.items()}
    known, paths = comparators or {}, _paths(found)
    named = [name for name in names or () if "[]" not in name]
    scalars = dict.fromkeys([*named, *(name for leaves in found.values() for name in leaves.scalars)])
    compared = [
        _compared(
            name,
            paths.get(name) or path_of(name),
            {service: leaves.scalars.get(name) for service, leaves in found.items()},
            known,
        )
        for name in scalars
    ]
    tables = dict.fromkeys(table for leaves in found.values() for table in leaves.tables)
    return [*compared, *(row for table in tables for row in _compared_rows(table, found, known, paths))]


def check_settings(names: Names | None, comparators: Comparators | None) -> None:
    """Raise `ConfigurationError` for a name of a column or of a comparator that is none."""
    leaves_of({}, names)
    for name in comparators or ():
        comparator_of(name, comparators or {})


def _paths(found: Mapping[str, Leaves]) -> dict[str, Path]:
    """The paths to what has a name; where services differ, the one through more objects."""
    paths: dict[str, Path] = {}
    for leaves in found.values():
        for name, path in leaves.paths.items():
            paths[name] = max(paths.get(name, ()), path, key=lambda each: (len(each), each))
    return paths


def _compared_rows(
    table: str, found: Mapping[str, Leaves], known: Comparators, paths: Mapping[str, Path]
) -> Iterator[FieldComparison]:
    """The comparisons of a table, line by line."""
    rows = {service: leaves.tables[table] for service, leaves in found.items() if table in leaves.tables}
    columns = dict.fromkeys(column for its_rows in rows.values() for row in its_rows for column in row)
    comparators = {column: comparator_of(f"{table}[].{column}", known) for column in columns}
    path = paths.get(table) or path_of(table)
    below = {column: paths.get(f"{table}[].{column}") or path_of(column) for column in columns}
    for index, line in enumerate(align(rows, comparators)):
        for column in columns:
            cells = {service: line.get(service, {}).get(column) for service in found}
            if any(cells.values()):
                name = f"{table}[{index}].{column}"
                yield _compared(name, (*path, index, *below[column]), cells, known)


def _compared(
    name: str, path: Path, fields: Mapping[str, Field | None], known: Comparators
) -> FieldComparison:
    key_of = comparator_of(column_of(name), known)
    groups: dict[Any, list[Answer]] = {}
    for service, leaf in fields.items():
        if leaf is not None:
            answer = Answer(
                service=service,
                value=leaf.value,
                confidence=leaf.confidence,
                confidence_label=leaf.confidence_label,
                locations=leaf.locations,
            )
            groups.setdefault(key_of(leaf.value), []).append(answer)
    candidates = [
        Candidate(answers=tuple(sorted(answers, key=_by_confidence))) for answers in groups.values()
    ]
    return FieldComparison(
        field=name,
        path=path,
        candidates=tuple(sorted(candidates, key=_by_support)),
        silent=tuple(sorted(service for service, leaf in fields.items() if leaf is None)),
    )


def _by_confidence(answer: Answer) -> tuple[float, str]:
    return (0.0 if answer.confidence is None else -1.0 - answer.confidence, answer.service)


def _by_support(candidate: Candidate) -> tuple[int, float, str]:
    return (-len(candidate.answers), -(candidate.confidence or 0.0), candidate.answers[0].service)


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
        path: The path to it in the tree of fields.
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
            tree = with_leaf(tree, path, leaf) if path else with_value(tree, name, leaf)
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


@dataclass
class _Tally:
    """The sums of one service; pages and credits are None until it reports any."""

    documents: int = 0
    delivered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    fields: int = 0
    votes: int = 0  # values in fields that other services found something for, and a value won
    agreeing: int = 0  # of those the value that won
    seconds: array[float] = field(default_factory=lambda: array("d"))  # of documents that were not reused
    pages: int | None = None
    credits: float | None = None

    def add(self, outcome: Outcome) -> None:
        self.documents += 1
        if outcome.result is None:
            self.reasons[str(outcome.reason or "nothing")] += 1
            return
        self.delivered += 1
        if outcome.seconds is not None and not outcome.reused:
            self.seconds.append(outcome.seconds)
        usage = outcome.result.usage
        if usage.pages is not None:
            self.pages = (self.pages or 0) + usage.pages
        if usage.credits is not None:
            self.credits = (self.credits or 0.0) + usage.credits


class Scoreboard:
    """The sums of several services over many documents, counted one document at a time.

    Args:
        services: Their labels, in the order of the rows.
        rule: Which value of a field is the one to agree with.
    """

    def __init__(self, services: Sequence[str], rule: VotingRule = MAJORITY) -> None:
        self._tallies = {service: _Tally() for service in services}
        self._rule = rule

    def add(self, outcomes: Mapping[str, Outcome], compared: Sequence[FieldComparison]) -> None:
        """Count one document.

        Args:
            outcomes: Of the services that were given it.
            compared: What they found in it.
        """
        for service, outcome in outcomes.items():
            self._tallies[service].add(outcome)
        delivered = sum(outcome.result is not None for outcome in outcomes.values())
        for comparison in compared:
            winner = self._rule.winner(comparison, delivered) if comparison.found > 1 else None
            for candidate in comparison.candidates:
                for service in candidate.services:
                    tally = self._tallies[service]
                    tally.fields += 1
                    tally.votes += winner is not None
                    tally.agreeing += candidate is winner

    def rows(self) -> list[dict[str, Any]]:
        """One row for each service, as plain JSON: counts, shares from 0 to 1, None for what is not known."""
        return [
            {
                "service": service,
                "documents": tally.documents,
                "delivered": tally.delivered,
                "reasons": dict(sorted(tally.reasons.items())),
                "fields": tally.fields,
                "agreement": tally.agreeing / tally.votes if tally.votes else None,
                "seconds_p50": percentile(tally.seconds, 50),
                "seconds_p95": percentile(tally.seconds, 95),
                "pages": tally.pages,
                "credits": tally.credits,
            }
            for service, tally in self._tallies.items()
        ]
