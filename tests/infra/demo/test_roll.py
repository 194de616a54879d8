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
        flip_s=4.0,
    )
    assert found == {
        "streams": 5,
        "cut": 0,
        "old": 3,
        "new": 2,
        "over_the_flip": 2,
        "old_after_flip": 0,
    }


def test_streams_in_step_ran_over_a_flip_that_fell_between_their_ends() -> None:
    answers = [answer(0, 2, OLD), answer(0, 2, OLD), answer(2, 1, NEW)]
    assert judge(answers, NEW, flip_s=1.5)["over_the_flip"] == 2


def test_cut_streams_are_counted() -> None:
    answers = [answer(0, 1, OLD, cut=True), answer(0, 1, NEW)]
    assert judge(answers, NEW, flip_s=1.0)["cut"] == 1


def test_an_old_answer_after_the_flip_is_noticed() -> None:
    answers = [answer(0, 1, OLD), answer(1, 1, NEW), answer(2, 1, OLD)]
    assert judge(answers, NEW, flip_s=1.5)["old_after_flip"] == 1


def test_an_old_answer_that_began_before_the_flip_was_seen_is_no_fault() -> None:
    answers = [answer(0, 1, OLD), answer(1.1, 1, OLD), answer(1.05, 1, NEW)]
    assert judge(answers, NEW, flip_s=1.2)["old_after_flip"] == 0


def test_a_glimpse_shows_the_beginning_of_a_stream() -> None:
    shown: list[str] = []
    glimpse = Glimpse(shown.append)
    for _ in range(100):
        glimpse("one, ")
    text = "".join(shown)
    assert text.endswith(" …")
    assert GLIMPSE <= len(text) <= GLIMPSE + len("one,  …")
