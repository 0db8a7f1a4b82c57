"""The values of a result by name, and a tree made of them."""

from __future__ import annotations

import pytest
from support.answers import leaf, result, tree

from prefect_docjobs.comparison import leaves_of, tree_of, with_value
from prefect_docjobs.comparison.leaves import column_of
from prefect_docjobs.errors import ConfigurationError

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


def test_a_tree_is_made_of_names_again() -> None:
    leaves = {"a": leaf(1), "b.c": leaf(2), "t[0].x": leaf(3), "t[1].y.z": leaf(4)}
    assert tree_of(leaves) == {
        "a": leaf(1),
        "b": tree({"c": 2}),
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


def test_the_column_of_a_cell_has_no_index() -> None:
    assert column_of("lines[12].price.net") == "lines[].price.net"
    assert column_of("total") == "total"
