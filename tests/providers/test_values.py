"""The readers that all providers share."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from support.wire import answer

from prefect_docjobs.providers import values
from prefect_docjobs.testing.hostile import EXAMPLES, json_values

HUGE = 10**400  # JSON has such numbers; a float cannot hold them


@pytest.mark.parametrize(
    ("reader", "value", "read"),
    [
        (values.number, 2, 2.0),
        (values.number, True, None),
        (values.number, "2", None),
        (values.number, math.nan, None),
        (values.number, -math.inf, None),
        (values.number, HUGE, None),
        (values.share, 0, 0.0),
        (values.share, 1.0, 1.0),
        (values.share, 1.01, None),
        (values.share, -0.1, None),
        (values.share, True, None),
        (values.whole, 2.0, 2),
        (values.whole, -3, -3),
        (values.whole, 2.5, None),
        (values.index, 0, 0),
        (values.index, -1, None),
        (values.index, 2.0, None),
        (values.index, True, None),
        (values.page_number, 1.0, 1),
        (values.page_number, 0, None),
        (values.text, " a ", " a "),
        (values.text, " ", None),
        (values.text, 7, None),
        (values.mapping, {"a": 1}, {"a": 1}),
        (values.mapping, [("a", 1)], {}),
        (values.elements, [1, None], [1, None]),
        (values.elements, {"a": 1}, []),
        (values.objects, [{"a": 1}, 7, {}], [{"a": 1}, {}]),
        (values.objects, "ab", []),
        (values.code_of, " E-1 ", "E-1"),
        (values.code_of, 413, "413"),
        (values.code_of, 4.5, "4.5"),
        (values.code_of, True, None),
        (values.code_of, math.nan, None),
        (values.code_of, "", None),
        (values.code_of, {"code": 1}, None),
    ],
)
def test_a_reader_gives_the_documented_kind_or_nothing(reader: Any, value: object, read: object) -> None:
    found = reader(value)
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    ("points", "read"),
    [
        ([[0, 0.5], [1, 0.5]], ((0.0, 0.5), (1.0, 0.5))),
        ([], None),
        (None, None),
        ([[0, 0.5], [None, None]], None),
        ([[0, 0.5], [1]], None),
        ([[0, 0.5, 1]], None),
        ([[0, math.inf]], None),
        ([{"x": 0, "y": 1}], None),
    ],
)
def test_a_polygon_is_whole_or_none(points: object, read: object) -> None:
    assert values.polygon(points) == read


@EXAMPLES
@given(json_values())
def test_no_tolerant_reader_ever_refuses_a_value(value: object) -> None:
    for reader in (
        *(values.number, values.share, values.whole, values.index, values.page_number, values.text),
        *(values.mapping, values.elements, values.objects, values.polygon, values.code_of),
    ):
        reader(value)


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        (values.text_of, ""),
        (values.text_of, 7),
        (values.object_of, []),
        (values.object_of, None),
        (values.list_of, {}),
        (values.list_of, "ab"),
        (values.segment, ""),
        (values.segment, "."),
        (values.segment, ".."),
        (values.segment, "\ud800"),
    ],
)
def test_a_strict_reader_raises_what_the_providers_turn_into_unreadable(reader: Any, value: object) -> None:
    with pytest.raises(ValueError):
        reader(value)


def test_a_segment_leads_nowhere_else() -> None:
    assert values.segment("a/../b?c#d é") == "a%2F..%2Fb%3Fc%23d%20%C3%A9"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("upstream\r\n  timed\tout ", "upstream timed out"),
        (" \n" * 5_000 + "late", "late"),
        ("x" * 10, "x" * 10),
        ("x" * 11, "x" * 10 + "…"),
        (" \n ", None),
        (None, None),
    ],
)
def test_words_stand_on_one_line_of_a_certain_length(words: str | None, line: str | None) -> None:
    assert values.one_line(words, 10 if "x" in (words or "") else 500) == line


@pytest.mark.parametrize(
    ("body", "quoted", "told"),
    [
        (b"no healthy\nupstream", "no healthy upstream", "The service answered HTTP 503 and gave no reason."),
        (b" <!DOCTYPE html><h1>Oh</h1>", None, "The service answered HTTP 503 with an HTML page."),
        (b" \n", None, "The service answered HTTP 503 with an empty body."),
        (b"\xff", "\ufffd", "The service answered HTTP 503 and gave no reason."),
    ],
)
def test_a_text_is_quoted_and_a_page_is_named(body: bytes, quoted: str | None, told: str) -> None:
    assert (values.excerpt(answer(body, 503)), values.no_reason(answer(body, 503))) == (quoted, told)
