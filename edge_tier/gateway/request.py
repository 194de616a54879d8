"""The values that pass between the stages of the prompt pipeline.

Each stage takes one of these and returns the next; none is changed in place. A stage imports only
this file and ``wire``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Scope = Literal["chat", "admin"]
Target = Literal["worker", "cloud"]
Privacy = Literal["any", "local"]
"""``local``: the prompt must not leave for the cloud."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller may use. 0 means unlimited."""

    requests_per_minute: int = 600
    tokens_per_minute: int = 200_000
    max_output_tokens: int = 4_096


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How a caller's prompts are treated."""

    privacy: Privacy = "any"
    personal_data: Literal["flag", "mask", "block", "off"] = "flag"
    models: tuple[str, ...] = ()
    """Models the caller may name; empty: all."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated tenant with its limits and policy."""

    key_id: str
    tenant: str
    scopes: frozenset[Scope]
    limits: Limits = Limits()
    policy: Policy = Policy()


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation. ``content`` is text; parts were joined by the parser."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class Sampling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The allow-listed generation fields, checked for range. ``None``: the engine's default."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool = False
    top_logprobs: int | None = None


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed request: chat (``messages``) or plain completion (``text``), never both."""

    kind: Literal["chat", "completion"]
    model: str
    """As the client named it: a model, or ``auto``."""
    messages: tuple[Message, ...] = ()
    text: str = ""
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stream: bool = False
    include_usage: bool = False
    user: str | None = None

    def texts(self) -> tuple[str, ...]:
        """All content that came from the outside, in order."""
        return tuple(m.content for m in self.messages) if self.kind == "chat" else (self.text,)


class Finding(msgspec.Struct, frozen=True):
    """Something the sanitizer noticed. Never carries the text itself.

    ``part`` is the index in ``Prompt.texts()``; ``start`` and ``end`` are character offsets in that
    part as it was received.
    """

    name: str
    part: int
    start: int
    end: int


class Sanitized(msgspec.Struct, frozen=True):
    """A prompt whose texts are safe to tokenize, and what was found on the way."""

    prompt: Prompt
    findings: tuple[Finding, ...] = ()


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """A rendered and tokenized prompt for one model.

    Where only the engine tokenizes exactly, ``ids`` is empty and ``estimate`` is what limits use.
    """

    model: str
    revision: str
    ids: tuple[int, ...] = ()
    estimate: int = 0

    def __len__(self) -> int:
        return len(self.ids) or self.estimate


class Complexity(msgspec.Struct, frozen=True):
    """How hard the prompt looks: ``score`` in 0..1, and each feature's share of the logit."""

    score: float
    contributions: dict[str, float]


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens set aside for a request until it is settled."""

    id: str = ""
    """Names this reservation to the limiter that made it; empty: nothing is to be settled."""
    key: str
    tokens: int
    limit_requests: int
    remaining_requests: int
    reset_requests_s: float
    limit_tokens: int
    remaining_tokens: int
    reset_tokens_s: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One place a request may go."""

    target: Target
    model: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes, in order of preference, and why."""

    steps: tuple[Step, ...]
    reasons: tuple[str, ...]
