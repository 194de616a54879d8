"""The picture shows every room and every import, in its place and legibly."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from infra.reference.architecture import draw_architecture
from infra.reference.import_graph import Graph, read_graph

_SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Our own code's."""
    return read_graph()


def drawn(of: Graph) -> Element:
    return ElementTree.fromstring(draw_architecture(of))


def texts(picture: Element, kind: str) -> list[str]:
    found = [e.text or "" for e in picture.iter(f"{_SVG}text") if e.get("class") == kind]
    return [text.replace("\N{NO-BREAK SPACE}", " ") for text in found]


def boxes(picture: Element, kind: str) -> list[tuple[int, int, int, int]]:
    """Left, top, right, bottom."""
    rects = [e for e in picture.iter(f"{_SVG}rect") if e.get("class") == kind]
    sides = [[int(e.attrib[name]) for name in ("x", "y", "width", "height")] for e in rects]
    return [(x, y, x + w, y + h) for x, y, w, h in sides]


def test_every_frame_and_room_is_there(graph: Graph) -> None:
    picture = drawn(graph)
    frames = [room for room in graph.sizes if "." not in room]
    inner = sorted(room.partition(".")[2] for room in graph.sizes if "." in room)
    assert sorted(texts(picture, "title")) == sorted(frames)
    assert sorted(texts(picture, "name")) == sorted([*inner, *["its own files"] * len(frames)])
    assert len(boxes(picture, "room")) == len(graph.sizes)


def test_rooms_lie_apart_and_in_a_frame_and_lines_in_their_rooms(graph: Graph) -> None:
    picture = drawn(graph)
    rooms, frames = boxes(picture, "room"), boxes(picture, "frame")
    for left, top, right, bottom in rooms:
        around = [
            f for f in frames if f[0] < left and f[1] < top and right < f[2] and bottom < f[3]
        ]
        assert len(around) == 1
    for group in (rooms, frames):
        for number, (left, top, right, bottom) in enumerate(group):
            for other in group[:number]:
                beside = right < other[0] or other[2] < left
                assert beside or bottom < other[1] or other[3] < top
    for text in picture.iter(f"{_SVG}text"):
        if text.get("class") in {"part", "takes"}:
            x, y = int(text.attrib["x"]), int(text.attrib["y"])
            end = x + 6 * len(text.text or "")
            assert any(r[0] < x and end < r[2] and r[1] < y < r[3] for r in rooms), text.text


def test_numbers_are_those_of_the_imports(graph: Graph) -> None:
    picture = drawn(graph)
    counts = texts(picture, "count")
    for number in graph.frames.values():
        assert str(number) in counts
    both = (graph.rooms["origin.console", "origin"], graph.rooms["origin", "origin.console"])
    assert f"{both[0]} ↓  {both[1]} ↑" in counts
    taken = " ".join(texts(picture, "takes"))
    assert f"edge_tier.gateway {graph.rooms['infra.commands', 'edge_tier.gateway']}" in taken


def test_a_mistake_is_seen(graph: Graph) -> None:
    picture = drawn(graph)
    assert [e for e in picture.iter(f"{_SVG}path") if e.get("class") == "wrong"] == []
    bad = [
        replace(m, imports=m.imports | {"origin.app"}) if m.name == "wire.chunk" else m
        for m in graph.modules
    ]
    picture = drawn(Graph(bad))
    assert len([e for e in picture.iter(f"{_SVG}path") if e.get("class") == "wrong"]) == 1
    assert "wire imports origin" in (picture.findtext(f"{_SVG}desc") or "")


def test_it_is_told_in_words_and_always_the_same(graph: Graph) -> None:
    picture = drawn(graph)
    named = (picture.get("aria-labelledby") or "").split()
    assert {e.get("id") for e in picture if e.tag in {f"{_SVG}title", f"{_SVG}desc"}} == set(named)
    assert "infra imports wire in" in (picture.findtext(f"{_SVG}desc") or "")
    assert draw_architecture(graph) == draw_architecture(graph)
