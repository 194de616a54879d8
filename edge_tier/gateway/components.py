"""Circles in a graph: its strongly connected components."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def components(graph: Mapping[Node, Sequence[Node]]) -> Iterator[list[Node]]:
    """Strongly connected components, each after all that it leads to (Tarjan 1972), unrecursed."""
    order: dict[Node, int] = {}
    places: dict[Node, int] = {}
    low: dict[Node, int] = {}
    done: set[Node] = set()
    path: list[Node] = []
    for root in graph:
        if root in order:
            continue
        order[root] = low[root] = len(order)
        places[root] = len(path)
        path.append(root)
        work = [(root, iter(graph[root]))]
        while work:
            node, rest = work[-1]
            for other in rest:
                if other not in order:
                    order[other] = low[other] = len(order)
                    places[other] = len(path)
                    path.append(other)
                    work.append((other, iter(graph[other])))
                    break
                if other not in done:
                    low[node] = min(low[node], order[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    component = path[places[node] :]
                    del path[places[node] :]
                    done.update(component)
                    yield component
