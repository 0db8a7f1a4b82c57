"""Names of task runs, for people who read a list of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from typing import Any

from prefect_docjobs.models import Document, JobRef


def about(verb: str, parameter: str) -> Callable[[dict[str, Any]], str]:
    """A name such as `submit invoice.pdf`, from the document or the ref that a task is called with."""

    def name(parameters: dict[str, Any]) -> str:
        return f"{verb} {_subject(parameters.get(parameter))}"

    return name


def counting(verb: str, parameter: str, noun: str) -> Callable[[dict[str, Any]], str]:
    """A name such as `submit 200 documents`, from the collection that a task is called with."""

    def name(parameters: dict[str, Any]) -> str:
        given = parameters.get(parameter)
        return f"{verb} {count(len(given), noun)}" if isinstance(given, Sized) else f"{verb} {noun}s"

    return name


def count(number: int, noun: str) -> str:
    """`1 document`, `2 documents`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _subject(given: object) -> str:
    match given:
        case Document(name=name) | JobRef(document_name=name) | {"document_name": str(name)}:
            return name
        case _:
            return "a job" if isinstance(given, (str, Mapping)) else type(given).__name__
