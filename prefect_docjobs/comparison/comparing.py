"""What several services found in the same document, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prefect_docjobs.comparison.alignment import align
from prefect_docjobs.comparison.leaves import Leaves, Names, Row, Way, leaves_of
from prefect_docjobs.comparison.paths import Path, column_of, path_of
from prefect_docjobs.comparison.values import Comparator, Comparators, comparator_of
from prefect_docjobs.models import Field, Location, Result
from prefect_docjobs.models.jobs import Frozen


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
        label = self.confidence_label
        known = [
            label if self.confidence is None else f"confidence {self.confidence:g}",
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
        first = self.answers[0]
        about = {"confidence": first.confidence, "confidence_label": first.confidence_label}
        return Field(value=first.value, locations=first.locations, **about)


class FieldComparison(Frozen):
    """One field of one document.

    Attributes:
        field: Its name, such as `supplier.name` or `line_items[0].amount`.
        path: The way to it, such as `("line_items", 0, "amount")`: the name does not tell where names have
            dots or brackets themselves.
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
        """Whether nobody found another value."""
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
    known, ways = comparators or {}, _ways(found.values())
    named = [name for name in names or () if "[]" not in name]
    scalars = dict.fromkeys([*named, *(name for leaves in found.values() for name in leaves.scalars)])
    compared = [
        _compared(name, ways.get(name) or path_of(name), _values(name, found), known) for name in scalars
    ]
    tables = dict.fromkeys(table for leaves in found.values() for table in leaves.tables)
    return [*compared, *(row for table in tables for row in _rows(table, found, known, ways))]


def check_settings(names: Names | None, comparators: Comparators | None) -> None:
    """Raise `ConfigurationError` for a name of a column or of a comparator that is none."""
    leaves_of({}, names)
    for field in comparators or ():
        comparator_of(field, comparators or {})


def _ways(found: Iterable[Leaves]) -> dict[str, Way]:
    """The ways to what has a name; where services differ, the one through more objects."""
    ways: dict[str, Way] = {}
    for leaves in found:
        for name, way in leaves.ways.items():
            ways[name] = max(ways.get(name, ()), way, key=lambda each: (len(each), each))
    return ways


def _values(name: str, found: Mapping[str, Leaves]) -> dict[str, Field | None]:
    return {service: leaves.scalars.get(name) for service, leaves in found.items()}


def _rows(
    table: str, found: Mapping[str, Leaves], known: Comparators, ways: Mapping[str, Way]
) -> Iterator[FieldComparison]:
    """The comparisons of a table, line by line."""
    rows = {service: leaves.tables[table] for service, leaves in found.items() if table in leaves.tables}
    columns = dict.fromkeys(column for its_rows in rows.values() for row in its_rows for column in row)
    comparators: dict[str, Comparator] = {
        column: comparator_of(f"{table}[].{column}", known) for column in columns
    }
    way = ways.get(table) or path_of(table)
    below = {column: ways.get(f"{table}[].{column}") or path_of(column) for column in columns}
    for index, line in enumerate(align(rows, comparators)):
        for column in columns:
            if any(column in row for row in line.values()):
                path = (*way, index, *below[column])
                yield _compared(f"{table}[{index}].{column}", path, _cells(line, column, found), known)


def _cells(line: Mapping[str, Row], column: str, services: Mapping[str, Leaves]) -> dict[str, Field | None]:
    return {service: line.get(service, {}).get(column) for service in services}


def _compared(
    name: str, path: Path, fields: Mapping[str, Field | None], known: Comparators
) -> FieldComparison:
    key_of = comparator_of(column_of(name), known)
    groups: dict[Any, list[Answer]] = {}
    for service, leaf in fields.items():
        if leaf is not None:
            groups.setdefault(key_of(leaf.value), []).append(_answer(service, leaf))
    candidates = [Candidate(answers=tuple(sorted(answers, key=_surest))) for answers in groups.values()]
    return FieldComparison(
        field=name,
        path=path,
        candidates=tuple(sorted(candidates, key=_strongest)),
        silent=tuple(sorted(service for service, leaf in fields.items() if leaf is None)),
    )


def _answer(service: str, leaf: Field) -> Answer:
    return Answer(
        service=service,
        value=leaf.value,
        confidence=leaf.confidence,
        confidence_label=leaf.confidence_label,
        locations=leaf.locations,
    )


def _surest(answer: Answer) -> tuple[float, str]:
    unsureness = 0.0 if answer.confidence is None else -1.0 - answer.confidence
    return (unsureness, answer.service)


def _strongest(candidate: Candidate) -> tuple[int, float, str]:
    return (-len(candidate.answers), -(candidate.confidence or 0.0), candidate.answers[0].service)
