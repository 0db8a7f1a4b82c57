"""The form that a person fills in: a section for each document, a question for each field in doubt."""

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
from typing import Any, cast

from prefect.input import RunInput
from pydantic import BaseModel, ConfigDict, Field, create_model

from prefect_docjobs.comparison import Doubt, read_number
from prefect_docjobs.flows.reviewing.decisions import Decision, OpenDocument
from prefect_docjobs.flows.tables import EXACT, cell
from prefect_docjobs.tasks.names import count

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
            name: (self._section(name, document), Field(title=document.name, description=_why(document)))
            for name, document in self._sections()
        }
        reviewer = Field(
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
    return (kind, Field(title=doubt.field, description=about, json_schema_extra=extra))


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
