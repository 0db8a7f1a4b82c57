"""The form that a person fills in: its questions, what may be answered, and what that decides."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.answers import delivered, leaf, result

from prefect_docjobs.comparison import Acceptance, Doubt, consensus_of
from prefect_docjobs.flows._review import Decision, OpenDocument, ReviewedDocument, ReviewForm, forms_of
from prefect_docjobs.models import Result

NOW = datetime(2026, 11, 22, tzinfo=timezone.utc)
STRICT = Acceptance(min_confidence=0.95)


def doubts_of(accept: Acceptance = STRICT, **results: Result) -> list[Doubt]:
    return accept.doubts(consensus_of(results))


def asking(*doubts: Doubt, name: str = "a.pdf", sha256: str = "5a") -> OpenDocument:
    return OpenDocument(name=name, sha256=sha256, doubts=doubts)


def unsure(**fields: Any) -> Result:
    """A result with confidences that are low."""
    leaves: dict[str, Any] = {name: leaf(value, 0.5) for name, value in fields.items()}
    return result(**leaves)


def doubts_of_x(found: Iterable[Any]) -> list[Doubt]:
    """Of one field, for which each service found another value, none with much confidence."""
    return STRICT.doubts(consensus_of({f"s{at}": unsure(x=each) for at, each in enumerate(found)}))


def untouched(form: ReviewForm) -> dict[str, Any]:
    """What a browser sends of a form with one document that is as it was shown: all numbers are floats."""
    questions = form.model.model_json_schema()["$defs"]["Review_document_1"]["properties"]
    shown = {name: each["default"] for name, each in questions.items() if "default" in each}
    sent: dict[str, Any] = json.loads(json.dumps(shown), parse_int=float)
    return sent


def decided(form: ReviewForm, **answer: Any) -> dict[str, Any]:
    decisions = form.decisions({"reviewer": "Ann", **answer}, NOW)
    return {decision.field: decision.value for decision in decisions}


@given(st.lists(st.text(min_size=1, max_size=12), unique=True, min_size=1, max_size=6))
def test_every_name_of_a_field_has_a_question_of_its_own(names: list[str]) -> None:
    doubts = doubts_of(Acceptance(required=tuple(names)), a=result(x=1))
    form = ReviewForm([asking(*doubts)])
    schema = form.model.model_json_schema()
    questions = schema["$defs"]["Review_document_1"]["properties"]
    assert [each["title"] for each in questions.values()] == [doubt.field for doubt in doubts]
    assert decided(form, document_1=untouched(form)) == {doubt.field: None for doubt in doubts}


@pytest.mark.parametrize(
    ("field", "question"),
    [
        ("supplier.name", "supplier_name"),
        ("lines[0].amount", "lines_0_amount"),
        ("copy", "field_copy"),
        ("model_x", "field_model_x"),
        ("1st", "field_1st"),
        ("größe", "gr_e"),
        ("%", "field_"),
    ],
)
def test_questions_have_names_that_can_be_typed(field: str, question: str) -> None:
    form = ReviewForm([asking(*doubts_of(Acceptance(required=(field,)), a=result(x=1)))])
    assert decided(form, document_1={question: "yes"}) == {field: "yes"}


@pytest.mark.parametrize(
    ("found", "typed", "value"),
    [
        (25.5, 26.5, 26.5),
        (25.5, None, None),
        (25, 26.0, 26),
        (25, 26.5, 26.5),
        (True, False, False),
        ("Acme", " Acme Ltd ", "Acme Ltd"),
        ("Acme", " ", None),
        ("", "x", "x"),
        (["a"], '["a", "b"]', ["a", "b"]),
        (["a"], "a, b", "a, b"),
        (["a"], "", None),
    ],
)
def test_what_is_typed_is_of_the_kind_that_was_found(found: Any, typed: Any, value: Any) -> None:
    required = Acceptance(required=("x",), min_confidence=0.95)
    form = ReviewForm([asking(*doubts_of(required, a=unsure(x=found)))])
    assert decided(form, document_1={"x": typed}) == {"x": value}


def test_a_number_is_read_where_some_services_found_numbers_and_others_texts() -> None:
    form = ReviewForm([asking(*doubts_of(a=unsure(x=1.5), b=unsure(x="two")))])
    assert decided(form, document_1={"x": "1.234,50 €"}) == {"x": 1234.5}
    assert decided(form, document_1={"x": "three"}) == {"x": "three"}


LONG = 2**53 + 1
"""The first whole number that no float is."""


@pytest.mark.parametrize(
    ("found", "typed", "value"),
    [
        ([731, "00731"], "00731", "00731"),
        ([731, "00731"], " 731 ", 731),
        ([731, "00731"], "00732", "00732"),
        ([731, "x"], "731", 731),
        ([731, "x"], "732", 732),
        ([731, "x"], "731.5", 731.5),
        ([731, "x"], "0.5", 0.5),
        ([731.0, "x"], "731", 731.0),
        ([731, 5.0, "x"], "5", 5.0),
        ([1, 2.0], 2.0, 2.0),
        ([1, 2.5], 3.0, 3),
        ([1.5, 2.5], 3.0, 3.0),
        ([2**53], 2.0**53, 2**53),
        ([LONG], f"{LONG}", LONG),
        ([LONG], f"{LONG + 2}", LONG + 2),
        ([-LONG, 1.5], f"-{LONG}", -LONG),
        ([LONG, 1.5], "1.5", 1.5),
        ([LONG], " ", None),
        ([["a"], "x"], "x", "x"),
        ([[LONG], "x"], f"[{LONG}]", [LONG]),
        ([True, "x"], "true", True),
    ],
)
def test_what_is_typed_is_the_value_that_was_found_or_one_of_its_kind(
    found: list[Any], typed: Any, value: Any
) -> None:
    form = ReviewForm([asking(*doubts_of_x(found))])
    (decision,) = form.decisions({"reviewer": "Ann", "document_1": {"x": typed}}, NOW)
    assert (decision.value, type(decision.value)) == (value, type(value))


@pytest.mark.parametrize("found", [1.0, 7, True, "  Acme ", ["a", "b"], "2026-01-01", LONG, -LONG, 1e300])
def test_leaving_everything_as_it_is_confirms_what_would_be_used(found: Any) -> None:
    form = ReviewForm([asking(*doubts_of(a=unsure(x=found)))])
    (decision,) = form.decisions({"reviewer": " Ann ", "document_1": untouched(form)}, NOW)
    assert decision.value == decision.before == found
    assert type(decision.value) is type(found)
    assert (decision.is_correction, decision.reviewer, decision.source) == (False, "Ann", "human")


@given(
    st.lists(
        st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text()),
        min_size=2,
        max_size=4,
    )
)
def test_whatever_was_found_can_be_confirmed_as_it_was_found(found: list[Any]) -> None:
    for doubt in doubts_of_x([found[0], *found]):  # none where nothing but blanks was found
        form = ReviewForm([asking(doubt)])
        assert doubt.proposed or "x" not in untouched(form)
        if doubt.proposed:
            (decision,) = form.decisions({"reviewer": "Ann", "document_1": untouched(form)}, NOW)
            assert decision.value == doubt.proposed.value
            assert type(decision.value) is type(doubt.proposed.value)


@pytest.mark.parametrize("found", [1.5, True, "Acme", ["a"], LONG])
def test_a_question_that_is_left_out_of_an_answer_is_not_confirmed(found: Any) -> None:
    also_missing = Acceptance(required=("y",), min_confidence=0.95)
    form = ReviewForm([asking(*doubts_of(also_missing, a=unsure(x=found)))])
    filled = untouched(form)
    assert set(filled) == {"x", "y"}
    for name in filled:
        rest = {other: value for other, value in filled.items() if other != name}
        with pytest.raises(ValidationError, match=name):
            decided(form, document_1=rest)


def test_where_no_value_won_the_person_has_to_say_one() -> None:
    form = ReviewForm([asking(*doubts_of(a=result(x=1), b=result(x=2)))])
    with pytest.raises(ValidationError, match="x"):
        decided(form, document_1={})
    assert decided(form, document_1={"x": 2}) == {"x": 2}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"document_1": {}},
        {"document_1": {"x": 1, "y": 1}},
        {"document_1": {"x": 1}, "document_2": {}},
        {"document_1": {"x": 1}, "reviewer": ""},
        {"document_1": {"x": 1}, "reviewer": " "},
        {"document_1": {"x": "much"}},
    ],
)
def test_an_answer_that_does_not_fit_is_refused(answer: dict[str, Any]) -> None:
    form = ReviewForm([asking(*doubts_of(a=unsure(x=1.5)))])
    assert decided(form, document_1={"x": 1}) == {"x": 1}
    with pytest.raises(ValidationError):
        decided(form, **answer)


def test_the_key_of_a_form_is_that_of_its_questions() -> None:
    one, other = asking(*doubts_of(a=unsure(x=1))), asking(*doubts_of(a=unsure(x=1)), sha256="6b")
    assert ReviewForm([one], 1, 2).key == ReviewForm([one], 2, 9).key
    keys = {ReviewForm(documents).key for documents in ([one], [other], [one, other], [other, one])}
    assert len(keys) == 4


def test_forms_have_a_bounded_number_of_documents_in_order() -> None:
    documents = [asking(*doubts_of(a=unsure(x=1)), sha256=str(number)) for number in range(5)]
    forms = forms_of(documents, 2)
    assert [[each.sha256 for each in form.documents] for form in forms] == [["0", "1"], ["2", "3"], ["4"]]
    assert forms[2].description.startswith("Form 3 of 3, 1 document.")


def test_a_correction_reaches_a_field_whose_name_has_dots() -> None:
    found = result(supplier={"VAT no.": "old"}, lines=[{"price incl. VAT": 3}])
    given = {"supplier.VAT no.": "new", "lines[0].price incl. VAT": 4}
    decisions = {name: _decision(name, value) for name, value in given.items()}
    document = ReviewedDocument({"a": delivered(found)}, consensus_of({"a": found}), decisions)
    reviewed = document.outcome().result
    assert reviewed
    assert {name: field.value for name, field in reviewed.fields.items()} == {
        "supplier": {"VAT no.": "new"},
        "lines": [{"price incl. VAT": 4}],
    }


def test_a_single_services_result_keeps_all_that_nobody_corrected() -> None:
    found = result(x=leaf(1, 0.5, page=2), empty=None, lines=[{"a": 1, "b": None}]).model_copy(
        update={"text": "all of it", "raw": {"as": "sent"}}
    )
    decision = _decision("lines[0].a", 2, before=1)
    document = ReviewedDocument(
        {"a": delivered(found)}, consensus_of({"a": found}), {"lines[0].a": decision, "x": _decision("x", 1)}
    )
    changed = document.outcome().result
    assert changed
    assert {name: field.value for name, field in changed.fields.items()} == {
        "x": 1,
        "empty": None,
        "lines": [{"a": 2, "b": None}],
    }
    assert (changed.text, changed.raw) == ("all of it", {"as": "sent"})
    kept = changed.fields["x"]
    assert (kept.confidence, kept.confidence_label, kept.locations[0].page) == (1.0, "human", 2)


def test_provenance_names_each_field_once_with_its_source() -> None:
    results = {"a": result(x=1, y=1, z=1), "b": result(x=1, y=2, z=2)}
    outcomes = {label: delivered(found) for label, found in results.items()}
    document = ReviewedDocument(outcomes, consensus_of(results), {"y": _decision("y", 2)})
    sources = {line["field"]: (line["source"], line["value"]) for line in document.provenance()}
    assert sources == {"x": ("services", 1), "y": ("human", 2), "z": ("conflict", None)}
    assert document.row()["review.corrected"] == ["y"]
    assert "z" not in document.row()


def _decision(field: str, value: Any, before: Any = None) -> Decision:
    about = {"document": "a.pdf", "sha256": "5a", "why": "conflict", "reviewer": "Ann", "at": NOW}
    return Decision(field=field, value=value, before=before, **about)
