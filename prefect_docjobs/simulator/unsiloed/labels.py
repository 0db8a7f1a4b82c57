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
        if kind != "document" and kind in _kinds_named_by(category):
            return Label(category.name, 0.97)
    plain = folded(text)
    mentions = {category: len(_mention_of(category).findall(plain)) for category in categories}
    best = max(categories, key=mentions.__getitem__)
    if mentions[best]:
        return Label(best.name, 0.8)
    other = next((category for category in categories if snake_case(category.name) == "other"), categories[0])
    return Label(other.name, 0.35)


def _kinds_named_by(category: Category) -> set[str | None]:
    name = snake_case(category.name)
    return {name, name.removesuffix("s"), kind_of_title(category.name)}


def _mention_of(category: Category) -> re.Pattern[str]:
    """Finds the words of a category's name in folded text, whatever stands between them."""
    words = snake_case(category.name).split("_")
    return re.compile(r"\b" + r"\W+".join(map(re.escape, words)) + r"\b")


def kind_of_page(read: DocumentRead, number: int) -> str:
    """The kind of the part of a document that a page (1-based) belongs to."""
    return next(kind for first, last, kind in read.sections if first <= number <= last)
