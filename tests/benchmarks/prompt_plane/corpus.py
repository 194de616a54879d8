"""Prompts of natural English, none of which comes twice.

The words are those of this project's own pages and docstrings, in the order of a chain that knows
which word follows which: what is new is the sentence, not its words, as with what people write.
"""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[3]
SMALL = "edge-small"
_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md")
_CODE = ("wire/*.py", "edge_tier/**/*.py", "origin/**/*.py", "gpu_worker/**/*.py")
_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_WORD = re.compile(r"[A-Za-z][a-z]*(?:['-][a-z]+)?[.,;:]?(?= |\n)")


def natural_words() -> list[str]:
    """Words in their order, with the sign that follows them."""
    pages = [file.read_text() for pattern in _PAGES for file in sorted(ROOT.glob(pattern))]
    code = [file.read_text() for pattern in _CODE for file in sorted(ROOT.glob(pattern))]
    text = "\n".join((*pages, *(said for file in code for said in _DOCSTRING.findall(file))))
    return _WORD.findall(text)


class Prose:
    """Endless text from a chain of words; the same seed gives the same text."""

    def __init__(self, seed: int = 1) -> None:
        words = natural_words()
        self._source = random.Random(seed)
        self._next: dict[str, list[str]] = {}
        for word, following in pairwise(words):
            self._next.setdefault(word, []).append(following)
        self._starts = [word for word in self._next if word[0].isupper()]

    def text(self, length: int) -> str:
        """About so many characters, ending with a whole word."""
        words: list[str] = []
        left, word = length, self._source.choice(self._starts)
        while left > 0:
            words.append(word)
            left -= len(word) + 1
            following = self._next.get(word)
            # A jump now and then, so that no sentence of the pages comes back whole.
            jump = following is None or self._source.random() < 0.1
            word = self._source.choice(self._starts if jump or not following else following)
        return " ".join(words)

    def bodies(
        self, count: int, length: int, *, stream: bool, extra: str = "", model: str = SMALL
    ) -> list[bytes]:
        """Bodies of chats of one turn."""
        return [
            chat_body([("user", self.text(length) + extra)], stream=stream, model=model)
            for _ in range(count)
        ]


def chat_body(
    turns: list[tuple[str, str]], *, stream: bool = False, max_tokens: int = 64, model: str = SMALL
) -> bytes:
    """A request for the demo model, as a client writes it."""
    body = {
        "model": model,
        "messages": [{"role": role, "content": content} for role, content in turns],
        "max_tokens": max_tokens,
        "stream": stream,
    }
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def large_texts(size: int, seed: int = 1) -> Iterator[tuple[str, str]]:
    """Kinds of text that cost each stage differently, of about so many bytes each."""
    source = random.Random(seed)
    yield "prose", Prose(seed).text(size)
    letters = "abcdefghijklmnopqrstuvwxyz"
    junk = ("".join(source.choices(letters, k=source.randrange(3, 12))) for _ in range(size // 8))
    yield "junk words", " ".join(junk)
    yield "Chinese", "".join(chr(source.randrange(0x4E00, 0x9FA5)) for _ in range(size // 3))
    yield "base64", base64.b64encode(source.randbytes(size * 3 // 4)).decode()
    yield "zero-width flood", "a\u200b\u200c\u2060" * (size // 10)
    yield "digits", "".join(source.choices("0123456789", k=size))
    yield "spaces", " " * size


def in_turns(text: str, most: int = 250_000) -> list[tuple[str, str]]:
    """A long text as turns that the parser takes."""
    return [("user", text[start : start + most]) for start in range(0, len(text), most)]
