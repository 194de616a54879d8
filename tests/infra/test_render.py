from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from infra.render import bar, cascade, duration, pairs, plain, shares, size, table, waterfall


def printed(what: RenderableType, width: int = 80) -> list[str]:
    """As it stands in a terminal of this width."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.00 kB"),
        (1_620_000, "1.62 MB"),
        (12_345_678, "12.3 MB"),
        (999_900, "1.00 MB"),
        (8e15, "8000 TB"),
    ],
)
def test_sizes_have_three_figures_and_a_unit(count: float, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(0.0, "0 µs"), (0.43, "430 µs"), (12.5, "12.5 ms"), (999.7, "1.00 s"), (1_204, "1.20 s")],
)
def test_durations_take_the_unit_that_fits(ms: float, shown: str) -> None:
    assert duration(ms) == shown


@given(st.floats(-2, 2), st.floats(-2, 2), st.integers(1, 60))
def test_a_bar_never_leaves_its_width(start: float, length: float, width: int) -> None:
    assert len(bar(start, length, width)) <= width


@given(st.floats(0, 1), st.integers(1, 60))
def test_even_the_shortest_bar_is_seen(start: float, width: int) -> None:
    assert bar(start, 0.0, width).strip()


def test_bars_begin_where_the_last_one_ended() -> None:
    bars = cascade({"trust": 2.0, "pull": 6.0, "load": 1.0})
    assert [(b.name, b.start_ms, b.length_ms) for b in bars] == [
        ("trust", 0.0, 2.0),
        ("pull", 2.0, 6.0),
        ("load", 8.0, 1.0),
    ]


def test_parts_of_a_step_stand_below_it_and_do_not_add_up() -> None:
    bars = cascade({"pull": 6.0, "pull: manifest": 1.0, "pull: fetch": 5.0, "load": 1.0})
    assert [(b.name, b.start_ms, b.inner) for b in bars] == [
        ("pull", 0.0, False),
        ("manifest", 0.0, True),
        ("fetch", 1.0, True),
        ("load", 6.0, False),
    ]


def test_a_waterfall_ends_with_the_total_of_whole_steps() -> None:
    lines = printed(waterfall({"pull": 600.0, "pull: fetch": 500.0, "load": 400.0}))
    assert "total" in lines[-1] or "total" in lines[-2]
    assert any("1.00 s" in line for line in lines)


def test_an_empty_waterfall_can_be_shown() -> None:
    assert any("0 µs" in line for line in printed(waterfall({})))


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 1e7), max_size=8))
def test_charts_fit_eighty_columns(parts: dict[str, float]) -> None:
    for chart in (waterfall(parts), shares(parts)):
        assert max(map(len, printed(chart)), default=0) <= 80


def test_shares_name_the_part_of_the_whole() -> None:
    lines = "\n".join(printed(shares({"edge": 750.0, "this disk": 250.0})))
    assert "75%" in lines
    assert "25%" in lines


def test_shares_of_nothing_are_nothing() -> None:
    assert "0%" in "\n".join(printed(shares({"edge": 0.0})))


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = plain(text)
    assert len(shown) == len(text)
    assert not any(ord(c) < 32 and c not in "\t\n" for c in shown)
    assert not any(c in shown for c in "\x1b\x7f\x9b\u200b\u202e\u2066\ufeff\U000e0041")


def test_ordinary_text_is_left_alone() -> None:
    text = "Paris, the capital — 巴黎 🙂\n\tÄ"
    assert plain(text) == text


def test_cells_from_outside_are_made_plain() -> None:
    lines = "\n".join(printed(table(("name",), [("evil\x1b[31m",)])))
    assert "\x1b" not in lines


def test_markup_in_values_stays_text() -> None:
    assert "[bold]x" in "\n".join(printed(pairs({"name": "[bold]x"})))
    assert "[red]y" in "\n".join(printed(table(("name",), [("[red]y",)])))
