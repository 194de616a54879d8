"""The tokenize stage: a prompt becomes the very ids that llama.cpp would make of it.

Tokenizer, template and special tokens come from the revision's signed edge bundle. Content can
never become a control token: those come only from the template itself (``wire.chat_template``).
Where the bundle says that the engine must do it, this stage only estimates, and neutralizes control
literals in what is sent as text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

import msgspec
import re2

from edge_tier.gateway.json_text import escaped, without_escapes
from edge_tier.gateway.request import Message, Prompt, Tokens, ToolCall
from wire.bundle import BundleInvalidError, ModelCard
from wire.chat_template import ChatTemplate
from wire.encoder import Encoder
from wire.errors import HeadwaterError, RequestInvalidError, TooLargeError
from wire.specials import Piece

_BREAKS = "\u2060\u200b\ufeff\u00ad"
"""Invisible characters; the first that no control literal holds breaks them."""
_PATTERN_MEMORY_BYTES = 64 * 1024 * 1024
_BYTES_PER_TOKEN = 3
"""For estimates; real text has more, so an estimate is rather high than low."""
_TURN_TOKENS = 8


class ContextExceededError(RequestInvalidError):
    """The prompt leaves no room for an answer in the model's context."""

    code: ClassVar[str] = "context_length_exceeded"


class EngineTokenizesError(HeadwaterError):
    """The bundle leaves this kind of prompt to the engine; send it as text."""

    code = "engine_tokenizes"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeConfig:
    """Bounds of the stage."""

    max_prompt_bytes: int = 4 * 1024 * 1024
    """Of a prompt's texts in UTF-8; more are refused (413)."""
    inline_bytes: int = 32 * 1024
    """Longer prompts are encoded in a thread, so that the event loop does not wait."""


class Tokenizer:
    """The tokenizer and chat template of one revision. Safe to share between threads.

    Args:
        data: ``tokenizer.json``.
        now: for templates that show a date.

    Raises:
        BundleInvalidError: the bundle is malformed or contradicts itself.
    """

    def __init__(
        self,
        model: str,
        revision: str,
        card: ModelCard,
        data: bytes,
        config: TokenizeConfig | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.model = model
        self.revision = revision
        self.card = card
        self._config = config or TokenizeConfig()
        self._encoder = Encoder(data, card) if card.tokenizer == "exact" else None
        self._template = ChatTemplate(card, now) if card.template == "exact" else None
        self._break = next((c for c in _BREAKS if c not in "".join(self.literals)), "")
        if not self._break:
            raise BundleInvalidError("the control literals hold every invisible character")
        plain, in_json = self.literals, [escaped(literal) for literal in self.literals]
        self._breaker = _Breaker(plain, [literal[0] for literal in plain], self._break)
        starts = [escaped(literal[0]) for literal in plain]
        self._json_breaker = _Breaker(in_json, starts, self._break)
        if self._encoder is not None and self._template is not None:
            self._encoder.remember(_constants(self._template))

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together."""
        return self.card.context_length

    @property
    def literals(self) -> tuple[str, ...]:
        """The text of every control token."""
        return tuple(token.text for token in self.card.control_literals)

    def handles(self, prompt: Prompt) -> bool:
        """Whether this stage gives exact ids for such a prompt; if not, the engine must."""
        if self._encoder is None or prompt.kind == "embedding" or prompt.engine_renders:
            return False
        return prompt.kind == "completion" or self._template is not None

    def is_long(self, prompt: Prompt) -> bool:
        """Whether encoding takes so long that it belongs in a thread."""
        return sum(map(len, prompt.texts())) > self._config.inline_bytes

    def encode(self, prompt: Prompt) -> Tokens:
        """The ids of a sanitized prompt, equal to llama.cpp's.

        Raises:
            TooLargeError: more bytes than ``max_prompt_bytes``.
            ContextExceededError: no room for an answer is left.
            RequestInvalidError: the template refuses these messages.
            EngineTokenizesError: see :meth:`handles`.
        """
        if 4 * sum(map(len, prompt.texts())) > self._config.max_prompt_bytes:
            self._check_size(prompt)
        if self._encoder is None:
            raise EngineTokenizesError(f"prompts for {self.model} are tokenized by the engine")
        ids = self._encoder.encode(self._pieces(prompt))
        if len(ids) >= self.card.context_length:
            raise ContextExceededError(
                f"the prompt has {len(ids)} tokens, and the context of {self.model} holds "
                f"{self.card.context_length} with the answer; shorten the prompt"
            )
        return Tokens(model=self.model, revision=self.revision, ids=tuple(ids))

    def encode_text(self, text: str) -> list[int]:
        """The ids of a piece of plain text; none where only the engine knows them."""
        return self._encoder.encode_plain(text) if self._encoder is not None else []

    def estimate(self, prompt: Prompt) -> int:
        """About how many tokens a prompt has that the engine tokenizes.

        Raises:
            TooLargeError: more bytes than ``max_prompt_bytes``.
        """
        return self._check_size(prompt) // _BYTES_PER_TOKEN + _TURN_TOKENS * len(prompt.texts())

    def neutralize(self, prompt: Prompt) -> Prompt:
        """The prompt with every control literal in its texts broken by an invisible character,
        for an engine that renders the template itself. What is JSON is broken in the strings that
        the engine will read, however they are escaped.
        """
        texts = prompt.texts()
        as_json = len(prompt.messages) if prompt.kind == "chat" else len(texts)
        broken = tuple(
            self._json_breaker(without_escapes(text)) if part >= as_json else self._breaker(text)
            for part, text in enumerate(texts)
        )
        if broken != texts:
            prompt = prompt.with_texts(broken)
        return self._with_safe_names(prompt) if prompt.engine_renders else prompt

    def _with_safe_names(self, prompt: Prompt) -> Prompt:
        """Names and ids of calls are rendered too. The parser takes no such name; should it ever,
        then the call is spoilt and not the prompt.
        """
        safe = self._breaker
        messages = tuple(
            Message(
                message.role,
                message.content,
                tuple(ToolCall(safe(c.id), safe(c.name), c.arguments) for c in message.tool_calls),
                safe(message.tool_call_id),
            )
            for message in prompt.messages
        )
        choice = self._json_breaker(without_escapes(prompt.tool_choice))
        if messages == prompt.messages and choice == prompt.tool_choice:
            return prompt
        return msgspec.structs.replace(prompt, messages=messages, tool_choice=choice)

    def _pieces(self, prompt: Prompt) -> list[Piece]:
        if prompt.kind == "completion":
            return [prompt.text]
        if self._template is None:
            if self.card.template == "none":
                raise RequestInvalidError(
                    f"model {self.model} has no chat template; ask /v1/completions"
                )
            raise EngineTokenizesError(f"chats with {self.model} are rendered by the engine")
        return self._template.render([(turn.role, turn.content) for turn in prompt.messages])

    def _check_size(self, prompt: Prompt) -> int:
        """The prompt's size in bytes of UTF-8, at most."""
        size = sum([len(t) if t.isascii() else 4 * len(t) for t in prompt.texts()])
        if size > self._config.max_prompt_bytes:
            size = sum(len(text.encode(errors="replace")) for text in prompt.texts())
        if size > self._config.max_prompt_bytes:
            raise TooLargeError(
                f"the prompt is {size} B long; at most {self._config.max_prompt_bytes} B are taken"
            )
        return size


class _Breaker:
    """Breaks every literal in a text after its first character.

    Args:
        literals: what stands in the text for each control token.
        starts: the first character of each, as it stands in the text.
        brk: the character that breaks. No literal holds it, so breaking one makes no other.
    """

    def __init__(self, literals: Sequence[str], starts: Sequence[str], brk: str) -> None:
        pairs = sorted(zip(literals, starts, strict=True), key=lambda pair: -len(pair[0]))
        # A literal of one character cannot be broken; the break takes its place.
        self._broken = {
            literal.encode(): (
                start + brk + literal[len(start) :] if literal != start else brk
            ).encode()
            for literal, start in pairs
        }
        options = re2.Options()
        options.max_mem = _PATTERN_MEMORY_BYTES
        pattern = b"|".join(map(re2.escape, self._broken))
        self._pattern = re2.compile(pattern, options) if pattern else None

    def __call__(self, text: str) -> str:
        """RE2 and ``bytes`` work in linear time, whatever the text."""
        if self._pattern is None:
            return text
        data = text.encode(errors="replace")
        if self._pattern.search(data) is None:
            return text
        # Breaking one literal may leave another that overlapped it.
        while self._pattern.search(data) is not None:
            for literal, broken in self._broken.items():
                data = data.replace(literal, broken)
        return data.decode()


def _constants(template: ChatTemplate) -> set[str]:
    """Texts between control tokens that are the same in two unlike conversations."""
    shown = []
    for word in ("a", "b"):
        turns = [(role, word) for role in ("user", "assistant", "user")]
        try:
            shown.append({piece for piece in template.render(turns) if isinstance(piece, str)})
        except RequestInvalidError:
            return set()
    return shown[0] & shown[1]
