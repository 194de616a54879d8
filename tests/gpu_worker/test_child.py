"""gpu_worker.child, without a process; test_supervisor has real ones."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.child import MAX_READY_LINE_BYTES, Child, LogTail, child_environ


def test_a_child_may_know_where_its_gpu_is_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "VLLM_USE_V1", "AWS_SECRET_ACCESS_KEY", "HEADWATER_KEY"):
        monkeypatch.setenv(name, "x")
    known = child_environ()
    assert known["CUDA_VISIBLE_DEVICES"] == known["VLLM_USE_V1"] == "x"
    assert not {"AWS_SECRET_ACCESS_KEY", "HEADWATER_KEY"} & known.keys()


@pytest.mark.parametrize("talks", [True, False])
async def test_a_ready_line_is_read_from_those_who_talk(talks: bool) -> None:
    child = Child(talks=talks, log=LogTail(lines=5, line_bytes=100))
    child.pipe_data_received(1, b"rea")
    child.pipe_data_received(1, b"dy\nmore\n")
    child.pipe_data_received(2, b"a word\n")
    assert child.ready.done() == talks
    assert child.log.lines() == (["a word"] if talks else ["ready", "more", "a word"])


async def test_a_ready_line_without_an_end_is_none() -> None:
    child = Child(talks=True, log=LogTail(lines=5, line_bytes=100))
    child.pipe_data_received(1, b"x" * (MAX_READY_LINE_BYTES + 1))
    assert child.ready.result() == b""


async def test_the_first_verdict_holds() -> None:
    child = Child(talks=True, log=LogTail(lines=5, line_bytes=100))
    child.judge("hung")
    child.judge("")
    assert child.verdict.result() == "hung"


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_a_log_tail_reads_the_same_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    whole = LogTail(lines=5, line_bytes=400)
    whole.feed(data)
    pieces = LogTail(lines=5, line_bytes=400)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in pairwise(edges):
        pieces.feed(data[begin:end])
    assert pieces.lines() == whole.lines()


def test_a_log_tail_is_bounded_without_a_single_line_end() -> None:
    tail = LogTail(lines=2, line_bytes=10)
    for _ in range(100):
        tail.feed(b"x" * 1_000)
    assert tail.lines() == ["x" * 10]
