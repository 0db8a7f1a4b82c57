"""Keys: the same purchase has the same key, and any other purchase another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from enum import Enum
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.ledger import Entry, entry_for
from prefect_docjobs.providers.base import Provider
from prefect_docjobs.providers.mindee import Mindee
from prefect_docjobs.providers.mindee_v1 import MindeeV1
from prefect_docjobs.providers.numind import NuMind
from prefect_docjobs.providers.unsiloed import Unsiloed

MODEL = "11111111-1111-4111-8111-111111111111"
PLAIN = Mindee(model_id=MODEL)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
OPTIONS = st.dictionaries(st.text("abc", min_size=1, max_size=3), JSON, max_size=4)


def made(provider: Provider = PLAIN, **facts: Any) -> Entry:
    known: dict[str, Any] = {
        "base_url": "https://toy.test",
        "tenant": "acme",
        "name": "a.pdf",
        "sha256": "ab" * 32,
        "size": 7,
    }
    return entry_for(provider, **{**known, **facts})


def changed(provider: Provider, settings: dict[str, Any]) -> Provider:
    again: Provider = replace(provider, **settings)  # type: ignore[type-var]
    return again


def turned(value: Any) -> Any:
    """The same JSON with every object written in the opposite order, and lists as tuples."""
    if isinstance(value, Mapping):
        return {name: turned(value[name]) for name in reversed(list(value))}
    return tuple(turned(item) for item in value) if isinstance(value, list) else value


def strict(value: object) -> object:
    """A form in which True is not 1, as they are not the same setting."""
    if isinstance(value, Mapping):
        return {name: strict(item) for name, item in value.items()}
    if isinstance(value, list):
        return [strict(item) for item in value]
    return (isinstance(value, bool), value)


@given(OPTIONS)
def test_equal_settings_in_any_order_are_one_key(options: dict[str, Any]) -> None:
    same = made(replace(PLAIN, options=turned(options)))
    assert made(replace(PLAIN, options=options)).key == same.key


@given(OPTIONS, OPTIONS)
def test_any_changed_option_is_another_key(one: dict[str, Any], two: dict[str, Any]) -> None:
    assume(strict(one) != strict(two))
    assert made(replace(PLAIN, options=one)).key != made(replace(PLAIN, options=two)).key


CHANGES: list[tuple[Provider, dict[str, Any]]] = [
    (PLAIN, {"model_id": MODEL.replace("1", "2"), "product": "ocr", "rag": True, "polygon": False}),
    (PLAIN, {"text_context": "x", "confidence": False, "data_schema": [{"name": "a"}], "raw_text": True}),
    (MindeeV1(endpoint="invoices", version="4"), {"endpoint": "receipts", "version": "5", "cropper": True}),
    (NuMind(template={"a": "number"}), {"template": {"a": "string"}, "temperature": 0.5, "timeout": "10m"}),
    (Unsiloed(schema_data={"type": "object"}), {"schema_data": {"type": "array"}, "enable_citations": True}),
]


@pytest.mark.parametrize(
    ("provider", "name", "value"),
    [(provider, name, value) for provider, changes in CHANGES for name, value in changes.items()],
)
def test_any_changed_setting_is_another_key(provider: Provider, name: str, value: object) -> None:
    assert made(provider).key != made(changed(provider, {name: value})).key


WEBHOOK = "22222222-2222-4222-8222-222222222222"
SCHEMA = {"fields": [{"name": "total", "type": "number"}, {"name": "paid", "type": "boolean"}]}
OBJECT = {"type": "object", "properties": {"total": {"type": "number"}}}
V1 = MindeeV1(endpoint="invoices", version="4")
BY_TEMPLATE = NuMind(template={"total": "number"})
EXTRACT = Unsiloed(schema_data=OBJECT)
PARSE = Unsiloed(product="parse")
CLASSIFY = Unsiloed(product="classify", categories=["invoice"])

TRANSPORT: list[tuple[Provider, dict[str, Any]]] = [
    (PLAIN, {"send": "base64"}),
    (PLAIN, {"webhook_ids": [WEBHOOK]}),
    (PLAIN, {"alias": "order-42"}),
    (PLAIN, {"filename": "a.pdf"}),
    (PLAIN, {"options": {"webhook_ids": [WEBHOOK], "alias": "order-42"}}),
    (V1, {"send": "base64"}),
    (BY_TEMPLATE, {"upload": "multipart"}),
    (BY_TEMPLATE, {"organization": "acme"}),
    (EXTRACT, {"routes": "jobs"}),
]


@pytest.mark.parametrize(("provider", "settings"), TRANSPORT, ids=str)
def test_how_a_document_travels_is_no_part_of_the_key(provider: Provider, settings: dict[str, Any]) -> None:
    assert made(changed(provider, settings)).key == made(provider).key


class Kind(str, Enum):
    OCR = "ocr"


SAME: list[tuple[Provider, dict[str, Any], dict[str, Any]]] = [
    (PLAIN, {"data_schema": {"replace": SCHEMA}}, {"data_schema": json.dumps({"replace": SCHEMA}, indent=4)}),
    (PLAIN, {"data_schema": {"replace": SCHEMA}}, {"data_schema": json.dumps(turned(SCHEMA))}),
    (PLAIN, {"data_schema": SCHEMA}, {"data_schema": SCHEMA["fields"]}),
    (PLAIN, {"data_schema": SCHEMA}, {"options": {"data_schema": json.dumps(SCHEMA)}}),
    (PLAIN, {"rag": True}, {"options": {"rag": "true"}}),
    (PLAIN, {"rag": None, "options": {}}, {"rag": True, "options": {"rag": None}}),
    (PLAIN, {"product": "ocr"}, {"product": Kind.OCR}),
    (PLAIN, {"model_id": "AB" + MODEL[2:]}, {"model_id": "ab" + MODEL[2:]}),
    (V1, {"version": "4"}, {"version": "v4"}),
    (V1, {}, {"rag": False, "cropper": False, "full_text_ocr": False, "include_mvision": False}),
    (V1, {"cropper": True}, {"options": {"cropper": "true"}}),
    (BY_TEMPLATE, {}, {"instructions": "", "examples": []}),
    (BY_TEMPLATE, {"max_output_tokens": 500, "dpi": 300}, {"max_output_tokens": "500", "dpi": "300"}),
    (BY_TEMPLATE, {"max_output_tokens": 500}, {"options": {"maxOutputTokens": "500"}}),
    (BY_TEMPLATE, {"temperature": 1}, {"temperature": 1.0}),
    (BY_TEMPLATE, {"timeout": "10m"}, {"timeout": "600s"}),
    (EXTRACT, {}, {"schema_data": json.dumps(turned(OBJECT), indent=1)}),
    (EXTRACT, {"enable_citations": True}, {"options": {"enable_citations": "true"}}),
    (
        PARSE,
        {"segment_analysis": {"Table": {"a": 1}}},
        {"options": {"segment_analysis": '{"Table":{"a":1}}'}},
    ),
    (PARSE, {"validate_segments": ["Table", "Text"]}, {"validate_segments": ("Table", "Text")}),
    (PARSE, {}, {"options": {"export_format": None}}),
    (CLASSIFY, {"categories": ["invoice", "receipt"]}, {"categories": ["invoice", {"name": "receipt"}]}),
]


@pytest.mark.parametrize(("provider", "one", "two"), SAME, ids=str)
def test_settings_that_mean_the_same_are_one_key(
    provider: Provider, one: dict[str, Any], two: dict[str, Any]
) -> None:
    assert made(changed(provider, one)).key == made(changed(provider, two)).key


@pytest.mark.parametrize("text", ["NaN", "[" * 5_000, "{"])
def test_a_setting_that_is_nearly_json_is_a_text(text: str) -> None:
    assert made(changed(PARSE, {"page_range": text})).key != made(PARSE).key


UNSET: list[tuple[Provider, str]] = [
    (provider, setting.name)
    for provider in (PLAIN, V1, BY_TEMPLATE, PARSE)
    for setting in fields(provider)
    if getattr(provider, setting.name) is None and not setting.metadata.get("transport")
]
"""A setting counts unless its provider says that it only decides how a document travels."""


@pytest.mark.parametrize(("provider", "name"), UNSET, ids=lambda value: getattr(value, "name", value))
def test_every_other_setting_is_part_of_the_key(provider: Provider, name: str) -> None:
    try:
        told = changed(provider, {name: {"a": 1}})
    except ConfigurationError:
        pytest.skip("it goes with other settings only")
    assert made(told).key != made(provider).key


@pytest.mark.parametrize(
    "facts", [{"base_url": "https://other.test"}, {"tenant": "evil"}, {"sha256": "cd" * 32}], ids=str
)
def test_another_account_or_content_is_another_key(facts: dict[str, Any]) -> None:
    assert made(**facts).key != made().key


def test_names_and_runs_are_no_part_of_the_key() -> None:
    renamed = made(name="b.pdf", size=None, flow_run_id="f", task_run_id="t", sha256="AB" * 32)
    assert renamed.key == made().key
    assert (renamed.document_name, renamed.flow_run_id, renamed.task_run_id) == ("b.pdf", "f", "t")


def test_a_url_is_the_same_document_within_one_call_only() -> None:
    one = made(sha256=None, url="https://files.test/a.pdf", scope="call-1")
    assert one.key == made(sha256=None, url="https://files.test/a.pdf", scope="call-1").key
    assert one.key != made(sha256=None, url="https://files.test/a.pdf", scope="call-2").key
    assert one.key != made(sha256=None, url="https://files.test/b.pdf", scope="call-1").key
    assert one.document_sha256 is None


@pytest.mark.parametrize("given", [{}, {"url": "https://files.test/a.pdf"}, {"scope": "call-1"}], ids=str)
def test_without_content_a_key_needs_url_and_scope(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"a\.pdf: a key needs"):
        made(sha256=None, **given)


@pytest.mark.parametrize("value", [object(), b"bytes", float("nan"), {1: "a"}])
def test_a_setting_that_is_no_plain_value_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        made(replace(PLAIN, options={"a": value}))


def test_the_key_of_version_one_does_not_change() -> None:
    assert made().key == "7dc0a1e8cfe31a2efda09f1e20d4319aaa1a6093fc007fdd028ce05f03d9022e"
