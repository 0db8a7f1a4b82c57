"""What a result has to have before it is good enough to be used unseen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

from pydantic import Field as Setting

from prefect_docjobs.comparison.compare import Candidate, Consensus, FieldComparison, consensus_of
from prefect_docjobs.comparison.fields import Names, Path, column_of, names_along, path_of
from prefect_docjobs.models import Result
from prefect_docjobs.models.jobs import Frozen

Why: TypeAlias = Literal["missing", "low_confidence", "conflict"]
"""What is wrong with a field: no service found it, none is sure of it, or they do not agree."""


class Doubt(Frozen):
    """A field that is not good enough.

    Attributes:
        field: Its name.
        why: What is wrong.
        sentence: The same for a person.
        candidates: The values that were found, the strongest first.
        proposed: The one that would be used; None where none is found, or none won.
    """

    field: str
    why: Why
    sentence: str
    candidates: tuple[Candidate, ...] = ()
    proposed: Candidate | None = None


class Acceptance(Frozen):
    """When a result is good enough.

    Attributes:
        required: Fields that have to be found, by their names, such as `total_amount` or `supplier.name`. An
            object or a list of objects is found when anything in it is.
        min_confidence: Every value has to be at least so sure, 0 to 1; None for no such demand. Values whose
            service gives no confidence pass.
        of: The fields whose confidence counts, and whose conflicts do; columns as `line_items[].amount`;
            an object or a list stands for all that is in it. Empty: all.
    """

    required: tuple[str, ...] = ()
    min_confidence: float | None = Setting(default=None, ge=0.0, le=1.0)
    of: tuple[str, ...] = ()

    def doubts(self, consensus: Consensus) -> list[Doubt]:
        """What is not good enough: conflicts first, then what is missing, then what is unsure."""
        conflicts = [_conflict(each) for each in consensus.conflicts if self._counts(each.field, each.path)]
        found = [(name, agreed.path) for name, agreed in consensus.fields.items()]
        found += [(conflict.field, conflict.path) for conflict in consensus.conflicts]
        known = {known for name, path in found for known in _names(name, path)}
        missing = [_missing(name) for name in self.required if name not in known]
        return [*conflicts, *missing, *self._unsure(consensus)]

    def doubts_of(self, result: Result, *, names: Names | None = None) -> list[Doubt]:
        """The same for a single result; `names` says what its service calls the fields."""
        return self.doubts(consensus_of({result.ref.provider: result}, names=names))

    def _unsure(self, consensus: Consensus) -> Iterator[Doubt]:
        for name, agreed in consensus.fields.items():
            sure = agreed.confidence
            if self.min_confidence is None or sure is None or sure >= self.min_confidence:
                continue
            if self._counts(name, agreed.path):
                sentence = f"The confidence {sure:g} is below {self.min_confidence:g}."
                candidates = (agreed.candidate, *agreed.others)
                yield Doubt(
                    field=name,
                    why="low_confidence",
                    sentence=sentence,
                    candidates=candidates,
                    proposed=agreed.candidate,
                )

    def _counts(self, name: str, path: Path) -> bool:
        return not self.of or not _names(name, path).isdisjoint((*self.of, *self.required))


def _names(name: str, path: Path) -> set[str]:
    """What a field is found as: by its name, as a cell of its column, and as a part of all that it is in."""
    # A service may call a field `supplier.name`, and have no supplier.
    names = {*names_along(path), *names_along(path_of(name))}
    return names | set(map(column_of, names))


def _conflict(comparison: FieldComparison) -> Doubt:
    values = len(comparison.candidates)
    sentence = (
        f"{comparison.found} services found {values} different values."
        if values > 1
        else f"Only {', '.join(comparison.candidates[0].services)} found it."
    )
    return Doubt(field=comparison.field, why="conflict", sentence=sentence, candidates=comparison.candidates)


def _missing(name: str) -> Doubt:
    return Doubt(field=name, why="missing", sentence="No service found it.")


def sentence_of(doubts: Iterable[Doubt]) -> str:
    """Several doubts in one line, such as `total_amount: conflict, date: missing`."""
    return ", ".join(f"{doubt.field}: {doubt.why.replace('_', ' ')}" for doubt in doubts)
