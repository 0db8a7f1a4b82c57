"""Which of the categories given by a client fits a document, a page, or a part of a document."""

from __future__ import annotations

import re
from dataclasses import dataclass

from prefect_docjobs.simulator.reading import DocumentRead
from prefect_docjobs.simulator.reading.vocabulary import folded, kind_of_title, snake_case


@dataclass(frozen=True)
class Category:
    """One of the labels to choose from."""

    name: str
    description: str = ""


@dataclass(frozen=True)
class Label:
    """The category chosen and how sure that is, 0..1."""

    name: str
    confidence: float


def label_of(kind: str, text: str, categories: tuple[Category, ...]) -> Label:
    """The category named like the kind of document, else the one that the text mentions most, else a guess.

    Args:
        kind: `invoice`, `receipt`, `contract`, `form` or `document`.
        text: The text to look for the categories' names in.
        categories: At least one.
    """
    for category in categories:
        if kind in {snake_case(category.name), kind_of_title(category.name)}:
            return Label(category.name, 0.97)
    plain = folded(text)
    mentions = {
        category: len(re.findall(rf"\b{re.escape(folded(category.name))}\b", plain))
        for category in categories
    }
    best = max(categories, key=mentions.__getitem__)
    if mentions[best]:
        return Label(best.name, 0.8)
    other = next((category for category in categories if snake_case(category.name) == "other"), categories[0])
    return Label(other.name, 0.35)


def kind_of_page(read: DocumentRead, number: int) -> str:
    """The kind of the part of a document that a page (1-based) belongs to."""
    return next(kind for first, last, kind in read.sections if first <= number <= last)
