"""What people are asked and what they decide: forms, decisions, and documents after both."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast

import anyio.to_thread
from prefect.input import RunInput
from pydantic import BaseModel, ConfigDict, create_model
from pydantic import Field as FormField

from prefect_docjobs.comparison import Consensus, Doubt, read_number, with_value
from prefect_docjobs.flows._output import REVIEWS, json_line, read_lines
from prefect_docjobs.flows._report import EXACT, cell
from prefect_docjobs.models import Document, Field, Outcome, Result
from prefect_docjobs.models.escapes import escaped
from prefect_docjobs.models.jobs import Frozen
from prefect_docjobs.tasks._run import count

# ------------------------------------------------------------------------------------------------ decisions


class Decision(Frozen):
    """What a person decided about one field of one document.

    Attributes:
        document: Name of the document.
        sha256: Of its content: the same content under another name is decided, too.
        field: The field's name.
        value: What the person said; None for a value that the document does not have.
        before: What would have been used without them; None where nothing would.
        why: What was wrong with the field.
        found: What the services had found, as the person saw it.
        source: Always `human`.
        reviewer: Who it was, in their own words.
        at: When the form was submitted (UTC).
    """

    document: str
    sha256: str
    field: str
    value: Any = None
    before: Any = None
    why: str
    found: tuple[str, ...] = ()
    source: Literal["human"] = "human"
    reviewer: str
    at: datetime

    @property
    def is_correction(self) -> bool:
        """Whether it changed anything."""
        return bool(self.value != self.before)


class OpenDocument(Frozen):
    """A document that a person has to look at.

    Attributes:
        name: Of the document.
        sha256: Of its content.
        doubts: The fields in question.
    """

    name: str
    sha256: str
    doubts: tuple[Doubt, ...]

    @classmethod
    def of(cls, document: Document, digest: str, doubts: Iterable[Doubt]) -> OpenDocument:
        """The document; file names that are not UTF-8 are shown with escapes."""
        return cls(name=escaped(document.name), sha256=digest, doubts=tuple(doubts))


class Decisions:
    """All decisions of a folder: those of earlier runs, and those that come.

    Their file is added to and never replaced.

    Args:
        path: Of the file.
        known: What is in it.
    """

    def __init__(self, path: Path, known: Iterable[Decision] = ()) -> None:
        self._path = path
        self._known: dict[str, dict[str, Decision]] = {}
        self._take(known)

    @classmethod
    async def at(cls, folder: Path) -> Decisions:
        """Those in a folder, which need not be there.

        Raises:
            ConfigurationError: The file cannot be read, or a line of it is no decision.
        """
        path = folder / REVIEWS
        return cls(path, await anyio.to_thread.run_sync(read_decisions, path))

    def of(self, sha256: str) -> Mapping[str, Decision]:
        """What was decided about a content, by field."""
        return self._known.get(sha256, {})

    async def add(self, decisions: Sequence[Decision]) -> None:
        """Write decisions down; they are in the file when this returns."""
        await anyio.to_thread.run_sync(self._append, decisions)
        self._take(decisions)

    def _take(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            self._known.setdefault(decision.sha256, {})[decision.field] = decision

    def _append(self, decisions: Sequence[Decision]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            stream.writelines(map(json_line, decisions))


def read_decisions(path: Path) -> list[Decision]:
    """The decisions in a file; of a file that is not there, none.

    Raises:
        ConfigurationError: It cannot be read, or a line is no decision.
    """
    return read_lines(path, Decision, "review", "reviews") if path.exists() else []


# ---------------------------------------------------------------------------------------------------- forms

_CONFIG = ConfigDict(extra="forbid")
_SHOWN = 200  # characters of a value
_LEADING_ZERO = re.compile(r"\W*0\d")  # 00731 is the number of something, and no amount


@dataclass(frozen=True)
class ReviewForm:
    """One form.

    Attributes:
        documents: What is asked, in the order of the sections.
        number: Of the form in its run, 1-based.
        of: How many forms there are.
    """

    documents: Sequence[OpenDocument]
    number: int = 1
    of: int = 1

    @property
    def key(self) -> str:
        """A name for the questions: the same after a crash, or when the flow is replayed."""
        asked = [[each.sha256, *(doubt.field for doubt in each.doubts)] for each in self.documents]
        digest = hashlib.sha256(json.dumps(asked, ensure_ascii=True).encode()).hexdigest()
        return f"docjobs-review-{digest[:16]}"

    @cached_property
    def model(self) -> type[RunInput]:
        """What Prefect shows and checks.

        It asks for `reviewer` and for `document_1`, `document_2` and so on; of each of those, for the fields
        in question, by their names with an underscore for what is no letter or digit. Each wants an answer.
        """
        sections: dict[str, Any] = {
            name: (self._section(name, document), FormField(title=document.name, description=_why(document)))
            for name, document in self._sections()
        }
        reviewer = FormField(
            title="Your name",
            description=f"{self.description} Your name stands in the results beside it.",
            min_length=1,
            pattern=r"\S",
        )
        model = create_model("Review", __base__=RunInput, reviewer=(str, reviewer), **sections)
        model._description = self.description  # noqa: SLF001 (Prefect's way to describe an input)
        return model

    @property
    def description(self) -> str:
        """What the form is about, for people."""
        what = count(len(self.documents), "document")
        # Both UIs leave a text that was emptied out of what they send, and so it is refused.
        how = "Confirm each value, or type the right one: a space for a text that is not there."
        return f"Form {self.number} of {self.of}, {what}. {how}"

    def decisions(self, answer: Mapping[str, Any], at: datetime) -> list[Decision]:
        """What a filled-in form decides.

        Args:
            answer: As Prefect hands it out.
            at: When it was submitted.

        Raises:
            pydantic.ValidationError: It is no answer to this form.
        """
        given = self.model(**answer).model_dump()
        reviewer = given["reviewer"].strip()
        return [
            Decision(
                document=document.name,
                sha256=document.sha256,
                field=doubt.field,
                value=_value(given[section][question], doubt),
                before=doubt.proposed.value if doubt.proposed else None,
                why=doubt.why,
                found=tuple(_found(doubt)),
                reviewer=reviewer,
                at=at,
            )
            for section, document in self._sections()
            for question, doubt in _questions(document)
        ]

    def _sections(self) -> Iterator[tuple[str, OpenDocument]]:
        for number, document in enumerate(self.documents, 1):
            yield f"document_{number}", document

    def _section(self, name: str, document: OpenDocument) -> type[BaseModel]:
        questions: dict[str, Any] = {question: _question(doubt) for question, doubt in _questions(document)}
        return create_model(f"Review_{name}", __config__=_CONFIG, **questions)


def _questions(document: OpenDocument) -> Iterator[tuple[str, Doubt]]:
    """The fields in doubt by names that a model may have."""
    taken: set[str] = set()
    for doubt in document.doubts:
        name = _free(_safe(doubt.field), taken)
        taken.add(name)
        yield name, doubt


def _safe(field: str) -> str:
    name = re.sub(r"\W+", "_", field, flags=re.ASCII).strip("_")
    is_taken = hasattr(BaseModel, name) or name.startswith("model_") or not name or name[0].isdigit()
    return f"field_{name}" if is_taken else name


def _free(name: str, taken: Container[str]) -> str:
    names = chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(each for each in names if each not in taken)


def _question(doubt: Doubt) -> tuple[Any, Any]:
    """Type and settings of one question, which has to be answered; what would be used is filled in.

    Prefect's UIs leave a text that was emptied out of what they send. Would the model assume the value that
    is filled in, that confirmed it in silence; so the value is in the schema alone, which the forms show.
    """
    kind, about = _kind(doubt), " · ".join([doubt.sentence, *_found(doubt)])
    has_default = doubt.proposed is not None or not doubt.candidates
    extra = {"default": _default(doubt, kind)} if has_default else None
    return (kind, FormField(title=doubt.field, description=about, json_schema_extra=extra))


def _kind(doubt: Doubt) -> Any:
    values = [candidate.value for candidate in doubt.candidates]
    if values and all(isinstance(value, bool) for value in values):
        return bool | None
    if values and all(_is_number(value) and not _is_too_long(value) for value in values):
        return float | None
    return str


def _default(doubt: Doubt, kind: Any) -> Any:
    value = doubt.proposed.value if doubt.proposed else None
    return _text(value) if kind is str else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _value(given: Any, doubt: Doubt) -> Any:
    """What was typed, as the kind of value that the services found; a value that they found, as they did."""
    found = [candidate.value for candidate in doubt.candidates]
    if isinstance(given, float):
        return _as_found(given, found)
    if not isinstance(given, str):
        return given
    typed = given.strip()
    if not typed:
        return None
    for value in found:
        if typed == _text(value).strip():
            return value
    return _read(typed, found)


def _read(typed: str, found: Sequence[Any]) -> Any:
    """A text that is none of those that were found."""
    if any(isinstance(value, (list, dict)) for value in found):
        return _parsed(typed)
    if any(map(_is_number, found)) and not _LEADING_ZERO.match(typed):
        number = read_number(typed)
        return typed if number is None else _as_found(number, found)
    return typed


def _as_found(number: float | Decimal, found: Sequence[Any]) -> int | float:
    """A number as the same one was found; else whole, if it is and any was found that is."""
    numbers = [value for value in found if _is_number(value)]
    for value in numbers:
        if value == number:
            return cast("int | float", value)
    is_whole = math.isfinite(number) and number == int(number)
    return int(number) if is_whole and any(isinstance(value, int) for value in numbers) else float(number)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_too_long(number: float) -> bool:
    """Whether a browser, to which every number is a float, would show and send another one."""
    return isinstance(number, int) and abs(number) > EXACT


def _found(doubt: Doubt) -> Iterator[str]:
    for candidate in doubt.candidates:
        for answer in candidate.answers:
            text = str(answer)
            yield text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _why(document: OpenDocument) -> str:
    return f"{count(len(document.doubts), 'field')} to look at"


def forms_of(documents: Sequence[OpenDocument], per_form: int, *, behind: int = 0) -> list[ReviewForm]:
    """The forms for these documents, in their order.

    Args:
        documents: All that a person has to look at.
        per_form: How many of them a form has, at most.
        behind: How many forms of the run have been answered before these.
    """
    parts = [documents[first : first + per_form] for first in range(0, len(documents), per_form)]
    numbered = enumerate(parts, behind + 1)
    return [ReviewForm(part, number, behind + len(parts)) for number, part in numbered]


def queue_rows(documents: Iterable[OpenDocument]) -> list[dict[str, str]]:
    """A row for each field in question, for a table."""
    return [
        {
            "document": cell(document.name),
            "field": cell(doubt.field),
            "found": " · ".join(_found(doubt)),
            "why": doubt.sentence,
        }
        for document in documents
        for doubt in document.doubts
    ]


# --------------------------------------------------------------------------------------- reviewed documents


@dataclass(frozen=True)
class ReviewedDocument:
    """One document that a service has delivered.

    Attributes:
        outcomes: Of each service, by its label; one of them at least has a result.
        consensus: What the services agree on.
        decisions: What people decided, by field.
        is_renamed: Whether the fields have other names than the service's.
    """

    outcomes: Mapping[str, Outcome]
    consensus: Consensus
    decisions: Mapping[str, Decision]
    is_renamed: bool = False

    def outcome(self) -> Outcome:
        """The outcome with what was agreed on and decided.

        A single service's result stays as it is but for what people decided. Else the result has the values
        that won, and the job of the first service that delivered, but neither its text nor its raw answer. A
        decided field has the confidence 1 and the label `human`; what the document does not have is null.
        """
        first = next(outcome for outcome in self.outcomes.values() if outcome.result is not None)
        result = first.result
        if result is None:
            raise LookupError("No service has delivered this document.")
        decided = {name: self._decided(decision) for name, decision in self.decisions.items()}
        if len(self.outcomes) == 1 and not self.is_renamed:
            fields = dict(result.fields)
            for name, leaf in decided.items():
                fields = with_value(fields, name, leaf)
            changed = result.model_copy(update={"fields": fields})
        else:
            fields = self.consensus.tree(decided)
            changed = Result(ref=result.ref, fields=fields, usage=result.usage, warnings=result.warnings)
        return first.model_copy(update={"result": changed})

    def row(self) -> dict[str, Any]:
        """The flat row of the outcome, with who looked at it, when, and which fields they corrected."""
        last = max(self.decisions.values(), key=lambda decision: decision.at, default=None)
        corrected = [name for name, decision in self.decisions.items() if decision.is_correction]
        return {
            **self.outcome().row(),
            "review.source": last.source if last else "services",
            "review.reviewer": last.reviewer if last else None,
            "review.at": last.at if last else None,
            "review.corrected": corrected,
        }

    def provenance(self) -> Iterator[dict[str, Any]]:
        """For each field its value and where that comes from: services, or a person instead of them."""
        document = next(iter(self.outcomes.values()))
        head = {
            "document": document.document,
            "sha256": next((each.ref.document_sha256 for each in self.outcomes.values() if each.ref), None),
        }
        for name, agreed in self.consensus.fields.items():
            if name not in self.decisions:
                said = {"services": agreed.services, "confidence": agreed.confidence}
                yield {**head, "field": name, "value": agreed.value, "source": "services", **said}
        for conflict in self.consensus.conflicts:
            if conflict.field not in self.decisions:
                yield {**head, "field": conflict.field, "value": None, "source": "conflict"}
        for name, decision in self.decisions.items():
            told = {"before": decision.before, "reviewer": decision.reviewer, "at": decision.at}
            yield {**head, "field": name, "value": decision.value, "source": decision.source, **told}

    def _decided(self, decision: Decision) -> Field:
        """The value; where it was found, if a service had found the same."""
        agreed = self.consensus.fields.get(decision.field)
        candidates = [agreed.candidate, *agreed.others] if agreed else []
        for conflict in self.consensus.conflicts:
            candidates += conflict.candidates if conflict.field == decision.field else ()
        same = (each.as_field() for each in candidates if each.value == decision.value)
        known = next(same, Field(value=decision.value))
        return known.model_copy(update={"confidence": 1.0, "confidence_label": "human"})
