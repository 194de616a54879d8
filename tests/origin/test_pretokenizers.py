"""Every pre-tokenizer gives the very ids of llama.cpp, on texts made to catch it out."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from origin.bundle import build_bundle
from origin.pretokenizers import PRE_TOKENIZERS
from origin.vocabulary import BYTE_CHARACTERS
from tests.fakes.llama_server import LlamaServer, llama_server
from tests.fakes.tiny_gguf import CORPUS, Vocabulary, write_tiny_gguf
from wire.encoder import Encoder
from wire.gguf import read_gguf

CHARACTERS = (
    *"abcXYZ 0123456789'\"!?.,;:-_()[]{}<>|/\\\n\n\n\r\t   ", *"sdtmlrve'SDTMLRVE'",
    *"äßéñПр世界ひ한ع\u0301\u00a0\u3000\u2003\u200b\x00\x0b\x0c\x1c\x85\u2028½Ⅷ٣ſK\ufeff",
    "नी", "🙂", "👨\u200d", "\u1c89", "\U00010d41", "\U00010d4a", "\ud7ff", "\ue000", "\U0010ffff",
)  # fmt: skip


def random_texts(count: int, seed: int) -> list[str]:
    source = random.Random(seed)
    return ["".join(source.choices(CHARACTERS, k=source.randrange(1, 80))) for _ in range(count)]


def encoder_of(path: Path) -> Encoder:
    with path.open("rb") as stream:
        bundle = build_bundle(read_gguf(stream, path.stat().st_size))
    assert bundle.card.reasons == ()
    return Encoder(bundle.tokenizer, bundle.card)


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_ids_are_those_of_llama_cpp(name: str, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", pre=name, chat_template=None)
    encoder = encoder_of(path)
    text = "<|im_end|>".join((*CORPUS, *random_texts(200, seed=len(name))))
    with llama_server(path) as llama:
        assert encoder.encode_parsed(text) == llama.tokenize(text)


def test_the_texts_tell_the_pre_tokenizers_apart(tmp_path: Path) -> None:
    one_of_each = ("gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2")
    assert len({PRE_TOKENIZERS[name] for name in PRE_TOKENIZERS}) == len(one_of_each)
    texts = (*CORPUS, *random_texts(120, seed=0))
    found = set()
    for name in one_of_each:
        path = write_tiny_gguf(tmp_path / f"{name}.gguf", pre=name, chat_template=None)
        encoder = encoder_of(path)
        found.add(tuple(tuple(encoder.encode_parsed(text)) for text in texts))
    assert len(found) == len(one_of_each)


def joining_vocabulary() -> Vocabulary:
    """A letter, a digit and a dot, each joined with every byte: whether two characters were in one
    word shows in the ids.
    """
    pairs = [(left, right) for left in "a1." for right in BYTE_CHARACTERS]
    tokens = (*BYTE_CHARACTERS, *(left + right for left, right in pairs), "<|im_end|>")
    types = (*(1 for _ in tokens[:-1]), 3)
    return Vocabulary(tokens, types, tuple(f"{left} {right}" for left, right in pairs))


def telling_code_points() -> Iterator[int]:
    """Where the class of characters changes, and samples of all that is not assigned yet: a newer
    Unicode assigns whole blocks.
    """
    before = ""
    for code in range(0x20000):
        category = unicodedata.category(chr(code))
        if category != "Cs" and (category[0] != before or (category == "Cn" and code % 4 == 0)):
            yield code
        before = category[0]
    yield from (0x2A6DF, 0x2A6E0, 0x2EBF0, 0x2EE5D, 0x31350, 0x323AF, 0xE0001, 0xE0100, 0x10FFFF)


def test_the_classes_of_characters_are_those_of_llama_cpp(tmp_path: Path) -> None:
    path = write_tiny_gguf(
        tmp_path / "classes.gguf", vocab=joining_vocabulary(), chat_template=None
    )
    encoder = encoder_of(path)
    codes = list(telling_code_points())
    with llama_server(path) as llama:
        for start in range(0, len(codes), 2_000):
            assert_same_classes(encoder, llama, codes[start : start + 2_000])


def assert_same_classes(encoder: Encoder, llama: LlamaServer, codes: list[int]) -> None:
    """The special token parts the texts, so that each stands alone."""
    text = "<|im_end|>".join(f"a{chr(code)}<|im_end|>1{chr(code)}" for code in codes)
    assert encoder.encode_parsed(text) == llama.tokenize(text), f"U+{codes[0]:04X} and after"
