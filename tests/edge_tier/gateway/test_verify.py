"""Which protocol is used for what."""

from __future__ import annotations

import pytest

from edge_tier.gateway.request import Message, Prompt
from edge_tier.gateway.verify import ClientAnswer, Draft, VerifyConfig, cloud_prompt, verifier
from edge_tier.gateway.verify_agree import AgreeVerifier
from edge_tier.gateway.verify_judge import JudgeVerifier
from tests.fakes.chat_streams import ENCODER

CHAT = Prompt(kind="chat", model="auto", messages=(Message("user", "Capital of France?"),))
TEXT = Prompt(kind="completion", model="auto", text="The capital of France is")
DRAFT = Draft(text="Paris.", tokens=2, whole=True)
AGREE, JUDGE = VerifyConfig(), VerifyConfig(protocol="judge")


@pytest.mark.parametrize(
    ("prompt", "draft", "config"),
    [(CHAT, DRAFT, AGREE), (TEXT, DRAFT, JUDGE), (CHAT, Draft(), JUDGE)],
)
def test_the_same_is_asked_where_there_is_nothing_to_judge(
    prompt: Prompt, draft: Draft, config: VerifyConfig
) -> None:
    assert cloud_prompt(prompt, draft, config, "n0nce") is prompt
    assert isinstance(verifier(prompt, draft, ClientAnswer(ENCODER), config), AgreeVerifier)


def test_a_whole_draft_of_a_chat_is_judged() -> None:
    assert "Paris." in cloud_prompt(CHAT, DRAFT, JUDGE, "n0nce").messages[-1].content
    assert isinstance(verifier(CHAT, DRAFT, ClientAnswer(ENCODER), JUDGE), JudgeVerifier)
