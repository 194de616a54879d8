"""Rewrites the texts of an answer: events of a stream, or a whole answer. Sans-IO.

What happens to a text is a filter's business (``restore``, ``content``). Each choice has a filter
for its text and one for the arguments of each call, because they interleave. Events that no filter
can care for pass as the very bytes they are.

The relay feeds whole events in plain form (``data: ...`` and a blank line), as its scan gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from edge_tier.gateway.content import ContentScreen, Scanner
from edge_tier.gateway.restore import Restorer
from wire.chat import DONE, DONE_DATA

_TEXT_FIELDS = ("reasoning_content", "content", "refusal")
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class TextFilter(Protocol):
    """Changes a text that comes in pieces."""

    @property
    def blocked(self) -> str:
        """The rule that ends the answer; empty: none."""
        ...

    @property
    def flagged(self) -> tuple[str, ...]:
        """Rules that are met and end nothing."""
        ...

    @property
    def holding(self) -> bool:
        """Whether the next piece must be fed, whatever it is."""
        ...

    def feed(self, text: str) -> str: ...

    def flush(self) -> str: ...


class Chain:
    """Filters one after the other."""

    def __init__(self, *filters: TextFilter) -> None:
        self._filters = filters

    @property
    def blocked(self) -> str:
        return next((one.blocked for one in self._filters if one.blocked), "")

    @property
    def flagged(self) -> tuple[str, ...]:
        return tuple(name for one in self._filters for name in one.flagged)

    @property
    def holding(self) -> bool:
        return any(one.holding for one in self._filters)

    def feed(self, text: str) -> str:
        for one in self._filters:
            text = one.feed(text)
        return text

    def flush(self) -> str:
        text = ""
        for one in self._filters:
            text = (one.feed(text) if text else "") + one.flush()
        return text


def filters(
    restore: Mapping[str, str],
    output: ContentScreen,
    *,
    shadow: bool = False,
    json_content: bool = False,
) -> Callable[[bool], TextFilter]:
    """Makes the filter of each text of an answer: values come back, then content is looked for.

    Args:
        restore: ``Sanitized.restore``.
        output: the policy's content rules for answers (``Memo.known(...).output``).
        json_content: the answer itself is JSON, because the prompt has a response format.
    """

    def make(in_json: bool) -> TextFilter:
        restorer = Restorer(restore, in_json=in_json or json_content)
        return Chain(restorer, Scanner(output, shadow=shadow)) if output else restorer

    return make


def rewriter(
    restore: Mapping[str, str],
    output: ContentScreen,
    *,
    shadow: bool = False,
    json_content: bool = False,
) -> EventRewriter | None:
    """What must stand in the stream of an answer; None where its bytes may pass as they are. The
    arguments are those of :func:`filters`.
    """
    make = filters(restore, output, shadow=shadow, json_content=json_content)
    if output:
        return EventRewriter(make, keep_logprobs=False)
    return EventRewriter(make, holds_no_bracket) if restore else None


def holds_no_bracket(events: bytes) -> bool:
    """Whether these events need no restoring: no ``[`` but the one that opens ``choices``.

    JSON could write it as ``\\u005b``; in a text, the quotes of ``"choices"`` would be escaped.
    """
    brackets = events.count(b"[")
    if brackets and brackets != events.count(b'"choices":[') + events.count(b'"choices": ['):
        return False
    return b"\\u005" not in events


class EventRewriter:
    """Rewrites the events of one stream.

    Args:
        make: a new filter; its argument says whether the text is JSON (arguments of a call).
        passes: whether events can go on untouched while no filter holds anything back.
        keep_logprobs: False where filters hold back what must not be seen: log-probabilities name
            every token.
    """

    def __init__(
        self,
        make: Callable[[bool], TextFilter],
        passes: Callable[[bytes], bool] = lambda events: False,  # noqa: ARG005 - the argument's name
        *,
        keep_logprobs: bool = True,
    ) -> None:
        self.blocked = ""
        """The content rule that ended the answer. Nothing goes on after that."""
        self.flagged: set[str] = set()
        """Content rules that were met and ended nothing; for the log."""
        self._make = make
        self._passes = passes
        self._keep_logprobs = keep_logprobs
        self._filters: dict[tuple[int, str, int], TextFilter] = {}
        self._holding = False
        self._last: dict[str, Any] = {}

    def feed(self, events: bytes) -> bytes:
        """The bytes that go on in place of whole events."""
        if not self._holding and self._passes(events):
            return events
        out: list[bytes] = []
        for block in events.split(b"\n\n"):
            if self.blocked:
                break
            if block:
                out.append(self._block(block))
        return b"".join(out)

    def flush(self) -> bytes:
        """What was held back, as an event; the stream has ended without a finish reason."""
        indexes = sorted({key[0] for key in self._filters})
        choices = [self._ending(index, {}) for index in indexes]
        self._holding = False
        if indexes and self.blocked:
            return self._blocked_end(self._last, indexes)
        rests = [choice for choice in choices if choice is not None]
        return _event({**self._last, "choices": rests}) if rests else b""

    def _block(self, block: bytes) -> bytes:
        if block[:5] != b"data:":
            return block + b"\n\n"
        data = block[5:].strip()
        if data == DONE_DATA.encode():
            return self.flush() + DONE
        try:
            chunk = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return block + b"\n\n"
        if not isinstance(chunk, dict) or not chunk.get("choices"):
            return block + b"\n\n"
        self._last = {k: v for k, v in chunk.items() if k != "usage"}
        return self._chunk(chunk)

    def _chunk(self, chunk: dict[str, Any]) -> bytes:
        for choice in _dicts(chunk["choices"]):
            self._choice(choice)
            if self.blocked:
                open_now = {key[0] for key in self._filters} | {choice.get("index", 0)}
                return self._blocked_end(chunk, open_now) + DONE
        self._holding = any(one.holding for one in self._filters.values())
        return _event(chunk)

    def _blocked_end(self, chunk: dict[str, Any], indexes: Iterable[int]) -> bytes:
        """The last event of an answer that a rule has ended: every choice that was still open."""
        shape: dict[str, Any] = {"delta": {}}
        if any("text" in choice for choice in _dicts(chunk["choices"])):
            shape = {"text": ""}
        self._filters = {}
        ends = [
            {"index": index, **shape, "logprobs": None, "finish_reason": "content_filter"}
            for index in sorted(set(indexes))
        ]
        return _event({**chunk, "choices": ends})

    def _choice(self, choice: dict[str, Any]) -> None:
        index = choice.get("index", 0)
        delta = choice.get("delta")
        if not self._keep_logprobs and "logprobs" in choice:
            choice["logprobs"] = None
        if isinstance(choice.get("text"), str):
            choice["text"] = self._feed((index, "text", 0), choice["text"])
        if isinstance(delta, dict):
            for field in _TEXT_FIELDS:
                if isinstance(delta.get(field), str):
                    delta[field] = self._feed((index, field, 0), delta[field])
            for call in _dicts(delta.get("tool_calls")):
                function = call.get("function")
                if isinstance(function, dict) and isinstance(function.get("arguments"), str):
                    key = (index, "call", call.get("index", 0))
                    function["arguments"] = self._feed(key, function["arguments"])
        if choice.get("finish_reason") is not None:
            self._ending(index, choice)

    def _feed(self, key: tuple[int, str, int], text: str) -> str:
        one = self._filters.get(key)
        if one is None:
            one = self._filters[key] = self._make(key[1] == "call")
        text = one.feed(text)
        self._note(one)
        return text

    def _note(self, one: TextFilter) -> None:
        self.blocked = self.blocked or one.blocked
        self.flagged.update(one.flagged)

    def _ending(self, index: int, choice: dict[str, Any]) -> dict[str, Any] | None:
        """Add what was held back of a choice to its last event; None: nothing was."""
        rests: list[tuple[str, int, str]] = []
        for key in [key for key in self._filters if key[0] == index]:
            one = self._filters.pop(key)
            rest = one.flush()
            self._note(one)
            if rest and not self.blocked:
                rests.append((key[1], key[2], rest))
        if not rests:
            return None
        choice.setdefault("index", index)
        for field, call_index, rest in rests:
            if field == "text":
                choice["text"] = choice.get("text", "") + rest
                continue
            delta = choice.setdefault("delta", {})
            if field == "call":
                calls = delta.setdefault("tool_calls", [])
                _add_arguments(calls, call_index, rest)
            else:
                delta[field] = (delta.get(field) or "") + rest
        choice.setdefault("finish_reason", None)
        return choice


def rewrite_answer(body: bytes, make: Callable[[bool], TextFilter]) -> tuple[bytes, str]:
    """A whole answer with its texts rewritten, and the content rule that withholds it (or "").

    A choice that is withheld has no text and the finish reason ``content_filter``. What is no
    answer is returned as it is.
    """
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body, ""
    if not isinstance(answer, dict):
        return body, ""
    blocked = ""
    for choice in _dicts(answer.get("choices")):
        rule = _rewrite_choice(choice, make)
        if rule:
            blocked = rule
            _withhold(choice)
    return _encode(answer), blocked


def _rewrite_choice(choice: dict[str, Any], make: Callable[[bool], TextFilter]) -> str:
    blocked = ""
    message = choice.get("message")
    places: list[tuple[dict[str, Any], str, bool]] = [(choice, "text", False)]
    if isinstance(message, dict):
        places += [(message, field, False) for field in _TEXT_FIELDS]
        for call in _dicts(message.get("tool_calls")):
            if isinstance(call.get("function"), dict):
                places.append((call["function"], "arguments", True))
    for holder, field, in_json in places:
        if isinstance(holder.get(field), str):
            one = make(in_json)
            text = one.feed(holder[field])
            holder[field] = text + one.flush()
            blocked = blocked or one.blocked
    return blocked


def _withhold(choice: dict[str, Any]) -> None:
    choice |= {"finish_reason": "content_filter", "logprobs": None}
    if "text" in choice:
        choice["text"] = ""
    message = choice.get("message")
    if isinstance(message, dict):
        for field in (*_TEXT_FIELDS, "tool_calls"):
            message.pop(field, None)
        message["content"] = ""


def _add_arguments(calls: list[Any], index: int, rest: str) -> None:
    for call in _dicts(calls):
        if call.get("index", 0) == index and isinstance(call.get("function"), dict):
            call["function"]["arguments"] = call["function"].get("arguments", "") + rest
            return
    calls.append({"index": index, "function": {"arguments": rest}})


def _dicts(values: Any) -> Iterator[dict[str, Any]]:
    return (value for value in values or () if isinstance(value, dict))


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + _encode(chunk) + b"\n\n"
