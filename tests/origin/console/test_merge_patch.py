from __future__ import annotations

from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Struct, UnsetType

from origin.console.merge_patch import apply, diff, diff_structs, encode
from origin.console.state import ConsoleState, EdgeRow, Totals, WorkerRow

# RFC 7396, appendix A.
EXAMPLES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]
names = st.text(max_size=3)
scalars = st.booleans() | st.integers(-5, 5) | st.text(max_size=3)
documents: st.SearchStrategy[Any] = st.recursive(
    scalars | st.lists(scalars | st.none(), max_size=3),
    lambda inner: st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(("document", "patch", "expected"), EXAMPLES)
def test_the_examples_of_the_specification(document: Any, patch: Any, expected: Any) -> None:
    before = deepcopy((document, patch))
    assert apply(document, patch) == expected
    assert (document, patch) == before


@given(documents, documents)
def test_a_difference_applied_is_the_new_document(old: Any, new: Any) -> None:
    assert apply(old, diff(old, new)) == new


@given(st.dictionaries(names, documents, max_size=4))
def test_nothing_changed_is_an_empty_patch(document: dict[str, Any]) -> None:
    assert diff(document, deepcopy(document)) == {}


class Row(Struct, frozen=True):
    text: str
    ratio: float | UnsetType = UNSET
    counts: dict[str, int] = {}


class State(Struct, frozen=True):
    at: int
    row: Row
    many: dict[str, Row] = {}
    words: tuple[str, ...] = ()


rows = st.builds(
    Row, names, st.just(UNSET) | st.floats(0, 1), st.dictionaries(names, st.integers(0, 3))
)
states = st.builds(
    State, st.integers(0, 3), rows, st.dictionaries(names, rows, max_size=4), st.tuples(names)
)


def as_json(value: Any) -> Any:
    return msgspec.json.decode(encode(value))


@given(states, states)
def test_a_difference_of_structs_turns_the_json_of_one_into_that_of_the_other(
    old: State, new: State
) -> None:
    assert apply(as_json(old), as_json(diff_structs(old, new))) == as_json(new)


@given(states)
def test_equal_structs_do_not_differ(state: State) -> None:
    assert diff_structs(state, deepcopy(state)) == {}


def console(busy: int = 1, *, ratio: float | UnsetType = 0.5, **edges: str) -> ConsoleState:
    worker = WorkerRow(
        region="eu", state="ready", model="m", channel="stable", revision="a" * 64, busy=busy
    )
    return ConsoleState(
        at=1.0,
        version="1",
        totals=Totals(hit_ratio=ratio),
        workers={"w1/m": worker},
        edges={name: EdgeRow(region="eu", state=state) for name, state in edges.items()},
    )


def test_only_the_fields_that_changed_are_told() -> None:
    patch = diff_structs(console(1, e1="ready"), console(2, ratio=UNSET, e1="ready"))
    assert as_json(patch) == {"workers": {"w1/m": {"busy": 2}}, "totals": {"hit_ratio": None}}


def test_a_row_that_is_new_is_told_whole_and_one_that_is_gone_as_null() -> None:
    patch = as_json(diff_structs(console(e1="ready"), console(e2="missing")))
    assert patch.keys() == {"edges"}
    assert patch["edges"]["e1"] is None
    assert patch["edges"]["e2"]["state"] == "missing"
    assert patch["edges"]["e2"]["behind"] == {}
