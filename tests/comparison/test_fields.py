"""The values of a result by name, and a tree made of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.answers import leaf, result, tree

from prefect_docjobs.comparison import leaves_of, tree_of, with_value
from prefect_docjobs.comparison.fields import Path, column_of, name_of, path_of
from prefect_docjobs.errors import ConfigurationError
from prefect_docjobs.models import Field

INVOICE = result(
    total=25.5,
    tax=None,
    note=" ",
    supplier={"name": "ACME", "address": {"city": "Bern"}},
    tags=["a", "b"],
    lines=[{"what": "bolt", "price": {"net": 2}}, {"what": "nut", "sizes": [1, 2]}],
).fields


def test_values_are_named_by_their_way_and_what_was_not_found_is_left_out() -> None:
    leaves = leaves_of(INVOICE)
    assert {name: found.value for name, found in leaves.scalars.items()} == {
        "total": 25.5,
        "supplier.name": "ACME",
        "supplier.address.city": "Bern",
        "tags": ["a", "b"],
    }
    assert [{name: cell.value for name, cell in row.items()} for row in leaves.tables["lines"]] == [
        {"what": "bolt", "price.net": 2},
        {"what": "nut", "sizes": [1, 2]},
    ]


def test_a_field_has_the_first_of_its_names_that_has_a_value() -> None:
    names = {"sum": ["tax", "total"], "city": ["supplier.address.city"], "tags": (), "date": ["day"]}
    assert {name: found.value for name, found in leaves_of(INVOICE, names).scalars.items()} == {
        "sum": 25.5,
        "city": "Bern",
        "tags": ["a", "b"],
    }


def test_columns_have_names_too() -> None:
    names = {"items[].text": ["rows[].x", "lines[].what"], "items[].net": ["lines[].price.net"]}
    leaves = leaves_of(INVOICE, names)
    assert leaves.scalars == {}
    assert [{name: cell.value for name, cell in row.items()} for row in leaves.tables["items"]] == [
        {"text": "bolt", "net": 2},
        {"text": "nut"},
    ]


def test_a_list_that_a_service_does_not_have_has_no_rows() -> None:
    assert leaves_of(INVOICE, {"items[].text": ["rows[].x"]}).tables == {}


@pytest.mark.parametrize("name", ["lines[]", "[].what", "lines[]what", "lines[]."])
def test_brackets_need_a_list_before_them_and_a_column_behind(name: str) -> None:
    with pytest.raises(ConfigurationError, match="names no column"):
        leaves_of(INVOICE, {name: ()})


def test_a_tree_is_made_of_ways_again() -> None:
    leaves: dict[Path, Field] = {
        ("a",): leaf(1),
        ("b", "c"): leaf(2),
        ("t", 0, "x"): leaf(3),
        ("t", 1, "y", "z"): leaf(4),
        ("b", "VAT no."): leaf(5),
    }
    assert tree_of(leaves) == {
        "a": leaf(1),
        "b": tree({"c": 2, "VAT no.": 5}),
        "t": tree([{"x": 3}, {"y": {"z": 4}}]),
    }


def test_a_value_is_replaced_where_it_stands_and_nothing_else_changes() -> None:
    changed = with_value(INVOICE, "lines[1].what", leaf("screw", 1.0))
    assert changed["lines"].value == [
        {"what": "bolt", "price": {"net": 2}},
        {"what": "screw", "sizes": [1, 2]},
    ]
    assert {name: field for name, field in changed.items() if name != "lines"} == {
        name: field for name, field in INVOICE.items() if name != "lines"
    }
    assert with_value({"a.b": leaf(1)}, "a.b", leaf(2)) == {"a.b": leaf(2)}


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("P.O. box", {"P.O. box": "new"}),
        ("amount [EUR]", {"amount [EUR]": "new"}),
        ("supplier.VAT no.", {"supplier": {"VAT no.": "new"}}),
        ("lines[0].price incl. VAT", {"lines": [{"price incl. VAT": "new"}]}),
        ("t[0]", {"t[0]": "new"}),
        ("a.b.d", {"a": {"b.d": "new"}}),
    ],
)
def test_names_that_have_dots_and_brackets_themselves_are_found(name: str, after: dict[str, Any]) -> None:
    before: dict[str, Any] = {
        "P.O. box": 1,
        "amount [EUR]": 2,
        "supplier": {"VAT no.": 3},
        "lines": [{"price incl. VAT": 4}],
        "t[0]": 5,
        "a.b": {"c": 6},
        "a": {"b.d": 7},
    }
    assert with_value(result(**before).fields, name, leaf("new")) == result(**{**before, **after}).fields


_words = st.sampled_from(["a", "b", "a.b", "VAT no.", "incl. VAT", "[EUR]", "a[0]", "P.O", ".", "", " a "])
_trees = st.recursive(
    st.integers(),
    lambda inner: (
        st.dictionaries(_words, inner, min_size=1, max_size=3)
        | st.lists(st.dictionaries(_words, st.integers(), min_size=1, max_size=2), min_size=1, max_size=2)
    ),
    max_leaves=6,
)


@given(st.dictionaries(_words, _trees, min_size=1, max_size=3), st.data())
def test_every_value_can_be_replaced_by_its_name_whatever_that_has_in_it(
    plain: dict[str, Any], data: st.DataObject
) -> None:
    fields = result(**plain).fields
    ends = list(_ends(fields))
    ways = {path[:length] for path in ends for length in range(1, len(path) + 1)}
    assume(len(set(map(name_of, ways))) == len(ways))  # `a.b` may be one field, and b in a another
    path = data.draw(st.sampled_from(ends))
    changed = with_value(fields, name_of(path), leaf("new"))
    assert list(_ends(changed)) == ends
    assert [end for end in ends if _at(changed, end) != _at(fields, end)] == [path]


def _ends(fields: dict[str, Field], path: Path = ()) -> Iterator[Path]:
    for name, child in fields.items():
        if child.fields is not None:
            yield from _ends(child.fields, (*path, name))
        for index, item in enumerate(child.items or ()):
            yield from _ends(item.fields or {}, (*path, name, index))
        if child.fields is None and child.items is None:
            yield (*path, name)


def _at(fields: dict[str, Field], path: Path) -> Any:
    value: Any = Field(fields=fields).value
    for step in path:
        value = value[step]
    return value


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("new", {"new": 1}),
        ("new.deep[1].x", {"new": {"deep": [{}, {"x": 1}]}}),
        ("supplier.IBAN", {"supplier": {"VAT no.": 3, "IBAN": 1}}),
        ("lines[1].price incl. VAT", {"lines": [{"price incl. VAT": 4}, {"price incl. VAT": 1}]}),
        ("tax.VAT no.", {"tax": {"VAT no.": 1}}),
        ("amount [EUR]", {"amount [EUR]": 1}),
    ],
)
def test_what_leads_to_a_value_is_made_where_it_is_missing(name: str, changed: dict[str, Any]) -> None:
    before: dict[str, Any] = {"supplier": {"VAT no.": 3}, "lines": [{"price incl. VAT": 4}]}
    assert with_value(result(**before).fields, name, leaf(1)) == result(**{**before, **changed}).fields


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("total", ("total",)),
        ("supplier.name", ("supplier", "name")),
        ("t[0].x[1][2]", ("t", 0, "x", 1, 2)),
        ("price incl. VAT", ("price incl. VAT",)),
        ("supplier.VAT no.", ("supplier", "VAT no.")),
        ("amount [EUR].net", ("amount [EUR]", "net")),
        ("t[0]x", ("t[0]x",)),
        ("[0]", ("[0]",)),
        ("", ("",)),
    ],
)
def test_a_name_is_read_as_the_way_that_it_most_likely_means(name: str, path: Path) -> None:
    assert path_of(name) == path
    assert name_of(path) == name


def test_the_column_of_a_cell_has_no_index() -> None:
    assert column_of("lines[12].price.net") == "lines[].price.net"
    assert column_of("total") == "total"
