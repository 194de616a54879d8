"""Every pre-tokenizer gives the very ids of llama.cpp, on texts made to catch it out."""

from __future__ import annotations

import random
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Regex, pre_tokenizers

from origin.bundle import build_bundle
from origin.pretokenizers import PRE_TOKENIZERS
from origin.vocabulary import BYTE_CHARACTERS
from tests.fakes.llama_server import LlamaChild, LlamaServer, llama_child
from tests.fakes.tiny_gguf import CORPUS, Vocabulary, train_vocabulary, write_tiny_gguf
from wire.encoder import Encoder
from wire.gguf import read_gguf

CHARACTERS = (
    *"abcXYZ 0123456789'\"!?.,;:-_()[]{}<>|/\\\n\n\n\r\t   ", *"sdtmlrve'SDTMLRVE'",
    *"äßéñПр世界ひ한ع\u0301\u00a0\u3000\u2003\u200b\x00\x0b\x0c\x1c\x85\u2028½Ⅷ٣ſK\ufeff",
    "नी", "🙂", "👨\u200d", "\u1c89", "\U00010d41", "\U00010d4a", "\ud7ff", "\ue000", "\U0010ffff",
)  # fmt: skip

TELLING = (
    "'sab it'SAB !\n.\n\n", " AAbb'S CamelCase XMLHttp ÀÉÎ àÀéÉ 'LL ABC's don't ", "   \u3000  ",
    "a  b   \r\n  \n\n c\t\t\td/\n//\n.\n/", "नी हिन्दी ba\u0302\u0301 नी", "\n", "x \n",
    "<sentinel:12>IMGIMGABCDZIMGIMGABCDEFZ<sentinel:>", "foo bar baz 12 qux  a b c\u0301 d",
    "12345678901234 ٣٤٥٦٧٨٩ 1٣2", "hello world   \n   ", "=== +++ $$ ^^ `` ~~ |=| <> ~`|",
    "。，、—…“”：；、〿﹏ㄅㄆㄱㅎ가나다一龥ぁんァヶ龦𠀀𪛟", "ǅ ŉ ſ's ﬁ Ⅷ", "a  1   22",
    "x\u3000\u3000。\u2003!\u2003? \u00a0,\u3000a\u3000 ",
)  # fmt: skip
"""Texts that the families cut in their own ways."""
SEPARATOR = {"tokenizer.ggml.seperator_token_id": 1}
"""Some names want one; it changes nothing."""


@pytest.fixture(scope="module")
def llamas() -> Iterator[LlamaChild]:
    with llama_child() as child:
        yield child


def random_texts(count: int, seed: int) -> list[str]:
    source = random.Random(seed)
    return ["".join(source.choices(CHARACTERS, k=source.randrange(1, 80))) for _ in range(count)]


def encoder_of(path: Path) -> Encoder:
    with path.open("rb") as stream:
        bundle = build_bundle(read_gguf(stream, path.stat().st_size))
    assert bundle.card.reasons == ()
    return Encoder(bundle.tokenizer, bundle.card)


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_ids_are_those_of_llama_cpp(name: str, tmp_path: Path, llamas: LlamaChild) -> None:
    path = write_tiny_gguf(
        tmp_path / "tiny.gguf",
        vocab=telling_vocabulary(),
        pre=name,
        chat_template=None,
        metadata=SEPARATOR,
    )
    encoder = encoder_of(path)
    text = "<|im_end|>".join((*CORPUS, *TELLING, *random_texts(200, seed=len(name))))
    assert encoder.encode_parsed(text) == llamas.load(path).tokenize(text)


def test_the_texts_tell_the_pre_tokenizers_apart(tmp_path: Path) -> None:
    texts = (*CORPUS, *TELLING, *random_texts(100, seed=0))
    found: dict[str, list[str]] = {}
    one_of_each = {pre_tokenizer: name for name, pre_tokenizer in PRE_TOKENIZERS.items()}
    for name in one_of_each.values():
        path = write_tiny_gguf(
            tmp_path / f"{name}.gguf", vocab=telling_vocabulary(), pre=name, chat_template=None
        )
        encoder = encoder_of(path)
        found.setdefault(str([encoder.encode_parsed(text) for text in texts]), []).append(name)
    assert [names for names in found.values() if len(names) > 1] == [
        ["smaug-bpe", "chatglm-bpe"],  # the second has no BOS by default
        ["grok-2", "llada-moe"],  # written differently in llama.cpp
    ]


@pytest.mark.parametrize(
    "run", [" ", "\n", " \n", "\u3000", "À", "aÀ", "1", "1.", "'", "ㄅ", "a b"]
)
def test_a_long_run_takes_linear_time(run: str) -> None:
    """Linear is 4 times as long; quadratic is 16 times."""
    for pre_tokenizer in dict.fromkeys(PRE_TOKENIZERS.values()):
        cut = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in pre_tokenizer.patterns]
        )
        # What a busy machine adds is no part of it, and seldom there several times in a row.
        assert any(is_linear(cut, run) for _ in range(5)), pre_tokenizer


def is_linear(cut: pre_tokenizers.Sequence, run: str) -> bool:
    short, long = (cpu_seconds(cut, (run * size)[:size] + "x") for size in (2_500, 10_000))
    return long < 11 * short + 0.02


def cpu_seconds(cut: pre_tokenizers.Sequence, text: str) -> float:
    """Of the quicker of two tries."""
    tries = []
    for _ in range(2):
        began = time.thread_time()
        cut.pre_tokenize_str(text)
        tries.append(time.thread_time() - began)
    return min(tries)


def telling_vocabulary() -> Vocabulary:
    """The trained one, and every pair of the bytes with which most characters here begin: a cut
    between two of them shows.
    """
    trained = train_vocabulary()
    letters = [BYTE_CHARACTERS[ord(c)] for c in "asAS'.1 \n\r\t/"] + [*"ÃàäåĠæï"]
    pairs = {left + right: f"{left} {right}" for left in letters for right in letters}
    new = {token: merge for token, merge in pairs.items() if token not in trained.tokens}
    return Vocabulary(
        (*trained.tokens, *new),
        (*trained.types, *(1 for _ in new)),
        (*new.values(), *trained.merges),
    )


def joining_vocabulary() -> Vocabulary:
    """A letter, a digit and a dot, each joined with every byte: whether two characters were in one
    word shows in the ids.
    """
    pairs = [(left, right) for left in "a1." for right in BYTE_CHARACTERS]
    tokens = (*BYTE_CHARACTERS, *(left + right for left, right in pairs), "<|im_end|>")
    types = (*(1 for _ in tokens[:-1]), 3)
    return Vocabulary(tokens, types, tuple(f"{left} {right}" for left, right in pairs))


def telling_code_points(unassigned_step: int) -> Iterator[int]:
    """Where the class of characters changes, and samples of all that is not assigned yet: a newer
    Unicode assigns whole blocks.
    """
    before = ""
    for code in range(0x20000):
        category = unicodedata.category(chr(code))
        if category != "Cs" and (
            category[0] != before or (category == "Cn" and code % unassigned_step == 0)
        ):
            yield code
        before = category[0]
    yield from (0x2A6DF, 0x2A6E0, 0x2EBF0, 0x2EE5D, 0x31350, 0x323AF, 0xE0001, 0xE0100, 0x10FFFF)


@pytest.mark.parametrize(
    ("pre", "leads"), [("gpt-2", "a1."), ("qwen35", "a"), ("falcon", "."), ("deepseek-v3", ".")]
)
def test_the_classes_of_characters_are_those_of_llama_cpp(
    pre: str, leads: str, tmp_path: Path, llamas: LlamaChild
) -> None:
    """Letters and digits; marks; punctuation; symbols."""
    path = write_tiny_gguf(
        tmp_path / "classes.gguf", vocab=joining_vocabulary(), pre=pre, chat_template=None
    )
    encoder = encoder_of(path)
    codes = list(telling_code_points(4 if pre == "gpt-2" else 64))
    llama = llamas.load(path)
    for start in range(0, len(codes), 500):
        assert_same_classes(encoder, llama, leads, codes[start : start + 500])


def assert_same_classes(encoder: Encoder, llama: LlamaServer, leads: str, codes: list[int]) -> None:
    """The special token parts the texts, so that each stands alone."""
    text = "<|im_end|>".join(lead + chr(code) for code in codes for lead in leads)
    assert encoder.encode_parsed(text) == llama.tokenize(text), f"U+{codes[0]:04X} and after"
