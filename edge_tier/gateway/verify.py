"""The verify stage: the cloud accepts, corrects or replaces what the local model has drafted.

Sans-IO: the driver collects the draft (:class:`DraftCollector`), asks the cloud what
:func:`cloud_prompt` says, and shovels its stream through a :class:`Verifier` to the client.
"""

from __future__ import annotations

from edge_tier.gateway.request import Prompt
from edge_tier.gateway.verify_agree import AgreeVerifier
from edge_tier.gateway.verify_base import (
    ClientAnswer,
    Outcome,
    Spent,
    Verifier,
    VerifyConfig,
)
from edge_tier.gateway.verify_draft import Draft, DraftCollector
from edge_tier.gateway.verify_judge import JudgeVerifier, judge_prompt

__all__ = [
    "ClientAnswer",
    "Draft",
    "DraftCollector",
    "Outcome",
    "Spent",
    "Verifier",
    "VerifyConfig",
    "cloud_prompt",
    "verifier",
]


def cloud_prompt(prompt: Prompt, draft: Draft, config: VerifyConfig, nonce: str) -> Prompt:
    """What to ask the cloud: the same as the client did, or to judge the draft.

    Args:
        nonce: letters and digits that nobody can guess, new for each request.
    """
    if config.protocol == "judge" and draft.whole and prompt.kind == "chat":
        return judge_prompt(prompt, draft, nonce)
    return prompt


def verifier(prompt: Prompt, draft: Draft, client: ClientAnswer, config: VerifyConfig) -> Verifier:
    """The verifier for the answer to what :func:`cloud_prompt` asks."""
    if config.protocol == "judge" and draft.whole and prompt.kind == "chat":
        return JudgeVerifier(draft, client, config)
    return AgreeVerifier(draft, client, config)
