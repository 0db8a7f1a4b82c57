"""Text blocks: one form for all services that give pieces of text."""

from __future__ import annotations

from typing import Any

import pytest
from support.wire import ref_of

from prefect_docjobs.models import Location, TextBlock
from prefect_docjobs.providers.mindee import Mindee
from prefect_docjobs.providers.numind import NuMind
from prefect_docjobs.providers.unsiloed import Unsiloed
from prefect_docjobs.providers.values import markdown_blocks

JOB = "7b6a0c1e-2f7c-4d4b-9c0e-0d5d3a1f0001"
MARKDOWN = """\
Terms
=====

One paragraph
in two lines.

## Prices ##

- apples
- pears
  - green ones

| fruit | price |
|---|---|
| apple | 2 |

```text
as it is
```

> said somebody
"""


def test_content_is_blocks_of_markdown() -> None:
    numind = NuMind(product="content")
    payload = {"result": MARKDOWN, "rawModelOutput": MARKDOWN}

    result = numind.map_result(ref_of(NuMind, product="content", job_id=JOB), payload)

    assert result.text == MARKDOWN
    assert result.blocks == (
        TextBlock(kind="heading", text="Terms", level=1),
        TextBlock(kind="text", text="One paragraph\nin two lines."),
        TextBlock(kind="heading", text="Prices", level=2),
        TextBlock(kind="list_item", text="apples"),
        TextBlock(kind="list_item", text="pears\n  - green ones"),
        TextBlock(kind="table", text="| fruit | price |\n|---|---|\n| apple | 2 |"),
        TextBlock(kind="code", text="```text\nas it is\n```"),
        TextBlock(kind="quote", text="> said somebody"),
    )


@pytest.mark.parametrize(
    ("markdown", "texts"),
    [
        ("", []),
        ("# \n\n-\n\n---\n", []),
        ("a\r\n\r\nb\rc\n", ["a", "b\nc"]),
        ("1. one\n2) two", ["1. one", "2) two"]),
        ("# #1", ["#1"]),
        ("-5 degrees", ["-5 degrees"]),
        ("*" * 20_000, []),
        ("> " * 20_000 + "x", ["> " * 20_000 + "x"]),
    ],
)
def test_markdown_of_any_kind_is_blocks_with_text(markdown: str, texts: list[str]) -> None:
    assert [block.text for block in markdown_blocks(markdown)] == texts


def test_words_of_an_ocr_have_their_places() -> None:
    mindee = Mindee(model_id="3c2b1a00-0000-4000-8000-000000000abc", product="ocr")
    box = [[0.1, 0.2], [0.3, 0.2], [0.3, 0.25], [0.1, 0.25]]
    pages = [
        {"content": "Hi there", "words": [{"content": "Hi", "polygon": box}, {"content": "there"}]},
        {
            "content": None,
            "words": [None, {"content": ""}, {"content": 7}, {"content": "End", "polygon": [1]}],
        },
        {"words": "none"},
    ]

    payload = {"inference": {"job": {"id": JOB}, "result": {"pages": pages}}}
    result = mindee.map_result(ref_of(Mindee, product="ocr", job_id=JOB), payload)

    polygon = tuple((x, y) for x, y in box)
    assert result.blocks == (
        TextBlock(kind="word", text="Hi", location=Location(page=1, polygon=polygon)),
        TextBlock(kind="word", text="there", location=Location(page=1)),
        TextBlock(kind="word", text="End", location=Location(page=2)),
    )
    assert result.block_rows()[2] == {"index": 2, "page": 2, "kind": "word", "level": None, "text": "End"}


def test_segments_of_a_parse_are_blocks_in_our_words() -> None:
    page = {"page_number": 1, "page_width": 200, "page_height": 100}
    segments: list[dict[str, Any]] = [
        {
            "segment_type": "Title",
            "content": "Offer",
            "bbox": {"left": 20, "top": 10, "width": 40, "height": 5},
        },
        {"segment_type": "SectionHeader", "markdown": "### Prices"},
        {"segment_type": "ListItem", "markdown": "- apples"},
        {"segment_type": "PageFooter", "content": "1 of 2"},
        {"segment_type": "Signature Field", "content": "X", "page_number": None},
        {"segment_type": None, "content": "plain", "bbox": {"left": "x"}},
    ]
    chunk = {"segments": [{**page, **segment} for segment in segments]}
    generic = {"text": "whole", "page_number": 2, "element_types": ["Table"], "bbox": {"x1": 1}}
    payload = {"job_id": JOB, "status": "Succeeded", "chunks": [chunk, generic]}

    result = Unsiloed(product="parse").map_result(ref_of(Unsiloed, product="parse", job_id=JOB), payload)

    assert [(block.kind, block.text, block.level) for block in result.blocks] == [
        ("title", "Offer", 1),
        ("heading", "Prices", 3),
        ("list_item", "apples", None),
        ("page_footer", "1 of 2", None),
        ("signature_field", "X", None),
        ("text", "plain", None),
        ("table", "whole", None),
    ]
    corners = ((0.1, 0.1), (0.3, 0.1), (0.3, 0.15), (0.1, 0.15))
    assert result.blocks[0].location == Location(page=1, polygon=corners)
    assert [block.location.page if block.location else None for block in result.blocks] == [
        1,
        1,
        1,
        1,
        None,
        1,
        2,
    ]
    assert result.text == "Offer\n\n### Prices\n\n- apples\n\n1 of 2\n\nX\n\nplain\n\nwhole"


def test_a_result_without_pieces_has_no_blocks() -> None:
    result = NuMind(template={"total": "number"}).map_result(
        ref_of(NuMind, product="extraction", job_id=JOB), {"result": {"total": 1}, "rawModelOutput": ""}
    )
    assert (result.blocks, result.block_rows()) == ((), [])
