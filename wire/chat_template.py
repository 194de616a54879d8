"""A model's chat template: messages become runs of text and control tokens.

Control tokens come out only where the template itself writes them (``wire.template_marks``);
whatever a message says stays text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from jinja2 import nodes
from jinja2.exceptions import TemplateError

from wire.bundle import BundleInvalidError, ModelCard
from wire.chat_sandbox import Now, Renderer, Sandbox, Turn, messages_of
from wire.errors import RequestInvalidError
from wire.specials import Piece, Specials
from wire.template_dialect import trim
from wire.template_marks import MARK_FILTER, Rewriter
from wire.template_shape import Shape, shape_of

_FIRST_MARK, _LAST_MARK = 0x40000, 0x4FFFD
"""Plane 4: Unicode has assigned nothing there and plans nothing."""
_FIRST_STAND_IN, _LAST_STAND_IN = 0x50000, 0x5FFFD
_MARK = re.compile(f"([{chr(_FIRST_MARK)}-{chr(_LAST_MARK)}])")
_HOLE = re.compile(f"([{chr(_FIRST_STAND_IN)}-{chr(_LAST_STAND_IN)}])")
_MAX_SKELETONS = 256
_MAX_SKELETON_TURNS = 1_024

_Run = tuple[str | int, ...]
"""A run of text with holes: text, index of a content, text, …, text."""


class ChatTemplate:
    """One model's template, compiled once. Safe to share between threads.

    ``reasons`` says why renderings could differ from llama.cpp's of the plain template.

    Raises:
        BundleInvalidError: the template does not compile.
    """

    def __init__(self, card: ModelCard, now: Now) -> None:
        self._specials = Specials(card.control_literals)
        if len(self._specials.tokens) > _LAST_MARK - _FIRST_MARK:
            raise BundleInvalidError(f"{len(self._specials.tokens)} control tokens are too many")
        self._mark_of = {
            token.id: chr(_FIRST_MARK + index) for index, token in enumerate(self._specials.tokens)
        }
        self._id_of = {mark: id_ for id_, mark in self._mark_of.items()}
        self._system_role = card.system_role
        self._first = card.bos.id if card.add_bos and card.bos else None
        self._last = card.eos.id if card.add_eos and card.eos else None
        self.reasons: list[str] = []
        self._shape: Shape | None
        self._skeletons: dict[tuple[str, ...], list[Piece | _Run]] = {}
        try:
            self._renderer = self._compiled(card, Sandbox(now))
        except TemplateError as error:
            raise BundleInvalidError(f"the chat template does not compile: {error}") from error
        if not self._is_exact():
            self._shape = None

    def render(self, turns: Sequence[Turn]) -> list[Piece]:
        """The prompt, up to where the assistant begins; without the BOS and EOS that the tokenizer
        adds anyway.

        Raises:
            RequestInvalidError: the template refuses these messages, or cannot show them.
        """
        if self._shape is not None and len(turns) <= _MAX_SKELETON_TURNS:
            return self._filled(turns)
        return self.render_whole(turns)

    def render_whole(self, turns: Sequence[Turn]) -> list[Piece]:
        """As :meth:`render`, by the template itself, whatever is known of it."""
        messages = messages_of(turns, system_role=self._system_role)
        stand_ins = _stand_ins(message["content"] for message in messages)
        if stand_ins:
            for message in messages:
                message["content"] = message["content"].translate(stand_ins)
        rendered = self._renderer.render(messages)
        restored = {ord(new): chr(old) for old, new in stand_ins.items()}
        pieces: list[Piece] = []
        for index, part in enumerate(_MARK.split(rendered)):
            if index % 2:
                pieces.append(self._id_of[part])
            elif part:
                pieces.append(part.translate(restored) if restored else part)
        return self._without_doubles(pieces)

    @property
    def is_copying(self) -> bool:
        """Whether skeletons of renderings are remembered (``wire.template_shape``)."""
        return self._shape is not None

    def _is_exact(self) -> bool:
        """Skeletons are tried before they are used, though the shape proves them."""
        return self._shape is None or all(
            _outcome(self._filled, turns) == _outcome(self.render_whole, turns) for turns in _TRIALS
        )

    def _filled(self, turns: Sequence[Turn]) -> list[Piece]:
        if not self._system_role:
            messages = messages_of(turns, system_role=False)
            turns = [(message["role"], message["content"]) for message in messages]
        roles = tuple([role for role, _ in turns])
        skeleton = self._skeletons.get(roles)
        if skeleton is None:
            skeleton = self._skeleton(roles)
        contents = [content for _, content in turns]
        if self._shape == "trimmed":
            contents = list(map(trim, contents))
        pieces: list[Piece] = []
        for item in skeleton:
            if isinstance(item, tuple):
                if len(item) == 3:
                    before, index, after = item
                    item = f"{before}{contents[index]}{after}"  # type: ignore[index]
                else:
                    item = "".join(contents[p] if isinstance(p, int) else p for p in item)
                if not item:
                    continue
            pieces.append(item)
        return self._without_doubles(pieces)

    def _skeleton(self, roles: tuple[str, ...]) -> list[Piece | _Run]:
        """The rendering of such turns with a hole for each content."""
        turns = [(role, chr(_FIRST_STAND_IN + index)) for index, role in enumerate(roles)]
        rendered = self._renderer.render(messages_of(turns, system_role=True))
        skeleton: list[Piece | _Run] = []
        for index, part in enumerate(_MARK.split(rendered)):
            if index % 2:
                skeleton.append(self._id_of[part])
            elif part:
                run = [
                    ord(text) - _FIRST_STAND_IN if place % 2 else text
                    for place, text in enumerate(_HOLE.split(part))
                ]
                skeleton.append(tuple(run) if len(run) > 1 else part)
        if len(self._skeletons) >= _MAX_SKELETONS:
            self._skeletons.clear()
        self._skeletons[roles] = skeleton
        return skeleton

    def _compiled(self, card: ModelCard, sandbox: Sandbox) -> Renderer:
        mark = lru_cache(maxsize=256)(self._mark)
        sandbox.filters[MARK_FILTER] = mark
        variables = template_variables(card)
        marked = {
            name: mark(value) if isinstance(value, str) else value
            for name, value in variables.items()
        }
        tree, differences = sandbox.read(card.chat_template)
        if any(_MARK.search(text) for text in _own_texts(tree)):
            raise BundleInvalidError("the chat template holds unassigned characters (U+40000…)")
        self._shape = None if any(map(_HOLE.search, _own_texts(tree))) else shape_of(tree)
        rewriter = Rewriter(
            self._specials, mark, [name for name in marked if marked[name] != variables[name]]
        )
        rewriter.rewrite(tree)
        self.reasons.extend((*differences, *rewriter.reasons))
        tree.set_environment(sandbox)
        return Renderer(sandbox, tree, marked)

    def _mark(self, text: str) -> str:
        return "".join(
            piece if isinstance(piece, str) else self._mark_of[piece]
            for piece in self._specials.partition(text)
        )

    def _without_doubles(self, pieces: list[Piece]) -> list[Piece]:
        start = 1 if pieces and pieces[0] == self._first else 0
        end = -1 if pieces[start:] and pieces[-1] == self._last else None
        return pieces[start:end]


_TRIALS: tuple[tuple[Turn, ...], ...] = (
    (("user", "a"),),
    (("user", ""), ("assistant", ""), ("user", "")),
    (("system", " \n a b\t"), ("user", "\u3000b\u00a0"), ("assistant", "</s>"), ("user", "'\"{{")),
    (("user", "\U00040000\U00050000"), ("assistant", "<|im_end|>\n"), ("user", "\x0b x \x1c")),
)
"""Conversations whose skeletons must be seen to give the template's own renderings."""


def _outcome(render: Callable[[Sequence[Turn]], list[Piece]], turns: Sequence[Turn]) -> object:
    try:
        return render(turns)
    except RequestInvalidError as error:
        return str(error)


def template_variables(card: ModelCard) -> dict[str, str | bool]:
    """The names that a template finds besides the messages."""
    return {
        "bos_token": card.bos.text if card.bos else "",
        "eos_token": card.eos.text if card.eos else "",
        "add_generation_prompt": True,
        "enable_thinking": card.enable_thinking,
    }


def _own_texts(tree: nodes.Template) -> Iterator[str]:
    """Every text that the template itself holds."""
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, str):
            yield constant.value
    for data in tree.find_all(nodes.TemplateData):
        yield data.data


def _stand_ins(contents: Iterable[str]) -> dict[int, str]:
    """Replacements for what looks like a mark in content, each a character that no content has."""
    high = {
        character
        for content in contents
        if not content.isascii() and ord(max(content)) >= _FIRST_MARK
        for character in content
        if ord(character) >= _FIRST_MARK
    }
    foreign = sorted(ord(character) for character in high if ord(character) <= _LAST_MARK)
    if not foreign:
        return {}
    free = (chr(code) for code in range(_FIRST_STAND_IN, _LAST_STAND_IN) if chr(code) not in high)
    stand_ins = dict(zip(foreign, free, strict=False))
    if len(stand_ins) < len(foreign):
        raise RequestInvalidError("a message holds too many unassigned characters (U+40000…)")
    return stand_ins
