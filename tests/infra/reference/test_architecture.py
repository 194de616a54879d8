"""The picture shows what is imported, and no arrow goes up."""

from __future__ import annotations

from xml.etree import ElementTree

from infra.reference.architecture import draw_architecture, imports, room_of, upward


def test_no_arrow_goes_up_and_the_planes_do_not_meet() -> None:
    edges = imports()
    assert upward(edges) == []
    assert ("edge_tier.cache", "edge_tier.gateway") not in edges
    assert ("edge_tier.gateway", "edge_tier.cache") not in edges
    assert edges["infra", "origin"] > 5
    assert {b for a, b in edges if a == "wire"} == set()


def test_an_arrow_up_would_be_seen() -> None:
    edges = imports()
    edges["wire", "origin"] += 1
    assert upward(edges) == [("wire", "origin")]


def test_a_module_is_in_its_innermost_room() -> None:
    assert room_of("edge_tier.gateway.relay") == "edge_tier.gateway"
    assert room_of("edge_tier.app") == "edge_tier"
    assert room_of("aiohttp.web") == ""


def test_the_picture_is_one() -> None:
    root = ElementTree.fromstring(draw_architecture())
    assert root.tag.endswith("svg")
    assert sum(1 for one in root.iter() if one.tag.endswith("rect")) == 7
