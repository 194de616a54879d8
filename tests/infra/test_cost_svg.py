"""The drawing: well-formed, in words too, and its mark where the lines meet."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.cost import Way, break_even_day
from infra.cost_svg import cost_svg, horizon_days

CLOUD = Way(name="cloud", machines=0, upfront=0.0, per_day=250.0, per_day_after=250.0)
LOCAL = Way(name="local", machines=4, upfront=5_000.0, per_day=50.0, per_day_after=50.0)


def test_the_mark_is_on_both_lines() -> None:
    days = horizon_days((LOCAL, CLOUD), CLOUD)
    assert days == 90.0
    text = cost_svg((LOCAL, CLOUD), CLOUD, days)
    root = ElementTree.fromstring(text)
    mark = next(e for e in root.iter() if e.tag.endswith("circle"))
    x, y = float(mark.get("cx", "")), float(mark.get("cy", ""))
    for line in (e for e in root.iter() if e.tag.endswith("polyline")):
        points = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
        (x0, y0), (x1, y1) = points[0], points[-1]
        assert abs(y0 + (y1 - y0) * (x - x0) / (x1 - x0) - y) < 0.2
    assert "local breaks even: day 25" in text
    assert "local: $5,000 first, $9,500 by day 90, breaks even on day 25 with cloud" in text


def test_names_are_no_markup() -> None:
    way = Way(name="<b>&", machines=0, upfront=0.0, per_day=1.0, per_day_after=1.0)
    ElementTree.fromstring(cost_svg((way, CLOUD), CLOUD, 90))


money = st.floats(0, 1e7)


@settings(max_examples=30)
@given(money, money, money, money)
def test_everything_stays_inside(upfront: float, day: float, after: float, cloud: float) -> None:
    way = Way(
        name="local", machines=1, upfront=upfront, per_day=min(day, after), per_day_after=after,
        commitment_days=30.0,
    )  # fmt: skip
    other = Way(name="cloud", machines=0, upfront=0.0, per_day=cloud, per_day_after=cloud)
    days = horizon_days((way,), other)
    even = break_even_day(way, other)
    assert even is None or even > days / 1.7 or days >= 90
    text = cost_svg((way, other), other, days)
    ElementTree.fromstring(text)
    for points in re.findall(r'points="([^"]+)"', text):
        for x, y in (pair.split(",") for pair in points.split()):
            assert 0 <= float(x) <= 760
            assert 0 <= float(y) <= 400
