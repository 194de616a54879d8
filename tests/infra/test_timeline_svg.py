from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.waterfall import Waterfall
from infra.timeline_svg import ticks, timeline_svg
from tests.infra.test_timeline import made

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*waterfalls: Waterfall) -> ET.Element:
    return ET.fromstring(timeline_svg(waterfalls))


def bars(root: ET.Element) -> dict[str, tuple[float, float]]:
    """Left edge and width of each bar, by its title's first words."""
    found = {}
    for rect in root.iter(f"{SVG}rect"):
        told = rect.find(f"{SVG}title")
        if told is not None and told.text is not None:
            name = told.text.partition(":")[0]
            found[name] = (float(rect.attrib["x"]), float(rect.attrib["width"]))
    return found


def test_it_says_in_words_what_it_shows() -> None:
    root = drawn(made(), made("roll"))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == "t d"
    told = {element.attrib["id"]: element.text or "" for element in root if "id" in element.attrib}
    assert told["t"] == (
        "Boot of chat, revision 0123456789ab: 2.00 s; Roll of chat, revision 0123456789ab: 2.00 s"
    )
    assert "load from 1.00 s for 1.00 s" in told["d"]
    assert "3.00 MB from edge:7401" in told["d"]


def test_it_follows_the_readers_scheme() -> None:
    (style,) = (element.text or "" for element in drawn(made()) if element.tag == f"{SVG}style")
    assert "prefers-color-scheme:dark" in style


def test_bars_stand_in_proportion() -> None:
    found = bars(drawn(made()))
    left, right = found["start"][0], found["load"][0] + found["load"][1]
    whole = right - left
    assert found["load"][1] == pytest.approx(whole / 2, abs=0.2)
    assert found["fetch"][0] - left == pytest.approx(whole * 470 / 2_000, abs=0.2)
    assert found["seed"][1] == pytest.approx(whole * 200 / 2_000, abs=0.2)


def test_everything_is_inside_the_drawing_and_no_two_rows_share_a_line() -> None:
    root = drawn(made(), made("roll"))
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    names = []
    for element in root.iter():
        if "x" in element.attrib and "y" in element.attrib:
            assert 0 <= float(element.attrib["x"]) <= width
            assert 0 <= float(element.attrib["y"]) <= height
        if element.tag == f"{SVG}text" and element.attrib.get("class") in {"", "inner"}:
            names.append(float(element.attrib["y"]))
    assert len(names) == len(set(names)) == 12


@given(st.text(max_size=50), st.text(max_size=50))
def test_no_name_can_break_the_drawing(name: str, why: str) -> None:
    waterfall = made(model=name)
    waterfall.add(name, 0.0, 5.0)
    waterfall.by_source = {why: 7}
    waterfall.decisions = {name: why}
    drawn(waterfall)


def test_nothing_is_a_drawing_too() -> None:
    assert drawn().find(f"{SVG}title") is not None
    drawn(Waterfall())


@given(st.floats(1e-3, 1e9))
def test_ticks_are_few_round_and_within(whole_ms: float) -> None:
    found = ticks(whole_ms)
    assert found[0] == 0.0
    assert 2 <= len(found) <= 7
    assert found[-1] <= whole_ms * (1 + 1e-9)


def test_examples_of_ticks() -> None:
    assert ticks(0.0) == [0.0]
    assert ticks(2_000.0) == pytest.approx([0, 500, 1_000, 1_500, 2_000])
    assert ticks(700.0) == pytest.approx([0, 200, 400, 600])
