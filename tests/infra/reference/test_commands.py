"""The page of commands has every command, with its options and its example."""

from __future__ import annotations

import re

from infra.reference.commands import draw_commands

PAGE = draw_commands()


def test_commands_and_those_below_them_are_there() -> None:
    heads = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert len(set(heads)) == len(heads)
    assert {"headwater up", "headwater fleet drain", "headwater worker report"} <= set(heads)
    assert "headwater origin" in heads  # it runs, and has commands below it


def test_an_option_says_what_it_does() -> None:
    assert re.search(r"^\| `--edge-port` \| Port of the edge; .+ \|$", PAGE, re.MULTILINE)


def test_an_example_is_a_block() -> None:
    assert "```\n$ headwater up --state-dir /tmp/hw" in PAGE
