"""Documents that a load has no result of, as people are told of them: why, where they are, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from prefect_docjobs.errors import Reason
from prefect_docjobs.flows._output import DeadLetter, LetterWriter
from prefect_docjobs.loading import SourceFile
from prefect_docjobs.models import Batch, Document, Outcome
from prefect_docjobs.models.escapes import escaped
from prefect_docjobs.tasks.redrivable import Again, fate_of, what_again

_LEFT = "It failed in an earlier load, and the table documents has the error."
_RESUBMIT = "load again with resubmit=True."
_BY_REASON: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.UNCERTAIN: "Look for it in the service's account; if it is not there, load again with "
        "on_uncertain='resubmit'.",
        Reason.REJECTED: f"Mend the request or the plan, then {_RESUBMIT}",
        Reason.INVALID_DOCUMENT: "Mend the document: a file that has changed is looked at by the next load.",
        Reason.UNREADABLE: "Load again: the result is fetched again, and nothing is bought.",
        Reason.UNAUTHORIZED: "Correct the credentials block, then load again: {fate}.",
        Reason.QUOTA: "Raise the quota of the account, then load again: {fate}.",
        Reason.CANCELLED: f"Leave it, or {_RESUBMIT}",
        Reason.BUDGET: "Load again: each load has a budget of its own.",
    }
)
_BY_STEP: Mapping[Again, str] = MappingProxyType(
    {
        Again.SUBMIT: "Load again: the service did not accept it, so it is submitted again.",
        Again.WAIT: "Load again: its job is waited for again, and nothing is bought.",
        Again.RESUBMIT: "Load again with resubmit=True, at the price of a second bill.",
        Again.NO: "There is nothing to do.",
    }
)


@dataclass(frozen=True)
class Tried:
    """A document and what became of it.

    Attributes:
        file: Where it is.
        document: To be read; None where it cannot be, or need not.
        outcome: With the result, or why there is none.
    """

    file: SourceFile
    document: Document | None
    outcome: Outcome


async def letters_of(tried: Sequence[Tried], writer: LetterWriter) -> list[DeadLetter]:
    """The dead letters of those that failed, in their order, with what the next load does about them."""
    batch = Batch(tuple(one.outcome for one in tried))
    letters = await writer.letters([one.document for one in tried], batch)
    failed = [one.file for one in tried if not one.outcome.ok]
    return [_of_load(letter, file) for letter, file in zip(letters, failed, strict=True)]


def left_letters(left: Iterable[Tried]) -> list[DeadLetter]:
    """Those of documents that failed before and were left as they were."""
    return [_of_load(DeadLetter.of(one.outcome, error=one.outcome.error or _LEFT), one.file) for one in left]


def _of_load(letter: DeadLetter, file: SourceFile) -> DeadLetter:
    """A letter as a load means it: the file is where it was found, not where it was copied to."""
    is_here = file.source.startswith("file:")
    place = escaped(file.path if is_here else file.source)
    where = {"path": place if is_here else None, "url": None if is_here else place}
    return letter.model_copy(update={"how": _how(letter.outcome()), **where})


def _how(outcome: Outcome) -> str:
    told = _BY_REASON.get(outcome.reason) if outcome.reason else None
    return told.format(fate=fate_of(outcome)) if told else _BY_STEP[what_again(outcome)]
