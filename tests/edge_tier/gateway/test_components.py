"""Strongly connected components, against what reaches what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.components import components

NODES = range(7)
GRAPHS = st.fixed_dictionaries({node: st.lists(st.sampled_from(NODES)) for node in NODES})


def reached_from(graph: dict[int, list[int]], start: int) -> set[int]:
    found, waiting = {start}, [start]
    while waiting:
        more = set(graph[waiting.pop()]) - found
        found |= more
        waiting += more
    return found


@given(GRAPHS)
def test_nodes_that_reach_each_other_are_one_component(graph: dict[int, list[int]]) -> None:
    reach = {node: reached_from(graph, node) for node in NODES}
    found = {frozenset(component) for component in components(graph)}

    assert found == {frozenset(o for o in reach[n] if n in reach[o]) for n in NODES}


@given(GRAPHS)
def test_a_component_comes_after_all_that_it_leads_to(graph: dict[int, list[int]]) -> None:
    seen: set[int] = set()
    for component in components(graph):
        seen.update(component)
        assert all(reached_from(graph, node) <= seen for node in component)
    assert seen == set(NODES)


def test_a_long_chain_needs_no_recursion() -> None:
    graph = {node: [node + 1] for node in range(20_000)} | {20_000: [0]}

    assert len(next(components(graph))) == 20_001
