"""The cloud's answer is compared with the draft while it goes to the client."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.verify_agree import AgreeVerifier
from edge_tier.gateway.verify_base import ClientAnswer, Spent, VerifyConfig
from edge_tier.gateway.verify_draft import Draft
from tests.fakes.chat_streams import ENCODER, PLACES, answer, cut, event, read, stream
from wire.chat import error_event

CONFIG = VerifyConfig(accept_chars=8, accept_share=0.25, corrected_chars=4)
TEXT = "Paris is the capital of France."
DRAFT = Draft(text=TEXT, tokens=10, whole=True)
BROKEN = error_event("died", "server_error", "engine_broken")


def verifier(draft: Draft = DRAFT, config: VerifyConfig = CONFIG) -> AgreeVerifier:
    return AgreeVerifier(draft, ClientAnswer(ENCODER), config)


def shovel(found: AgreeVerifier, pieces: Iterable[bytes]) -> bytes:
    return b"".join([found.feed(piece) for piece in pieces]) + found.end()


def test_a_draft_that_the_cloud_begins_alike_is_accepted_and_the_cloud_stopped() -> None:
    found = verifier()
    assert read(found.feed(ENCODER.role() + event("Paris")))[0] == "Paris"
    before = found.wants_cloud_stop
    assert read(found.feed(event(" is"))) == (" is the capital of France.", "stop", True)
    assert (before, found.wants_cloud_stop, found.outcome) == (False, True, "accepted")
    assert found.completion_tokens == 10
    assert found.spent == Spent(local_tokens=10, cloud_tokens=2, saved_cloud_tokens=8)
    assert found.feed(event(" the")) == found.end() == b""


def test_a_share_of_a_long_draft_must_agree() -> None:
    long = Draft(text="word " * 100, tokens=100, whole=True)
    found = verifier(long)
    outcomes = []
    for count in (24, 1):
        found.feed(event("word " * count))
        outcomes.append(found.outcome)
    assert outcomes == ["", "accepted"]


def test_a_short_draft_must_agree_as_a_whole() -> None:
    found = verifier(Draft(text="Yes.\n", tokens=2, whole=True))
    found.feed(event("Yes"))
    assert found.outcome == ""
    assert read(found.feed(event(".")))[1:] == ("stop", True)
    longer = verifier(Draft(text="Yes.", tokens=2, whole=True))
    assert read(shovel(longer, [answer(["Yes. ", "Quite."])])) == ("Yes.", "stop", True)
    assert longer.outcome == "accepted"


@pytest.mark.parametrize(
    ("cloud", "outcome"),
    [
        (["Paris", " was", " the capital."], "corrected"),
        (["Pari", "!"], "corrected"),
        (["Lyon", " is the capital of France."], "replaced"),
        (["Par", "don?"], "replaced"),
        (["Paris"], "corrected"),
    ],
)
def test_where_the_cloud_differs_its_answer_stands(cloud: list[str], outcome: str) -> None:
    found = verifier()
    assert read(shovel(found, [answer(cloud)])) == ("".join(cloud), "stop", True)
    assert found.outcome == outcome
    assert found.spent.saved_cloud_tokens == 0
    assert found.completion_tokens == len(cloud)


def test_white_space_before_an_answer_is_no_difference() -> None:
    found = verifier(Draft(text="\n Paris is the capital.", tokens=6, whole=True))
    assert read(shovel(found, [answer([" ", "\nPar", "is is it"])]))[0] == "Paris is it"
    assert found.outcome == "corrected"


def test_the_cloud_tells_its_own_count() -> None:
    client = ClientAnswer(ENCODER, include_usage=True, prompt_tokens=5)
    found = AgreeVerifier(DRAFT, client, CONFIG)
    told = shovel(found, [stream(event("Lyon."), usage=(50, 7))])
    assert told.endswith(ENCODER.usage(5, 7) + b"data: [DONE]\n\n")
    assert found.spent.cloud_tokens == 7


@pytest.mark.parametrize(
    "pieces", [[], [b""], [ENCODER.role(), event("Par")], [event("P"), BROKEN]]
)
def test_when_the_cloud_fails_the_draft_stands(pieces: list[bytes]) -> None:
    found = verifier()
    assert read(shovel(found, pieces)) == (TEXT, "stop", True)
    assert found.outcome == "unverified"
    assert found.wants_cloud_stop


@pytest.mark.parametrize("cloud", [stream(), ENCODER.role() + b"data: [DONE]\n\n"])
def test_a_cloud_that_says_nothing_has_nothing_against_the_draft(cloud: bytes) -> None:
    found = verifier()
    assert read(shovel(found, [cloud])) == (TEXT, "stop", True)
    assert found.outcome == "unverified"


@pytest.mark.parametrize("ending", [b"", BROKEN, b"data: {\n\n"])
def test_a_cloud_that_breaks_after_it_differed_breaks_the_answer(ending: bytes) -> None:
    found = verifier()
    told = shovel(found, [event("Lyon") + ending])
    assert told.startswith(ENCODER.role() + event("Lyon"))
    assert b'"code":"cloud_broke"' in told
    assert b"[DONE]" not in told
    assert found.outcome == "failed"


def test_an_unverified_draft_may_be_forbidden() -> None:
    found = verifier(config=VerifyConfig(draft_without_cloud=False))
    assert b"cloud_broke" in found.end()
    assert found.outcome == "failed"


def test_without_a_whole_draft_the_cloud_simply_answers() -> None:
    found = verifier(Draft(tokens=3))
    assert read(shovel(found, [answer(["Paris", "."])])) == ("Paris.", "stop", True)
    assert found.outcome == "replaced"
    assert b"cloud_broke" in verifier(Draft()).end()


def test_the_drafts_own_finish_reason_is_told() -> None:
    found = verifier(Draft(text="Paris is the", finish_reason="length", tokens=3, whole=True))
    assert read(shovel(found, [answer(["Paris is"])])) == ("Paris is the", "length", True)


WORDS = st.lists(st.sampled_from(["Pa", "ris", " is", " ", "\n", "x"]), max_size=8)


@given(WORDS, WORDS, PLACES, st.sampled_from([b"", BROKEN, b"data: {\n\n"]))
def test_any_split_gives_the_same_answer(
    drafted: list[str], said: list[str], places: list[int], ending: bytes
) -> None:
    draft = Draft(text="".join(drafted), tokens=len(drafted), whole=bool("".join(drafted).strip()))
    cloud = answer(said) if not ending else b"".join(map(event, said)) + ending
    whole, split = verifier(draft), verifier(draft)
    expected = shovel(whole, [cloud])
    assert shovel(split, cut(cloud, places)) == expected
    assert split.outcome == whole.outcome != ""
    text, _, done = read(expected)
    assert done is (whole.outcome != "failed")
    if whole.outcome in {"accepted", "unverified"}:
        assert text == draft.text.strip()
    else:
        assert "".join(said).strip().startswith(text.strip())
