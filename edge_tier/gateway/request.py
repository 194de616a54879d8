"""The values that pass between the stages of the prompt pipeline.

Each stage takes one of these and returns the next; none is changed in place. A stage imports only
this file and ``wire``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Scope = Literal["chat", "embeddings", "admin"]
Target = Literal["worker", "cloud"]
Privacy = Literal["any", "local"]
"""``local``: the prompt must not leave for the cloud."""
Priority = Literal["interactive", "batch"]
"""Under saturation interactive requests are admitted before batch ones."""
Mode = Literal["direct", "gate", "verify"]
"""How a plan's steps are combined: the first that answers; a local answer that passes the
confidence gate, else the cloud's; a local draft that the cloud accepts, corrects or replaces."""
PersonalAction = Literal["off", "flag", "mask", "block", "restore"]
"""``restore``: placeholders in what goes on, the data themselves back in the answer."""
_Limit = Annotated[int, msgspec.Meta(ge=0)]


class SharedLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a tenant or a model may use, all who share it together. 0 means unlimited."""

    requests_per_minute: _Limit = 0
    """The rate; as many may also come at once after a quiet minute."""
    tokens_per_minute: _Limit = 0
    """Prompt and answer together."""
    input_tokens_per_minute: _Limit = 0
    """Of prompts alone."""
    output_tokens_per_minute: _Limit = 0
    """Of answers alone; what a request may use at most is set aside, and what it did not use given
    back."""
    concurrent_streams: _Limit = 0
    """Requests admitted and not settled yet."""
    tokens_per_day: _Limit = 0
    """A budget of UTC's calendar day; prompt and answer together."""
    tokens_per_month: _Limit = 0
    """The same of a calendar month."""


class Limits(SharedLimits, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What a caller may use. 0 means unlimited."""

    requests_per_minute: int = 600
    tokens_per_minute: int = 200_000
    max_output_tokens: int = 4_096
    """Of one answer."""


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What a request will use at most, set aside before it and settled after it."""

    model: str
    """That is to answer it."""
    alias: str = ""
    """What the request names instead, where it names no model."""
    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How a caller's prompts are treated, as its key says; the rest is the named policy's."""

    name: str = ""
    """A policy of the policy file; empty: the tenant's, else ``default``."""
    privacy: Privacy = "any"
    """``local``: prompts never go to the cloud; ``any``: as the named policy has it."""
    personal_data: PersonalAction | None = None
    """None: as the named policy has it."""
    models: tuple[str, ...] = ()
    """Models the caller may name; empty: all."""


class ContentRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deny list or a topic of a policy. Words match whole, without regard to case."""

    name: str
    words: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    """RE2 expressions."""
    sides: tuple[Literal["input", "output"], ...] = ("input",)
    action: Literal["flag", "block"] = "block"
    min_hits: int = 1
    """A topic is only met with so many different words or patterns."""


class RouteRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of a policy's decision table: conditions, all of which must hold, and a decision."""

    name: str
    when: dict[str, str | float | bool | tuple[str, ...]] = {}
    target: Literal["local", "cloud", "by_complexity"] = "by_complexity"
    only: bool = False
    """Without a fallback to the other side."""
    mode: Mode | None = None
    """None: as the edge is configured."""
    hedge: bool | None = None
    """Whether a slow worker is raced by a second one. None: interactive requests are."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """One policy of the policy file, with what the key says laid over it."""

    name: str = "default"
    privacy: Privacy = "any"
    residency: str = ""
    """The region that prompts must not leave; a cloud elsewhere is not asked. Empty: any."""
    regulations: tuple[str, ...] = ()
    """Regimes that its prompts fall under, such as ``gdpr`` or ``hipaa``; a cloud that is not
    approved for all of them is not asked."""
    personal_data: PersonalAction = "flag"
    personal_kinds: dict[str, PersonalAction] = {}
    """By kind of data, over ``personal_data``."""
    homoglyphs: Literal["off", "flag", "fold", "block"] = "flag"
    injection: Literal["off", "flag", "block"] = "flag"
    injection_threshold: float = 0.0
    """Score from which a prompt counts as injection, 0..1; 0: the fitted one."""
    content: tuple[ContentRule, ...] = ()
    shadow: bool = False
    """Find and log, but change and refuse nothing."""
    routes: tuple[RouteRow, ...] = ()


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated tenant with its limits and policy."""

    key_id: str
    tenant: str
    scopes: frozenset[Scope]
    limits: Limits = Limits()
    policy: Policy = Policy()


Kind = Literal["chat", "completion", "embedding"]


class ToolCall(msgspec.Struct, frozen=True):
    """A call that an assistant's turn made. ``arguments`` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation. ``content`` is text; parts were joined by the parser."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


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
    """A parsed request: chat (``messages``), plain completion (``text``) or texts to embed."""

    kind: Kind
    model: str
    """As the client named it: a model, or ``auto``."""
    messages: tuple[Message, ...] = ()
    text: str = ""
    inputs: tuple[str, ...] = ()
    """Texts to embed."""
    tools: str = ""
    """The checked ``tools`` list as JSON; empty: none."""
    tool_choice: str = ""
    """As JSON; empty: the engine's default."""
    parallel_tool_calls: bool | None = None
    response_format: str = ""
    """The checked ``response_format`` as JSON; empty: free text."""
    n: int = 1
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] = "float"
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stream: bool = False
    include_usage: bool = False
    user: str | None = None

    @property
    def engine_renders(self) -> bool:
        """Whether only the engine's own parsing can serve this (tools, structured output)."""
        return bool(self.tools or self.response_format) or any(
            message.tool_calls or message.tool_call_id for message in self.messages
        )

    def texts(self) -> tuple[str, ...]:
        """All content that came from the outside, in order: contents, arguments of calls, tools."""
        if self.kind == "completion":
            return (self.text,)
        if self.kind == "embedding":
            return self.inputs
        texts = [message.content for message in self.messages]
        if self.engine_renders:
            texts += [call.arguments for message in self.messages for call in message.tool_calls]
            texts += [self.tools, self.response_format]
        return tuple(texts)

    def with_texts(self, texts: tuple[str, ...]) -> Prompt:
        """The same prompt with other texts, in the order of :meth:`texts`."""
        if self.kind == "completion":
            return msgspec.structs.replace(self, text=texts[0])
        if self.kind == "embedding":
            return msgspec.structs.replace(self, inputs=texts)
        rest = iter(texts[len(self.messages) :])
        messages = tuple(
            Message(
                message.role,
                text,
                tuple(ToolCall(c.id, c.name, next(rest)) for c in message.tool_calls),
                message.tool_call_id,
            )
            for message, text in zip(self.messages, texts, strict=False)
        )
        if not self.engine_renders:
            return msgspec.structs.replace(self, messages=messages)
        return msgspec.structs.replace(
            self, messages=messages, tools=next(rest), response_format=next(rest)
        )


class Finding(msgspec.Struct, frozen=True):
    """Something the sanitizer noticed. Never carries the text itself.

    ``part`` is the index in ``Prompt.texts()``, and beyond that in the strings at which to stop;
    ``start`` and ``end`` are character offsets in that part as it was received (in JSON: with its
    characters written out).
    """

    name: str
    part: int
    start: int
    end: int
    action: Literal["flag", "cut", "mask", "replace", "block"] = "flag"
    """What was done about it; in shadow mode what would have been done."""


class Sanitized(msgspec.Struct, frozen=True):
    """A prompt whose texts are safe to tokenize, and what was found on the way."""

    prompt: Prompt
    findings: tuple[Finding, ...] = ()
    restore: dict[str, str] = {}
    """Placeholder → what it stands for. Never logged, never sent on."""

    def __repr__(self) -> str:
        return f"Sanitized({len(self.findings)} findings, {len(self.restore)} placeholders)"


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


class Standing(msgspec.Struct, frozen=True, gc=False):
    """How a key, a tenant or a model stands after a reservation."""

    limits: SharedLimits
    debts: tuple[int, int, int, int]
    """Of requests, tokens, input and output tokens, in ticks (``gcra``)."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What was set aside for a request until it is settled."""

    id: str = ""
    """Names this reservation to the limiter that made it; empty: nothing is to be settled."""
    charge: Charge
    caller: Caller
    standings: tuple[Standing, ...] = ()
    """Of the key, the tenant and the model, as far as they have limits."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One place a request may go."""

    target: Target
    model: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes, in order of preference, and why."""

    steps: tuple[Step, ...]
    reasons: tuple[str, ...]
    mode: Mode = "direct"
    priority: Priority = "interactive"
    hedge: bool | None = None
    """Whether a slow worker is raced by a second one. None: interactive requests are."""
    rule: str = ""
    """The row of the decision table that decided; empty: none did."""
    shadow: str = ""
    """What the other choice would have been, for the log."""
    why: str = "other"
    """What decided, in one or two words that metrics can count: ``named``, ``complexity``,
    ``preferred``, ``row NAME``, ``must stay local``, ``not ready`` or ``saturated``."""
