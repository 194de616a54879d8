"""Nothing is silently approximate: whatever the quirks of a vocabulary, the edge gives the ids that
llama.cpp gives, or the card says that the engine must.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from origin.bundle import build_bundle
from origin.parity_corpus import parity_texts
from origin.pretokenizers import PRE_TOKENIZERS
from tests.fakes.llama_server import LlamaChild, llama_child
from tests.fakes.spm_vocabulary import BYTE_TYPE, UNKNOWN_TYPE, UNUSED_TYPE, train_spm
from tests.fakes.tiny_gguf import (
    CONTROL_TYPE,
    NORMAL_TYPE,
    USER_DEFINED_TYPE,
    Vocabulary,
    train_vocabulary,
    write_tiny_gguf,
)
from wire.encoder import Encoder
from wire.errors import GGUFInvalidError
from wire.gguf import read_gguf

KINDS = (NORMAL_TYPE, UNKNOWN_TYPE, CONTROL_TYPE, USER_DEFINED_TYPE, UNUSED_TYPE, BYTE_TYPE, 99)
TEXTS = (
    "  ", "\n\n", "\t", " \t", "\u2581\u2581", "\u2581the", "<tool>", "<a b>", "</s>", "<mask>",
    "<|channel|>", "<PRE>", "\u2581<PRE>", "<fim_prefix>", "<|tool_response>", "<|end|>",
    "a\u2581b", "e", "Ġthe", "[PAD]", "q", "🙂", "ſ", "hello", "<0x41>", "x y",
)  # fmt: skip

extra = st.lists(st.tuples(st.sampled_from(TEXTS), st.sampled_from(KINDS)), max_size=4)
retyped = st.lists(st.tuples(st.integers(0, 600), st.sampled_from(KINDS)), max_size=2)
rescored = st.lists(st.tuples(st.integers(0, 900), st.integers(-900, 5)), max_size=2)
flags = st.dictionaries(
    st.sampled_from(
        ["add_space_prefix", "add_bos_token", "add_eos_token", "remove_extra_whitespaces"]
    ),
    st.booleans(),
    max_size=2,
)


def with_quirks(
    base: Vocabulary,
    more: list[tuple[str, int]],
    types: list[tuple[int, int]],
    scores: list[tuple[int, int]],
) -> Vocabulary:
    more = [(text, kind) for text, kind in dict(more).items() if text not in base.tokens]
    kinds = [*base.types, *(kind for _, kind in more)]
    for index, kind in types:
        kinds[index] = kind
    marks = [*base.scores, *(-1_000.0 - index for index in range(len(more)))] if base.scores else []
    for index, score in scores if marks else ():
        marks[index % len(marks)] = float(score)
    return Vocabulary(
        (*base.tokens, *(text for text, _ in more)),
        tuple(kinds),
        base.merges,
        tuple(marks),
    )


def verdict(path: Path, llamas: LlamaChild) -> str:
    """``exact`` where every text has the engine's ids; the engine alone decides of what loads."""
    try:
        with path.open("rb") as stream:
            bundle = build_bundle(read_gguf(stream, path.stat().st_size))
    except GGUFInvalidError:
        return "refused"
    if bundle.card.tokenizer == "engine":
        return "engine"
    encoder = Encoder(bundle.tokenizer, bundle.card)
    literals = [token.text for token in bundle.card.control_literals]
    try:
        llama = llamas.load(path)
    except AssertionError:
        return "not loaded"
    for text in parity_texts(literals):
        assert encoder.encode_parsed(text.text) == llama.tokenize(text.text), text
    whole = "\u2581 the  <tool> \n\n x y"
    framed = llama.tokenize(whole, add_special=True)
    assert encoder.encode(encoder.split(whole)) == framed
    return "exact"


@pytest.mark.parametrize("kind", ["bpe", "spm"])
def test_a_vocabulary_of_any_quirks_is_exact_or_left_to_the_engine(
    kind: str, tmp_path: Path
) -> None:
    seen: Counter[str] = Counter()
    base = train_spm(500) if kind == "spm" else train_vocabulary(600)

    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(extra, retyped, rescored, flags, st.sampled_from([*PRE_TOKENIZERS, "glm4"]))
    def exact_or_engine(
        more: list[tuple[str, int]],
        types: list[tuple[int, int]],
        scores: list[tuple[int, int]],
        keys: dict[str, bool],
        pre: str,
    ) -> None:
        vocabulary = with_quirks(base, more, types if kind == "bpe" else types[:1], scores)
        path = tmp_path / f"{seen.total()}.gguf"
        metadata = {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
        write_tiny_gguf(path, vocab=vocabulary, pre=pre, chat_template=None, metadata=metadata)
        seen[verdict(path, llamas)] += 1
        path.unlink()

    with llama_child() as llamas:
        exact_or_engine()
    assert seen["exact"]
