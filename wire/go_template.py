"""A chat template as Ollama writes it, derived from how a model's own template renders.

Ollama's templates are Go's ``text/template``; models come with Jinja. Most wrap each message in a
text that its role decides, and end with what opens the assistant's turn. Those texts are read off
one rendering; only where they explain every other rendering too is a template given. What is not
understood is left out, and the client decides. What a template does to a message's own text
(trimming it, cutting old thoughts off) is not seen and not carried over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wire.chat_sandbox import Turn

Render = Callable[[Sequence[Turn]], str]
"""Messages to the prompt, control tokens as their text."""

_ROLES = ("system", "user", "assistant")
_WORDS = tuple(f"qx{number}xq" for number in range(4))
_SYSTEM, _USER, _ASSISTANT = ("system", "Be brief."), ("user", "A question?"), ("assistant", "Yes.")
_TRIALS: tuple[tuple[Turn, ...], ...] = (
    (_USER,),
    (_SYSTEM, _USER),
    (_USER, _ASSISTANT, _USER),
    (_SYSTEM, _USER, _ASSISTANT, _USER, _ASSISTANT, ("user", "Two\nlines, {{ braces }}")),
)


def go_template(render: Render) -> str | None:
    """The template, or None where the rendering is not of that kind."""
    dialogue = tuple(zip((*_ROLES, "user"), _WORDS, strict=True))
    whole = _between(render(dialogue), _WORDS)
    alone = _between(render([("user", _WORDS[0])]), _WORDS[:1])
    if whole is None or alone is None:
        return None
    # What stands between two messages ends one and begins the other; a message alone tells how the
    # user's begins, and so how the ones before it end.
    user_before, user_end = alone
    if not (whole[1].endswith(user_before) and whole[3].endswith(user_before)):
        return None
    after_system = whole[1].removesuffix(user_before)
    after_assistant = whole[3].removesuffix(user_before)
    after_user = next(
        text
        for text in (after_system, after_assistant, "")
        if user_end.startswith(text) and whole[2].startswith(text)
    )
    template = _Template(
        {
            "system": (whole[0], after_system),
            "user": (user_before, after_user),
            "assistant": (whole[2].removeprefix(after_user), after_assistant),
        },
        user_end.removeprefix(after_user),
    )
    understood = all(template.render(turns) == render(turns) for turns in _TRIALS)
    return template.text if understood else None


class _Template:
    def __init__(self, wraps: dict[str, tuple[str, str]], opening: str) -> None:
        self._wraps = wraps
        self._opening = opening

    @property
    def text(self) -> str:
        cases = []
        for index, role in enumerate(_ROLES):
            before, after = self._wraps[role]
            word = "else if" if index else "if"
            cases.append(
                f'{{{{ {word} eq .Role "{role}" }}}}{_literal(before)}'
                f"{{{{ .Content }}}}{_literal(after)}"
            )
        body = "".join(cases) + "{{ end }}"
        return f"{{{{- range .Messages }}}}{body}{{{{ end }}}}{_literal(self._opening)}"

    def render(self, turns: Sequence[Turn]) -> str:
        wrapped = ((self._wraps[role], content) for role, content in turns)
        said = "".join(before + content + after for (before, after), content in wrapped)
        return said + self._opening


def _between(text: str, words: Sequence[str]) -> list[str] | None:
    """The texts before, between and after the words, each of which stands there once."""
    parts = []
    for word in words:
        before, found, text = text.partition(word)
        if not found or word in text:
            return None
        parts.append(before)
    return [*parts, text]


def _literal(text: str) -> str:
    """A text as it stands in a Go template; one with braces as a quoted string of its own."""
    if "{{" not in text and "}}" not in text and text == text.strip():
        return text
    quoted = "".join(_escaped(character) for character in text)
    return f'{{{{ "{quoted}" }}}}'


def _escaped(character: str) -> str:
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
    if character in named:
        return named[character]
    return character if character.isprintable() else f"\\U{ord(character):08x}"
