"""edge_tier.gateway.resume: the rules by which a broken answer goes on."""

from __future__ import annotations

from typing import Any

import pytest

from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.journal import Journal
from edge_tier.gateway.relay import StreamScan
from edge_tier.gateway.request import Message, Prompt, Sampling
from edge_tier.gateway.resume import (
    ANEW,
    ResumeConfig,
    another_may,
    differs,
    manners,
    may_resume,
)
from wire.chat import error_event
from wire.errors import SourceUnavailableError
from wire.sse import SSEDecoder

STREAM: dict[str, Any] = {
    "kind": "chat",
    "model": "m",
    "messages": (Message("user", "x"),),
    "stream": True,
}


@pytest.mark.parametrize(
    ("change", "may"),
    [
        ({}, True),
        ({"kind": "completion"}, True),
        ({"stream": False}, False),
        ({"n": 2}, False),
        ({"tools": "[1]"}, False),
        ({"response_format": "{}"}, False),
        ({"kind": "embedding"}, False),
    ],
)
def test_which_prompts(change: dict[str, Any], may: bool) -> None:
    assert may_resume(Prompt(**(STREAM | change)), ResumeConfig()) is may
    assert not may_resume(Prompt(**(STREAM | change)), ResumeConfig(max_resumes=0))


@pytest.mark.parametrize(
    ("sampling", "sure", "differed", "expected"),
    [
        (Sampling(temperature=0.0), True, False, ("continued",)),
        (Sampling(temperature=0.0), False, False, ("replayed", "anew")),
        (Sampling(temperature=0.0, presence_penalty=0.5), True, False, ("replayed", "anew")),
        (Sampling(temperature=0.0, frequency_penalty=0.5), True, True, ("anew",)),
        (Sampling(seed=0), True, False, ("replayed", "anew")),
        (Sampling(seed=7, temperature=0.9), False, True, ("anew",)),
        (Sampling(), True, False, ("anew",)),
        (Sampling(temperature=0.9), False, False, ("anew",)),
    ],
)
def test_the_ways_to_go_on(
    sampling: Sampling, sure: bool, differed: bool, expected: tuple[str, ...]
) -> None:
    assert manners(sampling, sure=sure, differed=differed) == expected


def told(code: str) -> StreamScan:
    scan = StreamScan(keep_usage=False, journal=Journal("x", 1, max_bytes=9))
    scan.feed(error_event("why", "server_error", code))
    return scan


def test_a_worker_that_is_gone_or_whose_engine_is_can_be_followed_by_another() -> None:
    quiet = StreamScan(keep_usage=False)
    assert another_may(UpstreamError("reset"), quiet)
    assert not another_may(SourceUnavailableError("an event is over the bound"), quiet)
    for code in ("engine_broken", "engine_crashed", "engine_hung", "not_serving", "replay_differs"):
        assert another_may(UpstreamError("ended"), told(code))
    for code in ("request_invalid", "context_length_exceeded"):
        assert not another_may(UpstreamError("ended"), told(code))
    assert differs(told("replay_differs"))
    assert not differs(told("engine_broken"))


def test_the_comment_carries_no_event() -> None:
    assert SSEDecoder().feed(ANEW) == []
    assert ANEW.startswith(b": ")


@pytest.mark.parametrize(
    "bad", [{"max_resumes": -1}, {"journal_bytes": 0}, {"timeout_s": 0.0}, {"retry_s": 0.0}]
)
def test_a_bound_that_is_none_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="resume"):
        ResumeConfig(**bad)
