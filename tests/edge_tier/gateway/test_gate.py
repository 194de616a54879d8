"""The confidence gate: what passes, what escalates, what is held, and that bytes stay bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.calibration import Calibration, Calibrator
from edge_tier.gateway.gate import Gate, GateConfig, Gates
from tests.fakes.chat_streams import ENCODER, PLACES, cut, event, stream
from wire.chat import DONE, TokenLogprob, Usage, error_event
from wire.errors import ConfigError

CALIBRATOR = Calibrator(
    Calibration(tokens=4, weights={"min": 1.0}, scores=[-3.0, 0.0], chances=[0.0, 0.9])
)
FLOOR = GateConfig(floor_tokens=4)
SURE, UNSURE = -0.01, -2.5
ROLE = ENCODER.role()


def gate(config: GateConfig = FLOOR, **options: Any) -> Gate:
    return Gate(config, options.pop("calibrator", CALIBRATOR), **options)


def shovel(found: Gate, pieces: Iterable[bytes]) -> bytes:
    return b"".join([found.feed(piece) for piece in pieces]) + found.end()


def sure(count: int, *, first_only: int = 4) -> list[bytes]:
    return [event(f"w{i} ", SURE) if i < first_only else event(f"w{i} ") for i in range(count)]


def plain(count: int) -> bytes:
    """The same answer as a client that asked for no logprobs shall see it."""
    return stream(*(event(f"w{i} ") for i in range(count)))


def test_a_sure_answer_is_held_until_its_first_tokens_are_there() -> None:
    found = gate()
    assert found.feed(ROLE + b"".join(sure(3))) == b""
    assert found.decision == "wait"
    assert found.feed(event("w3 ", SURE)) == ROLE + b"".join(event(f"w{i} ") for i in range(4))
    assert (found.decision, found.reason, found.tokens) == ("pass", "confident", 4)
    assert found.confidence == pytest.approx(0.897)
    assert found.least == SURE


def test_after_the_verdict_bytes_pass_unread() -> None:
    found = gate()
    found.feed(ROLE + b"".join(sure(4)))
    assert found.transparent
    assert found.feed(b"anything \r at all") == b"anything \r at all"


def test_doubt_escalates_before_all_tokens_are_there() -> None:
    found = gate()
    assert found.feed(ROLE + event("Per", SURE) + event("haps", UNSURE)) == b""
    assert (found.decision, found.reason, found.tokens) == ("escalate", "doubtful", 2)
    assert found.feed(event("x", SURE)) == found.end() == b""
    assert found.spent(30) == Usage(30, 2, 32)


@pytest.mark.parametrize(
    ("first", "decision"), [(-0.4, "pass"), (-0.6, "escalate"), (-1e308, "escalate")]
)
def test_without_a_calibration_the_floor_decides(first: float, decision: str) -> None:
    found = gate(calibrator=None)
    found.feed(stream(event("a", SURE), event("b", first)))
    assert found.decision == decision
    assert found.confidence is None


def test_a_short_answer_is_judged_as_a_whole() -> None:
    found = gate()
    assert found.feed(stream(*sure(2))) == plain(2)
    assert found.reason == "confident"
    assert not gate().feed(ROLE + event("a", SURE))


def test_done_ends_an_answer_that_named_no_finish_reason() -> None:
    assert gate().feed(event("a", SURE) + DONE) == event("a") + DONE


@pytest.mark.parametrize(
    "broken",
    [
        error_event("the engine died", "server_error", "engine_broken"),
        b"data: {not json\n\n",
        b'data: {"choices":[{"logprobs":{"content":[{"logprob":NaN}]}}]}\n\n',
        b'data: {"choices":[{"logprobs":{"content":[{"logprob":"x"}]}}]}\n\n',
        b'data: {"choices":{}}\n\n',
        b"data: \xff\n\n",
    ],
)
def test_a_local_stream_that_breaks_is_answered_by_the_cloud(broken: bytes) -> None:
    found = gate()
    assert found.feed(ROLE + event("a", SURE) + broken) == b""
    assert (found.decision, found.reason) == ("escalate", "failed")
    alone = gate(can_escalate=False)
    assert shovel(alone, [ROLE + event("a", SURE) + broken]).startswith(ROLE + event("a"))
    assert (alone.decision, alone.verdict) == ("pass", "escalate")


def test_a_stream_that_just_ends_has_failed() -> None:
    found = gate()
    found.feed(ROLE + event("a", SURE))
    assert found.end() == b""
    assert (found.decision, found.reason) == ("escalate", "failed")


NO_SIGNAL = {
    "content without logprobs": event("a"),
    "a tool call": b'data: {"choices":[{"delta":{"tool_calls":[{"id":"x"}]}}]}\n\n',
    "a token without logprob": (
        b'data: {"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{}]}}]}\n\n'
    ),
    "a null": b'data: {"choices":[{"text":"a","logprobs":{"token_logprobs":[null]}}]}\n\n',
    "an empty answer": ENCODER.finish("stop"),
}


@pytest.mark.parametrize("said", NO_SIGNAL.values(), ids=NO_SIGNAL.keys())
def test_no_signal_is_left_to_the_policy(said: bytes) -> None:
    escalating = gate()
    assert escalating.feed(ROLE + said) == b""
    assert (escalating.decision, escalating.reason) == ("escalate", "no_signal")
    passing = gate(GateConfig(without_signal="pass"))
    assert shovel(passing, [ROLE + said]).startswith(ROLE)
    assert (passing.decision, passing.reason, passing.confidence) == ("pass", "no_signal", None)


def test_a_completions_logprobs_are_read_too() -> None:
    text = b'data: {"choices":[{"text":"a","logprobs":{"token_logprobs":[%s]}}]}\n\n'
    found = gate()
    found.feed(text % b"-0.01,-0.01" + text % b"-0.01,-0.01")
    assert found.reason == "confident"
    unsure = gate()
    unsure.feed(text % b"-0.01,-2.9")
    assert unsure.reason == "doubtful"


@pytest.mark.parametrize(
    "flood",
    [
        [ROLE] * 64,
        [b": ping\n\n"] * 64,
        [event("x" * 40_000, SURE), event("x" * 40_000, SURE)],
        [b"data: " + b"x" * 70_000],
        [event("a", *[SURE] * 20_000)],
    ],
    ids=["roles", "comments", "long texts", "an endless line", "a huge array"],
)
def test_what_is_held_is_bounded(flood: list[bytes]) -> None:
    found = gate()
    assert b"".join(map(found.feed, flood)) == b""
    assert (found.decision, found.reason) == ("escalate", "oversized")
    passing = gate(GateConfig(without_signal="pass"), keep_logprobs=True)
    assert shovel(passing, flood) == b"".join(flood)


def test_where_the_cloud_may_not_answer_nothing_is_held() -> None:
    found = gate(can_escalate=False)
    assert found.feed(ROLE) == ROLE
    assert found.feed(event("a", UNSURE)) == event("a")
    assert (found.decision, found.verdict, found.reason) == ("pass", "escalate", "doubtful")
    before = found.transparent
    rest = b"".join(sure(3))
    assert found.feed(rest) == b"".join(event(f"w{i} ") for i in range(3))
    assert (before, found.transparent, found.tokens) == (False, True, 4)


def test_a_gate_that_finds_no_cloud_lets_the_answer_pass_after_all() -> None:
    found = gate()
    assert found.feed(ROLE + event("a", UNSURE) + event("b", SURE)) == b""
    assert found.feed(event("c", SURE)[:20]) == b""
    assert found.overrule() == ROLE + event("a") + event("b")
    assert (found.decision, found.verdict) == ("pass", "escalate")
    assert found.feed(event("c", SURE)[20:]) == event("c")


def test_a_local_answer_that_is_lost_cannot_pass() -> None:
    failed = gate()
    failed.feed(b"data: {\n\n")
    assert failed.overrule() is None
    flooded = gate()
    for _ in range(3):
        flooded.feed(event("a" * 40_000, UNSURE))
    assert flooded.overrule() is None
    assert flooded.feed(event("a")) == flooded.end() == b""


def test_logprobs_that_the_client_wants_stay() -> None:
    whole = stream(*sure(6))
    assert shovel(gate(keep_logprobs=True), [whole]) == whole


def test_of_an_engine_that_goes_on_sending_logprobs_all_are_cut() -> None:
    whole = stream(*sure(9, first_only=9), usage=(3, 9))
    found = gate(first_only=False)
    assert shovel(found, cut(whole, range(0, len(whole), 7))) == stream(
        *(event(f"w{i} ") for i in range(9)), usage=(3, 9)
    )
    assert not found.transparent


def test_the_gates_of_an_edge_know_their_models() -> None:
    gates = Gates(FLOOR, {"small": CALIBRATOR})
    assert (gates.tokens("small"), gates.tokens("other")) == (4, 4)
    found = gates.gate("small")
    found.feed(event("a", UNSURE))
    assert found.confidence is not None
    other = gates.gate("other", can_escalate=False)
    other.feed(event("a", UNSURE))
    assert (other.confidence, other.reason) == (None, "doubtful")


def test_a_request_may_have_a_target_of_its_own() -> None:
    first = event("a", -0.6)
    strict = Gates(FLOOR, {"small": CALIBRATOR}).gate("small", min_chance=0.8)
    lax = Gates(FLOOR, {"small": CALIBRATOR}).gate("small", min_chance=0.7)
    strict.feed(first)
    lax.feed(first)
    assert (strict.decision, lax.decision) == ("escalate", "wait")


@pytest.mark.parametrize(
    "config",
    [
        GateConfig(max_held_events=8),
        GateConfig(floor_tokens=0, max_held_events=3),
        GateConfig(floor_tokens=61),
        GateConfig(min_chance=0.0),
        GateConfig(min_chance=1.0),
        GateConfig(floor_logprob=0.0),
        GateConfig(floor_logprob=float("nan")),
    ],
)
def test_bounds_that_make_no_sense_are_refused(config: GateConfig) -> None:
    with pytest.raises(ConfigError):
        Gates(config, {})


EVENTS = st.lists(
    st.one_of(
        st.builds(event, st.text(max_size=5), st.floats(-4, 0)),
        st.builds(lambda t, a, b: event(t, a, b), st.text(), st.floats(-1, 0), st.floats(-1, 0)),
        st.sampled_from(
            [
                ROLE,
                event("x"),
                b": ping\n\n",
                b"data:\r\n\r\n",
                DONE,
                ENCODER.finish("stop"),
                ENCODER.usage(1, 2),
                b"data: {\n\n",
                b'data: {"choices":[{"index":1,"text":"b"}]}\n\n',
                b"data: " + b"x" * 300,
            ]
        ),
    ),
    max_size=12,
)
OPTIONS = st.fixed_dictionaries(
    {
        "can_escalate": st.booleans(),
        "keep_logprobs": st.booleans(),
        "first_only": st.booleans(),
        "calibrator": st.sampled_from([None, CALIBRATOR]),
    }
)
CONFIGS = st.builds(
    GateConfig,
    floor_tokens=st.just(4),
    without_signal=st.sampled_from(["pass", "escalate"]),
    max_held_bytes=st.sampled_from([200, 2_000]),
    max_held_events=st.sampled_from([4, 64]),
)


@given(EVENTS, PLACES, CONFIGS, OPTIONS)
def test_any_split_gives_the_same_decision_and_the_same_bytes(
    events: list[bytes], places: list[int], config: GateConfig, options: dict[str, Any]
) -> None:
    data = b"".join(events)
    whole, split = gate(config, **options), gate(config, **options)
    expected = shovel(whole, [data])
    assert shovel(split, cut(data, places)) == expected
    told = [(g.decision, g.verdict, g.reason, g.confidence, g.tokens) for g in (whole, split)]
    assert told[0] == told[1]
    if whole.decision == "escalate":
        assert expected == b""
    elif options["keep_logprobs"]:
        assert expected == data


@given(st.lists(st.text(max_size=5), min_size=5, max_size=9), PLACES, st.booleans())
def test_what_passes_is_what_the_engine_said(
    texts: list[str], places: list[int], first_only: bool
) -> None:
    carrying = 4 if first_only else len(texts)
    events = [event(t, SURE) if i < carrying else event(t) for i, t in enumerate(texts)]
    found = gate(first_only=first_only)
    passed = shovel(found, cut(stream(*events), places))
    assert found.decision == "pass"
    assert passed == stream(*(event(text) for text in texts))


def test_alternatives_are_not_counted_as_tokens() -> None:
    top = [{"token": "b", "logprob": -0.5}] * 3
    entry = {"token": "a", "logprob": SURE, "top_logprobs": top}
    data = {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [entry]}}]}
    found = gate()
    found.feed(b"data: " + json.dumps(data).encode() + b"\n\n")
    assert (found.tokens, found.decision) == (1, "wait")
    assert TokenLogprob("a", SURE).top_logprobs == []


@given(EVENTS, PLACES, CONFIGS, OPTIONS, st.integers(0, 3))
def test_an_overruled_gate_gives_what_one_that_may_not_escalate_gives(
    events: list[bytes], places: list[int], config: GateConfig, options: dict[str, Any], late: int
) -> None:
    data = b"".join(events)
    expected = shovel(gate(config, **{**options, "can_escalate": False}), [data])
    found = gate(config, **{**options, "can_escalate": True})
    told, waited = b"", 0
    for piece in (*cut(data, places), b"", b"", b"", b""):
        told += found.feed(piece)
        if found.decision == "escalate":
            waited += 1
            if waited > late:
                passed = found.overrule()
                if passed is None:
                    return
                told += passed
    if found.decision != "wait":
        assert told + found.end() == expected
