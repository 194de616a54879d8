"""The confidence gate: may the local answer go to the client, or shall the cloud answer?

Sans-IO. The first tokens of a local stream are held back, in number and bytes bounded, while their
log-probabilities are looked at; then the held bytes are released untouched (but for logprobs that
only we asked for), or dropped because the cloud answers instead. All rules::

    wait ── P(right) of k tokens, or of a whole shorter answer, reaches the target ──► pass
      ├──── it cannot reach the target any more, whatever comes (so also before k) ──► escalate
      ├──── the engine fails, or sends what is no stream of chunks ──────────────────► escalate
      └──── no signal: a token without logprob, or more held than allowed ───► as configured
    escalate ── no cloud answers, and the local stream is still open (overrule) ─────► pass

Where escalation is forbidden (a private prompt, no cloud), nothing is held: the gate passes all at
once and only records what it would have done. A model without a calibration passes when none of its
first tokens is less likely than a floor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from edge_tier.gateway.calibration import Calibrator
from edge_tier.gateway.event_blocks import EventBlocks, data_of
from edge_tier.gateway.strip_logprobs import carries_logprobs, without_logprobs
from wire.chat import DONE_DATA, Usage
from wire.errors import ConfigError

Decision = Literal["wait", "pass", "escalate"]
Reason = Literal["", "confident", "doubtful", "failed", "no_signal", "oversized"]

_OTHER_EVENTS = 4
"""Events without a token that may come among the first: the role, comments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """When a local answer is good enough, and what may be held until that is known."""

    min_chance: float = 0.7
    """The target: least calibrated probability of being right at which an answer passes."""
    floor_logprob: float = -0.5
    """For a model without calibration: the least log-probability of a token, in nats."""
    floor_tokens: int = 8
    """For a model without calibration: how many tokens are looked at."""
    max_held_bytes: int = 64 * 1024
    """Of an answer that waits for the verdict; a longer one counts as one that tells nothing."""
    max_held_events: int = 64
    """The same, in events."""
    without_signal: Literal["escalate", "pass"] = "escalate"
    """What to do with an answer that tells nothing of its certainty, where the cloud may answer:
    the stronger model is the safe choice."""


class _Token(msgspec.Struct, frozen=True, gc=False):
    logprob: float | None = None


class _Logprobs(msgspec.Struct, frozen=True):
    """In the form of a chat (``content``) or of a plain completion."""

    content: list[_Token] | None = None
    token_logprobs: list[float | None] | None = None

    def values(self) -> list[float | None]:
        if self.content is not None:
            return [token.logprob for token in self.content]
        return self.token_logprobs or []


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def says_something(self) -> bool:
        return bool(self.content or self.reasoning_content or bytes(self.tool_calls) != b"null")


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None

    @property
    def says_something(self) -> bool:
        return bool(self.text) or (self.delta is not None and self.delta.says_something)


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    error: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Chunk).decode


class Gate:
    """Follows one local stream.

    Args:
        calibrator: of the model that answers; None: the floor decides.
        can_escalate: whether the cloud may answer instead.
        keep_logprobs: the client asked for logprobs itself.
        first_only: the engine sends logprobs for the first tokens only, as our workers do on
            ``logprobs_first``; from then on nothing is to be cut, and bytes pass unread.
    """

    def __init__(
        self,
        config: GateConfig,
        calibrator: Calibrator | None,
        *,
        can_escalate: bool = True,
        keep_logprobs: bool = False,
        first_only: bool = True,
    ) -> None:
        self.verdict: Decision = "wait"
        """What the signal says, whether or not it can be followed."""
        self.reason: Reason = ""
        self.confidence: float | None = None
        """The calibrated chance that the answer is right; before the verdict the most it can be.
        None without a calibration or a signal."""
        self.tokens = 0
        """Tokens seen so far; no longer counted when ``transparent``."""
        self.transparent = False
        """All further bytes pass as they are; the gate may be taken out of the way."""
        self._config = config
        self._calibrator = calibrator
        self._needed = calibrator.tokens if calibrator is not None else config.floor_tokens
        self._can_escalate = can_escalate
        self._keep_logprobs = keep_logprobs
        self._first_only = first_only
        self._blocks = EventBlocks(max_block_bytes=config.max_held_bytes)
        self._held: list[bytes] = []
        self._late = bytearray()
        self._held_events = self._held_bytes = 0
        self._logprobs: list[float] = []
        self._least = math.inf
        self._looking = True

    @property
    def decision(self) -> Decision:
        """What to do now: ``escalate`` means that the local stream is to be closed."""
        return self.verdict if self._can_escalate else "pass"

    @property
    def least(self) -> float | None:
        """The least log-probability seen, in nats; for the log."""
        return self._least if self._logprobs else None

    def feed(self, data: bytes) -> bytes:
        """Take a piece of the stream; returns what may go to the client now."""
        if self.transparent or self._passes_unread(data):
            return data
        if self.decision == "escalate":
            self._late += data if len(self._late) <= self._config.max_held_bytes else b""
            return b""
        for block in self._blocks.feed(data):
            self._take(block)
            if self._dropped_or_untouched:
                break
        if self._blocks.oversized:
            self._decide("oversized")
        return self._release()

    def overrule(self) -> bytes | None:
        """The cloud cannot answer either, so let the local answer pass after all.

        Returns:
            What was held, for the client; the local stream goes on through ``feed``. None where the
            local answer is lost: it failed itself, or more came after the verdict than is held.
        """
        if self.reason == "failed" or len(self._late) > self._config.max_held_bytes:
            return None
        self._can_escalate = False
        late, self._late = bytes(self._late), bytearray()
        return self.feed(late)

    def end(self) -> bytes:
        """The local stream is over; returns what is left for the client.

        A stream that ends before its answer does has failed.
        """
        self._decide("failed")
        return self._release() + self._blocks.rest() if self.decision == "pass" else b""

    def spent(self, prompt_tokens: int) -> Usage:
        """What the local model used until the verdict: the cost of an escalation, for the log and
        the metrics. Tokens that were on their way when the stream was closed are not in it."""
        return Usage(prompt_tokens, self.tokens, prompt_tokens + self.tokens)

    def _passes_unread(self, data: bytes) -> bool:
        """After the verdict, of an engine that goes on sending logprobs: whole events without."""
        return (
            not self._looking
            and self.decision == "pass"
            and data.endswith(b"\n\n")
            and self._blocks.empty
            and not carries_logprobs(data)
        )

    @property
    def _untouched(self) -> bool:
        """Whether the next event stays as it is."""
        return self._keep_logprobs or (self._first_only and not self._looking)

    @property
    def _dropped_or_untouched(self) -> bool:
        """Whether nothing of what is still to come need be cut apart."""
        return self.decision == "escalate" or (self._untouched and not self._looking)

    def _take(self, block: bytes) -> None:
        """Hold one event, and look at it where that can still tell something."""
        self._held.append(block if self._untouched else without_logprobs(block))
        self._held_events += 1
        self._held_bytes += len(block)
        if self._looking:
            self._look(data_of(block))
        if self.verdict == "wait" and (
            self._held_bytes > self._config.max_held_bytes
            or self._held_events >= self._config.max_held_events
        ):
            self._decide("oversized")

    def _look(self, data: bytes | None) -> None:
        if data is None:
            return
        if data == DONE_DATA.encode():
            self._judge(enough=True)
            return
        try:
            chunk = _decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            self._decide("failed")
            return
        if bytes(chunk.error) != b"null":
            self._decide("failed")
            return
        for choice in chunk.choices:
            if choice.index == 0 and self._looking:
                self._choice(choice)

    def _choice(self, choice: _Choice) -> None:
        values = choice.logprobs.values() if choice.logprobs is not None else []
        if not values and choice.says_something:
            self._decide("no_signal")
            return
        self.tokens += len(values)
        before = self._least
        for value in values[: self._needed - len(self._logprobs)]:
            if value is None or not math.isfinite(value):
                self._decide("no_signal")
                return
            self._logprobs.append(value)
            self._least = min(self._least, value)
        enough = len(self._logprobs) >= self._needed or choice.finish_reason is not None
        # Doubt comes with a token less likely than those before; to look at those only is cheap.
        if enough or self._least < before:
            self._judge(enough=enough)

    def _judge(self, *, enough: bool) -> None:
        """Decide by what the first tokens say, where that is certain already."""
        if not self._logprobs:
            self._decide("no_signal")
        elif not self._may_be_right():
            self._decide("doubtful", still_looking=not enough)
        elif enough:
            self._decide("confident")
        if enough:
            self._looking = False

    def _may_be_right(self) -> bool:
        if self._calibrator is None:
            return self._least >= self._config.floor_logprob
        if self.verdict == "wait":
            self.confidence = self._calibrator.chance(self._logprobs)
            return self.confidence >= self._config.min_chance
        return False

    def _decide(self, reason: Reason, *, still_looking: bool = False) -> None:
        """Give the verdict, once; only an answer that was found doubtful is still counted."""
        self._looking = self._looking and still_looking
        if self.verdict != "wait":
            return
        self.reason = reason
        passes = reason == "confident" or (
            reason in {"no_signal", "oversized"} and self._config.without_signal == "pass"
        )
        self.verdict = "pass" if passes else "escalate"

    def _release(self) -> bytes:
        """What was held, where it may go."""
        if self.decision != "pass":
            return b""
        held, self._held = self._held, []
        self.transparent = self._blocks.oversized or self._dropped_or_untouched
        return b"".join(held) + (self._blocks.rest() if self.transparent else b"")


class Gates:
    """Makes the gates of one edge.

    Args:
        calibrators: by model (``edge_tier.gateway.calibration``).

    Raises:
        ConfigError: with these bounds no answer could ever pass, or any would.
    """

    def __init__(self, config: GateConfig, calibrators: Mapping[str, Calibrator]) -> None:
        most = max([config.floor_tokens, *(one.tokens for one in calibrators.values())])
        if not 1 <= most <= config.max_held_events - _OTHER_EVENTS:
            raise ConfigError(
                f"a gate that looks at {most} tokens must hold over {most + _OTHER_EVENTS - 1} "
                f"events; max_held_events is {config.max_held_events}"
            )
        if not 0 < config.min_chance < 1 or not config.floor_logprob < 0:
            raise ConfigError("the gate's min_chance lies in 0..1 and its floor_logprob below 0")
        self.config = config
        self._calibrators = calibrators

    def tokens(self, model: str) -> int:
        """How many first tokens of ``model`` are looked at: what to ask as ``logprobs_first``."""
        calibrator = self._calibrators.get(model)
        return calibrator.tokens if calibrator is not None else self.config.floor_tokens

    def gate(
        self,
        model: str,
        *,
        min_chance: float | None = None,
        can_escalate: bool = True,
        keep_logprobs: bool = False,
        first_only: bool = True,
    ) -> Gate:
        """A gate for one stream of ``model``.

        Args:
            min_chance: the target of this request; None: the configured one.
            can_escalate, keep_logprobs, first_only: see :class:`Gate`.
        """
        config = self.config if min_chance is None else replace(self.config, min_chance=min_chance)
        return Gate(
            config,
            self._calibrators.get(model),
            can_escalate=can_escalate,
            keep_logprobs=keep_logprobs,
            first_only=first_only,
        )
