"""A group of facts: a table of (key, value) pairs, several ways to ask and one way to answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """One table of facts with its phrasings.

    `questions` and `answer` are format strings over `key`, `value`, `Key` and `Value` (the
    capitalised forms). `probe` is one more phrasing that is never trained on: it measures whether
    a model generalises. `weight` multiplies how often a fact of this group is drawn.
    """

    name: str
    questions: tuple[str, ...]
    answer: str
    facts: tuple[tuple[str, str], ...]
    probe: str = ""
    weight: float = 1.0

    def ask(self, template: str, key: str) -> str:
        """The question that `template` makes of `key`."""
        return template.format(key=key, Key=capitalised(key))

    def reply(self, key: str, value: str) -> str:
        """The one answer to every question about (`key`, `value`)."""
        return self.answer.format(
            key=key, Key=capitalised(key), value=value, Value=capitalised(value)
        )

    @property
    def templated(self) -> bool:
        """Whether the questions have words of their own around the key."""
        return self.questions != ("{key}",)


def capitalised(text: str) -> str:
    """`text` with its first letter in upper case and the rest as it was."""
    return text[:1].upper() + text[1:]


def group(
    name: str, questions: str, answer: str, facts: str, *, probe: str = "", weight: float = 1.0
) -> Group:
    """A group from its compact notation: a phrasing per line, facts `key = value` apart by `;`.

    Raises:
        ValueError: a fact without a key or a value, or a key given twice.
    """
    pairs = []
    for row in facts.replace("\n", " ").split(";"):
        if not row.strip():
            continue
        key, _, value = row.partition("=")
        pairs.append((" ".join(key.split()), " ".join(value.split())))
    if not all(key and value for key, value in pairs) or len(dict(pairs)) != len(pairs):
        raise ValueError(f"group {name}: a fact is incomplete or given twice")
    asked = tuple(line.strip() for line in questions.strip().splitlines())
    return Group(name, asked, answer, tuple(pairs), probe, weight)
