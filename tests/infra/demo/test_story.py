from __future__ import annotations

import io

import pytest
from rich.console import Console

from infra.demo.story import Story, expect
from infra.errors import StepError
from wire.errors import SourceUnavailableError


@pytest.fixture
def told() -> tuple[Story, io.StringIO]:
    out = io.StringIO()
    return Story(Console(file=out, width=80)), out


def test_steps_are_numbered_timed_and_ticked_off(told: tuple[Story, io.StringIO]) -> None:
    story, out = told
    for title in ("Start", "Ask"):
        with story.step(title) as figures:
            figures["n"] = 1
    report = story.report()
    assert report["passed"]
    assert [(s["name"], s["passed"], s["figures"]) for s in report["steps"]] == [
        ("Start", True, {"n": 1}),
        ("Ask", True, {"n": 1}),
    ]
    assert "2  Ask" in out.getvalue()


def test_a_step_that_fails_is_named(told: tuple[Story, io.StringIO]) -> None:
    story, _ = told
    with story.step("Start"):
        pass
    with pytest.raises(StepError, match=r"step 2 \(Ask\): nobody there"), story.step("Ask"):
        raise SourceUnavailableError("nobody there")
    report = story.report("nobody there")
    assert not report["passed"]
    assert [step["passed"] for step in report["steps"]] == [True, False]


def test_what_does_not_hold_fails_its_step(told: tuple[Story, io.StringIO]) -> None:
    with pytest.raises(StepError, match="two is not three"), told[0].step("Count"):
        expect(False, "two is not three")


def test_streamed_pieces_stand_on_one_line_of_their_own(told: tuple[Story, io.StringIO]) -> None:
    story, out = told
    with story.step("Ask"):
        for text in ("Par", "is\x1b[2J", "."):
            story.stream(text)
        story.say("route")
    lines = out.getvalue().splitlines()
    assert "   Paris\ufffd[2J." in lines
    assert lines.index("   Paris\ufffd[2J.") + 1 == next(
        number for number, line in enumerate(lines) if "route" in line
    )


def test_a_long_answer_is_broken_between_words(told: tuple[Story, io.StringIO]) -> None:
    story, out = told
    with story.step("Ask"):
        story.stream("First.\nSecond:")
        for _ in range(60):
            story.stream(" sca")
            story.stream("ttered")
    lines = [line for line in out.getvalue().splitlines() if line.startswith("   ")]
    assert lines[0] == "   First."
    assert lines[1].startswith("   Second: scattered")
    assert max(map(len, lines)) <= 80
    assert sum(line.count("scattered") for line in lines) == 60


def test_a_fault_of_ours_names_its_step_too(told: tuple[Story, io.StringIO]) -> None:
    story, out = told
    with (
        pytest.raises(StepError, match=r"step 1 \(Ask\): unexpected KeyError"),
        story.step("Ask"),
    ):
        raise KeyError("x")
    assert "Traceback" in out.getvalue()
