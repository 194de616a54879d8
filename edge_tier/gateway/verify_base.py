"""What the protocols of draft and verify share: outcomes, what they read and what they write.

Nothing that the client has seen is ever taken back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from edge_tier.gateway.verify_draft import MAX_DRAFT_CHARS, AnswerReader, Draft
from wire.chat import DONE, ChunkEncoder, error_event

Outcome = Literal["", "accepted", "corrected", "replaced", "unverified", "failed"]
"""``unverified``: the cloud failed and the draft stands. ``failed``: the cloud broke off after it
had begun to differ; the client is told by an error event, and there is no ``[DONE]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyConfig:
    """What is enough to trust a draft."""

    protocol: Literal["agree", "judge"] = "agree"
    """``agree``: the cloud answers too, until enough is the same; ``judge``: it is shown the draft,
    and accepts it or writes a better one."""
    accept_chars: int = 16
    """So many characters must agree at least (or all of a shorter draft)."""
    accept_share: float = 0.25
    """And so large a share of the draft, 0..1."""
    corrected_chars: int = 8
    """An answer that shares so much of the draft corrects it; one that shares less replaces it."""
    max_draft_chars: int = MAX_DRAFT_CHARS
    """A longer draft is not used; the cloud answers alone."""
    draft_without_cloud: bool = True
    """Whether a draft stands where the cloud fails to say anything against it."""


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer cost, in completion tokens."""

    local_tokens: int
    cloud_tokens: int
    saved_cloud_tokens: int = 0
    """Of the draft, at its own count: what the cloud did not have to write."""


class Verifier(Protocol):
    """Reads the cloud's stream and writes the client's. The driver only shovels."""

    outcome: Outcome
    """Empty until it is known."""
    wants_cloud_stop: bool
    """Close the cloud's stream: no more of it is needed. ``end`` must still be called."""

    def feed(self, data: bytes) -> bytes:
        """Take a piece of the cloud's stream; returns what may go to the client now."""
        ...

    def end(self) -> bytes:
        """The cloud's stream is over, or broke, or was never opened; returns the client's rest.

        May be called twice."""
        ...

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answer that the client got."""
        ...

    @property
    def spent(self) -> Spent:
        """What the answer cost so far."""
        ...


class ClientAnswer:
    """What every verifier says to the client: text, then an end.

    Args:
        include_usage: the client asked for a usage event.
        prompt_tokens: for that event.
    """

    def __init__(
        self, encoder: ChunkEncoder, *, include_usage: bool = False, prompt_tokens: int = 0
    ) -> None:
        self.ended = False
        self._encoder = encoder
        self._include_usage = include_usage
        self._prompt_tokens = prompt_tokens
        self._begun = False

    def text(self, *texts: str) -> bytes:
        """An event for each text that is not empty; the role before the first."""
        return self._begin() + b"".join(self._encoder.delta(text) for text in texts if text)

    def finish(self, reason: str, tokens: int) -> bytes:
        """The end of a whole answer."""
        self.ended = True
        events = self._begin() + self._encoder.finish(reason)
        if self._include_usage:
            events += self._encoder.usage(self._prompt_tokens, tokens)
        return events + DONE

    def broken(self) -> bytes:
        """The end of one that is not."""
        self.ended = True
        return error_event("the cloud model broke off its answer", "server_error", "cloud_broke")

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self._encoder.role()


class BaseVerifier(ABC):
    """What both protocols share: reading the cloud, ending the answer, counting."""

    def __init__(self, draft: Draft, client: ClientAnswer, config: VerifyConfig) -> None:
        self.outcome: Outcome = ""
        self.wants_cloud_stop = False
        self._draft = draft
        self._client = client
        self._config = config
        self._cloud = AnswerReader()

    @property
    def completion_tokens(self) -> int:
        if self.outcome in {"accepted", "unverified"}:
            return self._draft.tokens
        return self._cloud.tokens

    @property
    def spent(self) -> Spent:
        saved = max(0, self._draft.tokens - self._cloud.tokens)
        return Spent(
            local_tokens=self._draft.tokens,
            cloud_tokens=self._cloud.tokens,
            saved_cloud_tokens=saved if self.outcome == "accepted" else 0,
        )

    def feed(self, data: bytes) -> bytes:
        """Take a piece of the cloud's stream; returns what may go to the client now."""
        if self._client.ended:
            return b""
        out = []
        for text in self._cloud.feed(data):
            out.append(self._text(text))
            if self.wants_cloud_stop:
                return b"".join(out)
        if self._cloud.broken or self._cloud.ended:
            out.append(self.end())
        return b"".join(out)

    def end(self) -> bytes:
        """The cloud's stream is over, or broke, or was never opened; returns the client's rest."""
        if self._client.ended:
            return b""
        self.wants_cloud_stop = True
        if self._cloud.finish_reason:
            return self._cloud_finished()
        return self._cloud_failed()

    @abstractmethod
    def _cloud_finished(self) -> bytes:
        """The cloud has said all that it will say."""

    @abstractmethod
    def _cloud_failed(self) -> bytes:
        """The cloud will say no more, and has not finished."""

    def _stand_by_draft(self, sent: int) -> bytes:
        """Nothing was said against the draft, and nothing will be."""
        if self._draft.whole and self._config.draft_without_cloud:
            return self._take_draft("unverified", sent)
        return self._broken()

    def _broken(self) -> bytes:
        self.outcome = "failed"
        return self._client.broken()

    def _finish(self) -> bytes:
        """The end of an answer that the cloud wrote to its end."""
        return self._client.finish(self._cloud.finish_reason, self.completion_tokens)

    def _take_draft(self, outcome: Outcome, sent: int) -> bytes:
        """The draft is the answer; the client has the first ``sent`` characters of it."""
        self.outcome = outcome
        self.wants_cloud_stop = True
        rest = self._client.text(self._draft.text.strip()[sent:])
        return rest + self._client.finish(self._draft.finish_reason, self.completion_tokens)

    @abstractmethod
    def _text(self, text: str) -> bytes:
        """One piece of what the cloud says."""


def common_prefix(left: str, right: str) -> int:
    """How many characters two texts begin with alike; by bisection, so the work is in C."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
