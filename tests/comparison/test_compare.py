"""Agreement, alignment and consensus: what holds for any results, and what is said of some."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.answers import delivered, leaf, result, tree

from prefect_docjobs.comparison import (
    Acceptance,
    Consensus,
    FieldComparison,
    Scoreboard,
    VotingRule,
    align,
    compare_results,
    consensus_of,
    leaves_of,
)
from prefect_docjobs.comparison.fields import Leaves
from prefect_docjobs.comparison.values import auto
from prefect_docjobs.errors import ConfigurationError, Reason
from prefect_docjobs.models import Outcome, Phase, Result, Usage

_scalar = st.builds(
    leaf,
    st.sampled_from([1, "1.0", 2.5, "2,50", "Acme", "ACME ", "2026-11-05", "5.11.2026", None, ""]),
    st.sampled_from([None, 0.0, 0.3, 0.9]),
)
_row = st.dictionaries(st.sampled_from(["what", "amount", "unit"]), _scalar, min_size=1, max_size=3)
_supplier = st.fixed_dictionaries({"name": _scalar})
_some = {"total": _scalar, "date": _scalar, "supplier": _supplier, "lines": st.lists(_row, max_size=4)}
_fields = st.fixed_dictionaries({}, optional=_some)
documents = st.builds(lambda fields: result(**fields), _fields)
by_service = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), documents, min_size=1, max_size=4)
rules = st.builds(
    VotingRule,
    share=st.sampled_from([0.0, 0.5, 0.9]),
    quorum=st.integers(1, 3),
    weighting=st.sampled_from(["equal", "confidence"]),
)


def by_name(compared: list[FieldComparison]) -> dict[str, FieldComparison]:
    return {each.field: each for each in compared}


def canonical(consensus: Consensus) -> tuple[Any, ...]:
    """Without the order of the fields, which is that of the results."""
    return (consensus.services, consensus.fields, by_name(list(consensus.conflicts)))


def with_something(leaves: Leaves) -> list[Any]:
    """Rows in which something was found, with their places."""
    tables = leaves.tables.items()
    return [(name, place, row) for name, rows in tables for place, row in enumerate(rows) if row]


@given(by_service, rules)
def test_the_order_of_the_services_does_not_count(results: dict[str, Result], rule: VotingRule) -> None:
    turned = dict(reversed(results.items()))
    assert by_name(compare_results(results)) == by_name(compare_results(turned))
    assert canonical(consensus_of(results, rule=rule)) == canonical(consensus_of(turned, rule=rule))


@given(documents, st.integers(1, 4), rules)
def test_the_consensus_of_equal_results_is_that_result(found: Result, number: int, rule: VotingRule) -> None:
    same = {f"service {index}": found for index in range(number)}
    consensus = consensus_of(same, rule=rule)
    assert consensus.conflicts == ()
    again, before = leaves_of(consensus.tree()), leaves_of(found.fields)
    assert again.scalars == before.scalars
    assert with_something(again) == with_something(before)
    assert all(agreed.services == tuple(sorted(same)) for agreed in consensus.fields.values())


@given(by_service)
def test_every_value_that_was_found_is_in_one_candidate(results: dict[str, Result]) -> None:
    compared = compare_results(results)
    for comparison in compared:
        speakers = [service for candidate in comparison.candidates for service in candidate.services]
        assert sorted([*speakers, *comparison.silent]) == sorted(results)
        for candidate in comparison.candidates:
            assert len({auto(answer.value) for answer in candidate.answers}) == 1
    for service, found in results.items():
        leaves = leaves_of(found.fields)
        number = len(leaves.scalars) + sum(len(row) for rows in leaves.tables.values() for row in rows)
        assert sum(comparison.answer(service) is not None for comparison in compared) == number


@given(by_service)
def test_agreement_is_a_share_of_those_that_found_something(results: dict[str, Result]) -> None:
    for comparison in compare_results(results):
        assert comparison.agreement is None or 0 < comparison.agreement <= 1
        assert comparison.is_unanimous == (comparison.agreement in (None, 1.0))


@given(st.lists(st.integers(), unique=True, max_size=8), st.randoms())
def test_equal_rows_are_matched_in_any_order(numbers: list[int], random: Any) -> None:
    rows = [{"number": leaf(number), "unit": leaf("pcs")} for number in numbers]
    lines = align({"a": rows, "b": random.sample(rows, len(rows))}, {"number": auto, "unit": auto})
    assert [line["a"] for line in lines] == rows
    assert [line["b"] for line in lines] == rows


def test_names_with_dots_and_brackets_keep_their_places_in_the_tree() -> None:
    named: dict[str, Any] = {
        "P.O. box": 1,
        "amount [EUR]": 2,
        "supplier": {"VAT no.": 3},
        "lines": [{"price incl. VAT": 4}],
        "a.b": [{"c.d": 5}],
    }
    found = result(**named)
    consensus = consensus_of({"a": found, "b": found})
    assert consensus.tree() == found.fields
    assert consensus_of({"a": found}, names={"P.O. box": (), "a.b[].c.d": ()}).tree() == {
        "P.O. box": leaf(1),
        "a.b": tree([{"c.d": 5}]),
    }


def test_a_value_that_one_service_nests_and_another_names_by_its_way_is_one_value_nested() -> None:
    by_its_way: dict[str, Any] = {"supplier.name": "ACME"}
    results = {"a": result(**by_its_way), "b": result(supplier={"name": "Acme"})}
    for some in (results, dict(reversed(results.items()))):
        consensus = consensus_of(some)
        assert consensus.values() == {"supplier.name": "ACME"}
        assert consensus.tree() == {"supplier": tree({"name": "ACME"})}


def test_what_a_person_decides_comes_into_the_tree_at_its_place() -> None:
    def one(number: str) -> Result:
        return result(supplier={"P.O. box": number, "name": "ACME"}, lines=[{"no.": "1", "P.O. x": number}])

    consensus = consensus_of({"a": one("1"), "b": one("2")})
    assert {conflict.field for conflict in consensus.conflicts} == {"supplier.P.O. box", "lines[0].P.O. x"}
    decided = {
        "supplier.P.O. box": leaf(3),
        "lines[0].P.O. x": leaf(4),
        "lines[0].no.": leaf(5),
        "new": leaf(6),
    }
    assert {name: field.value for name, field in consensus.tree(decided).items()} == {
        "supplier": {"name": "ACME", "P.O. box": 3},
        "lines": [{"no.": 5, "P.O. x": 4}],
        "new": 6,
    }


def test_two_of_three_win_and_the_third_is_told() -> None:
    consensus = consensus_of(
        {
            "mindee": result(total=leaf(25.5, 0.6, page=1)),
            "numind": result(total="25.50"),
            "unsiloed": result(total=leaf(26.5, 0.9)),
        }
    )
    agreed = consensus.fields["total"]
    assert (agreed.value, agreed.services, agreed.confidence) == (
        25.5,
        ("mindee", "numind"),
        0.6,
    )
    assert [candidate.value for candidate in agreed.others] == [26.5]
    assert consensus.tree()["total"].locations[0].page == 1


def test_a_tie_is_a_conflict_with_all_that_a_person_needs() -> None:
    results = {"mindee": result(total=leaf(25.5, 0.6, page=2)), "numind": result(total=26.5)}
    consensus = consensus_of(results)
    assert consensus.fields == {}
    (conflict,) = consensus.conflicts
    assert [str(answer) for each in conflict.candidates for answer in each.answers] == [
        "mindee: 25.5 (confidence 0.6, page 2)",
        "numind: 26.5",
    ]


def test_most_is_not_enough_unless_told_so() -> None:
    votes = dict(zip("abcd", (result(x=value) for value in (1, 1, 2, 3)), strict=True))
    assert [conflict.field for conflict in consensus_of(votes).conflicts] == ["x"]
    assert consensus_of(votes, rule=VotingRule(share=0.4)).values() == {"x": 1}
    tied = dict(zip("abcd", (result(x=value) for value in (1, 1, 2, 2)), strict=True))
    assert consensus_of(tied, rule=VotingRule(share=0.0)).conflicts


def test_confidence_may_weigh() -> None:
    results = {"a": result(x=leaf(1, 0.9)), "b": result(x=leaf(2, 0.1)), "c": result(x=leaf(2, 0.2))}
    assert consensus_of(results).values() == {"x": 2}
    assert consensus_of(results, rule=VotingRule(weighting="confidence")).values() == {"x": 1}


def test_what_one_of_several_found_needs_a_second_with_a_quorum() -> None:
    results = {"a": result(x=1), "b": result(y=2), "c": result(y=2)}
    consensus = consensus_of(results, rule=VotingRule(quorum=2))
    assert consensus.values() == {"y": 2}
    assert [conflict.field for conflict in consensus.conflicts] == ["x"]
    assert consensus_of({"a": result(x=1)}, rule=VotingRule(quorum=2)).values() == {"x": 1}


def test_lines_are_matched_by_what_they_share_whatever_their_names_and_order() -> None:
    names = {
        "lines[].text": ["items[].description"],
        "lines[].amount": ["items[].total"],
    }
    one = result(lines=[{"text": "Steel bolt", "amount": 2}, {"text": "Nut", "amount": "3.00"}])
    other = result(items=[{"description": "Nut", "total": 3}, {"description": "Bolt, steel", "total": 2.0}])
    compared = by_name(compare_results({"a": one, "b": other}, names=names))
    assert compared["lines[0].amount"].agreement == 1.0
    assert compared["lines[0].text"].agreement == 0.5
    assert compared["lines[1].text"].agreement == 1.0


def test_a_line_that_nobody_else_has_stands_alone() -> None:
    one = result(lines=[{"text": "Nut", "amount": 3}])
    other = result(lines=[{"text": "Nut", "amount": 3}, {"text": "Freight", "amount": 9}])
    compared = by_name(compare_results({"a": one, "b": other}))
    assert compared["lines[1].amount"].silent == ("a",)
    assert len(compared) == 4


def test_named_fields_that_nobody_found_are_compared_too() -> None:
    (comparison,) = compare_results({"a": result(x=1)}, names={"date": ["day"]})
    assert (comparison.field, comparison.candidates, comparison.agreement) == ("date", (), None)


def test_comparators_go_by_field() -> None:
    results = {"a": result(x="5/6/2026", n=[{"q": "1.0"}]), "b": result(x="2026-05-06", n=[{"q": "1"}])}
    given = {"x": "date_month_first", "n[].q": "text"}
    compared = by_name(compare_results(results, comparators=given))  # type: ignore[arg-type]
    assert compared["x"].agreement == 1.0
    assert {name: each.found for name, each in compared.items() if "q" in name} == {"n[0].q": 1, "n[1].q": 1}


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no comparator 'fuzzy'"):
        compare_results({"a": result(x=1)}, comparators={"x": "fuzzy"})  # type: ignore[dict-item]
    with pytest.raises(ConfigurationError, match="share"):
        VotingRule(share=1.0)
    with pytest.raises(ConfigurationError, match="quorum"):
        VotingRule(quorum=0)


def test_doubts_are_conflicts_then_what_is_missing_then_what_is_unsure() -> None:
    results = {
        "a": result(total=1, date=leaf("2026-01-01", 0.4), note=leaf("x", 0.1), iban=leaf("CH1", 0.95)),
        "b": result(total=2),
    }
    accept = Acceptance(required=("number", "total"), min_confidence=0.8, of=("date", "iban"))
    doubts = accept.doubts(consensus_of(results))
    assert [(doubt.field, doubt.why) for doubt in doubts] == [
        ("total", "conflict"),
        ("number", "missing"),
        ("date", "low_confidence"),
    ]
    assert doubts[2].proposed
    assert doubts[2].sentence == "The confidence 0.4 is below 0.8."
    assert Acceptance().doubts_of(results["a"]) == []


def test_a_column_may_be_required() -> None:
    accept = Acceptance(required=("lines[].amount", "lines[].unit"))
    doubts = accept.doubts_of(result(lines=[{"amount": 1}, {"amount": 2}]))
    assert [doubt.field for doubt in doubts] == ["lines[].unit"]


def test_an_object_and_a_list_are_found_when_anything_in_them_is() -> None:
    some: dict[str, Any] = {
        "supplier": {"address": {"city": "Bern"}},
        "lines": [{"what": None}, {"what": "bolt"}],
        "a.b": {"c": 1},
        "VAT no.": {"of us": 1},
    }
    names = ("supplier", "supplier.address", "lines", "lines[1]", "a", "a.b", "VAT no.")
    assert Acceptance(required=names).doubts_of(result(**some)) == []


def test_an_object_and_a_list_are_missing_when_nothing_in_them_is_found() -> None:
    some: dict[str, Any] = {"buyer": {"name": None}, "lines": [{}], "supplier": {"VAT no.": 1}, "VAT no.": 1}
    names = ("buyer", "lines", "lines[0]", "line", "supp", "supplier.name", "VAT no")
    doubts = Acceptance(required=names).doubts_of(result(**some))
    assert [(doubt.field, doubt.why) for doubt in doubts] == [(name, "missing") for name in names]


def test_an_object_in_conflict_is_not_missing() -> None:
    results = {"a": result(supplier={"name": "ACME"}), "b": result(supplier={"name": "Emca"})}
    doubts = Acceptance(required=("supplier",)).doubts(consensus_of(results))
    assert [(doubt.field, doubt.why) for doubt in doubts] == [("supplier.name", "conflict")]


def test_an_object_and_a_list_count_with_all_that_is_in_them() -> None:
    found = result(
        total=leaf(1, 0.1), supplier={"name": leaf("ACME", 0.2)}, lines=[{"what": leaf("bolt", 0.3)}]
    )
    doubts = Acceptance(min_confidence=0.9, of=("supplier", "lines")).doubts_of(found)
    assert [doubt.field for doubt in doubts] == ["supplier.name", "lines[0].what"]


@given(by_service, st.sampled_from([None, 0.0, 0.5, 1.0]))
def test_a_higher_demand_never_has_fewer_doubts(results: dict[str, Result], low: float | None) -> None:
    consensus = consensus_of(results)
    demands = [low, *(step for step in (0.5, 1.0) if low is None or step > low)]
    numbers = [len(Acceptance(min_confidence=demand).doubts(consensus)) for demand in demands]
    assert all(fewer <= more for fewer, more in itertools.pairwise(numbers))


# ------------------------------------------------------------------------------------- scoreboard


def scored(*documents: dict[str, Outcome]) -> dict[str, dict[str, object]]:
    board = Scoreboard(["a", "b", "c"])
    for outcomes in documents:
        results = {name: each.result for name, each in outcomes.items() if each.result}
        board.add(outcomes, compare_results(results))
    return {row["service"]: row for row in board.rows()}


def of(value: int, *, seconds: float = 1.0, usage: Usage | None = None) -> Outcome:
    found: Result = result(x=value, usage=usage)
    return delivered(found, seconds)


def test_a_service_agrees_where_it_has_the_value_that_won() -> None:
    rows = scored({"a": of(1), "b": of(1), "c": of(2)}, {"a": of(3), "b": of(3), "c": of(3)})
    assert [rows[name]["agreement"] for name in "abc"] == [1.0, 1.0, 0.5]


def test_a_field_that_one_alone_found_or_that_is_tied_says_nothing_of_agreement() -> None:
    rows = scored({"a": of(1), "b": of(2)})
    assert [rows[name]["agreement"] for name in "ab"] == [None, None]
    assert [rows[name]["fields"] for name in "abc"] == [1, 1, 0]


def test_times_are_of_what_was_bought_and_costs_of_what_was_told() -> None:
    slow = [of(1, seconds=seconds, usage=Usage(pages=2)) for seconds in (1.0, 2.0, 9.0)]
    known = of(1, seconds=0.0).model_copy(update={"reused": True})
    failed = Outcome(document="a.pdf", phase=Phase.WAIT, reason=Reason.FAILED)
    rows = scored(*({"a": each, "b": failed} for each in [*slow, known]))
    assert (rows["a"]["seconds_p50"], rows["a"]["seconds_p95"]) == (2.0, 9.0)
    assert (rows["a"]["pages"], rows["a"]["credits"]) == (6, None)
    assert (rows["b"]["delivered"], rows["b"]["reasons"], rows["b"]["seconds_p50"]) == (
        0,
        {"failed": 4},
        None,
    )
