from __future__ import annotations

from infra.ask import Answer
from infra.demo.roll import GLIMPSE, Glimpse, judge

OLD, NEW = "a" * 64, "b" * 64


def answer(started_s: float, total_s: float, digest: str, *, cut: bool = False) -> Answer:
    return Answer(
        started_s=started_s,
        total_s=total_s,
        done=not cut,
        finish_reason="" if cut else "stop",
        headers={"x-model-digest": digest},
    )


def test_streams_that_ran_over_the_flip_are_counted() -> None:
    found = judge(
        [
            answer(0, 1, OLD),
            answer(1, 4, OLD),
            answer(2, 2.5, OLD),
            answer(3, 1, NEW),
            answer(5, 1, NEW),
        ],
        NEW,
    )
    assert found == {
        "streams": 5,
        "cut": 0,
        "old": 3,
        "new": 2,
        "over_the_flip": 2,
        "old_after_new": 0,
    }


def test_cut_streams_are_counted() -> None:
    assert judge([answer(0, 1, OLD, cut=True), answer(0, 1, NEW)], NEW)["cut"] == 1


def test_an_old_answer_after_the_flip_is_noticed() -> None:
    found = judge([answer(0, 1, OLD), answer(1, 1, NEW), answer(2, 1, OLD)], NEW)
    assert found["old_after_new"] == 1


def test_without_the_new_revision_nothing_ran_over_a_flip() -> None:
    assert judge([answer(0, 9, OLD)], NEW)["over_the_flip"] == 0


def test_a_glimpse_shows_the_beginning_of_a_stream() -> None:
    shown: list[str] = []
    glimpse = Glimpse(shown.append)
    for _ in range(100):
        glimpse("one, ")
    text = "".join(shown)
    assert text.endswith(" …")
    assert len(text) == GLIMPSE + 2
