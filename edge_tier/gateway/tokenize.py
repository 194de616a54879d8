"""The tokenize stage: a prompt becomes the very ids that llama.cpp would make of it.

Tokenizer, template and special tokens come from the revision's signed edge bundle. Content can
never become a control token: those come only from the template itself (``wire.chat_template``).
Where the bundle says that the engine must do it, this stage only estimates, and neutralizes control
literals in what is sent as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

import msgspec

from edge_tier.gateway.request import Prompt, Tokens
from wire.bundle import BundleInvalidError, ModelCard
from wire.chat_template import ChatTemplate
from wire.encoder import Encoder
from wire.errors import HeadwaterError, RequestInvalidError, TooLargeError
from wire.specials import Piece

_BREAKS = "\u2060\u200b\ufeff\u00ad"
"""Invisible characters; the first that no control literal holds breaks them."""
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
        self._literals = _pattern(self.literals)
        self._break = next((c for c in _BREAKS if c not in "".join(self.literals)), "")
        if not self._break:
            raise BundleInvalidError("the control literals hold every invisible character")
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
        needed = self._encoder is not None
        return needed and (prompt.kind == "completion" or self._template is not None)

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

    def estimate(self, prompt: Prompt) -> int:
        """About how many tokens a prompt has that the engine tokenizes.

        Raises:
            TooLargeError: more bytes than ``max_prompt_bytes``.
        """
        return self._check_size(prompt) // _BYTES_PER_TOKEN + _TURN_TOKENS * len(prompt.texts())

    def neutralize(self, prompt: Prompt) -> Prompt:
        """The prompt with every control literal in its texts broken by an invisible character,
        for an engine that renders the template itself.
        """
        return msgspec.structs.replace(
            prompt,
            text=self._broken(prompt.text),
            messages=tuple(
                msgspec.structs.replace(message, content=self._broken(message.content))
                for message in prompt.messages
            ),
        )

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

    def _broken(self, text: str) -> str:
        while self._literals is not None and self._literals.search(text):
            text = self._literals.sub(self._broken_literal, text)
        return text

    def _broken_literal(self, match: re.Match[str]) -> str:
        """A literal of one character cannot be broken; the break takes its place."""
        literal = match.group()
        return literal[0] + self._break + literal[1:] if len(literal) > 1 else self._break


def _pattern(literals: tuple[str, ...]) -> re.Pattern[str] | None:
    longest_first = sorted(literals, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


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
