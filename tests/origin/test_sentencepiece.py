"""A vocabulary's scores become merges that give llama.cpp's tokens, or are refused."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from origin.bundle import build_bundle
from origin.parity_corpus import parity_texts
from origin.sentencepiece import NotMergesError, derive_merges
from tests.fakes.llama_server import llama_server
from tests.fakes.spm_reference import merged
from tests.fakes.spm_vocabulary import BYTES, spm_vocabulary, train_spm
from tests.fakes.tiny_gguf import Vocabulary, write_tiny_gguf
from wire.encoder import Encoder
from wire.gguf import read_gguf

SPACE = "\u2581"


def bundle_of(path: Path, vocabulary: Vocabulary, **keys: bool | int | str) -> Encoder | str:
    """The edge's encoder, or why the engine must tokenize."""
    metadata = {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    write_tiny_gguf(path, vocab=vocabulary, chat_template=None, metadata=metadata)
    with path.open("rb") as stream:
        bundle = build_bundle(read_gguf(stream, path.stat().st_size))
    if bundle.card.tokenizer == "engine":
        return bundle.card.reasons[0]
    return Encoder(bundle.tokenizer, bundle.card)


@pytest.mark.parametrize(
    ("vocabulary", "keys"),
    [
        (train_spm(), {}),
        (train_spm(crosses_words=True), {}),
        (train_spm(), {"add_space_prefix": False}),
        (train_spm(), {"remove_extra_whitespaces": True}),
        (train_spm(control=("<|x|>", "[INST]"), user_defined=("\n\n", "  ", "\t")), {}),
    ],
)
def test_ids_are_those_of_llama_cpp(
    vocabulary: Vocabulary, keys: dict[str, bool | int | str], tmp_path: Path
) -> None:
    encoder = bundle_of(tmp_path / "spm.gguf", vocabulary, **keys)
    assert isinstance(encoder, Encoder), encoder
    with llama_server(tmp_path / "spm.gguf") as llama:
        for text in parity_texts(["<s>", "</s>", "<unk>", "<|x|>", "[INST]"]):
            assert encoder.encode_parsed(text.text) == llama.tokenize(text.text), text.name


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spm") / "trained.gguf"


PIECES = [
    SPACE,
    " ",
    "  ",
    "a",
    "aa",
    "x",
    "-",
    "hello",
    "the",
    " de",
    "ß",
    "🙂",
    "<s>",
    "\n",
    "<0x41>",
]


def test_hypothesis_finds_no_text_that_llama_cpp_tokenizes_otherwise(trained: Path) -> None:
    encoder = bundle_of(trained, train_spm(control=("[INST]",), user_defined=("  ",)))
    assert isinstance(encoder, Encoder)
    with llama_server(trained) as llama:

        @settings(max_examples=120, deadline=None, database=None)
        @given(st.lists(st.sampled_from([*PIECES, "[INST]"]) | st.text(max_size=4)).map("".join))
        @example("[INST] [INST]  a[INST]a")
        def same(text: str) -> None:
            assert encoder.encode_parsed(text) == llama.tokenize(text)

        same()


def test_a_run_begins_with_a_space_at_the_start_and_after_special_tokens(tmp_path: Path) -> None:
    vocabulary = spm_vocabulary([f"{SPACE}a", "a", SPACE], control=("[X]",))
    encoder = bundle_of(tmp_path / "spm.gguf", vocabulary)
    assert isinstance(encoder, Encoder)
    a, x, bos = vocabulary.id(f"{SPACE}a"), vocabulary.id("[X]"), vocabulary.id("<s>")
    assert encoder.encode(["a", x, "a"]) == [bos, a, x, a]
    assert encoder.encode([""]) == [bos]


@given(
    joins=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=9),
    swaps=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=2),
    alphabet=st.sampled_from(["a", "ab", "abc"]),
    data=st.data(),
)
@settings(max_examples=400, deadline=None)
def test_random_scores_give_the_same_tokens_or_are_refused(
    joins: list[tuple[int, int]],
    swaps: list[tuple[int, int]],
    alphabet: str,
    data: st.DataObject,
) -> None:
    tokens = list(alphabet)
    for left, right in joins:
        token = tokens[left % len(tokens)] + tokens[right % len(tokens)]
        if token not in tokens and len(token) <= 12:
            tokens.append(token)
    places = list(range(len(tokens)))
    for one, other in swaps:
        one, other = one % len(places), other % len(places)
        places[one], places[other] = places[other], places[one]
    scores = {token: -float(place) for token, place in zip(tokens, places, strict=True)}
    try:
        merges = derive_merges(scores)
    except NotMergesError:
        return
    ids = {token: id_ for id_, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges))
    for text in data.draw(st.lists(st.text(alphabet, max_size=40), min_size=5, max_size=10)):
        assert tokenizer.encode(text).tokens == merged(text, scores)


def test_the_reference_does_what_llama_cpp_does(tmp_path: Path) -> None:
    """Also where scores tie and merges are no order: the engine is the measure of the measure."""
    scores = {"a": -9.0, "b": -9.0, "ab": -1.0, "ba": -1.0, "aa": -1.0, "aba": 5.0, "baab": 7.0}
    base = spm_vocabulary(list(scores))
    vocabulary = Vocabulary(
        base.tokens, base.types, (), tuple(scores.get(token, 0.0) for token in base.tokens)
    )
    reason = bundle_of(tmp_path / "spm.gguf", vocabulary, add_space_prefix=False)
    assert isinstance(reason, str)
    with llama_server(tmp_path / "spm.gguf") as llama:
        for number in range(2, 600):
            text = bin(number)[3:].replace("0", "a").replace("1", "b")
            symbols = [vocabulary.id(token) for token in merged(text, scores)]
            assert llama.tokenize(text) == symbols, text


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ({"a": 0, "b": 0, "ab": -1, "ba": -1}, "have one score"),
        ({"a": 0, "ab": -1}, "no token of its own"),
        ({"a": 0, "aa": -2, "aaaa": -1, "aaa": -3, "aaaaa": -2.5}, "scores no lower"),
        ({"a": 0, "aa": float("nan")}, "finite"),
        ({"a": 0, "a" * 129: -1}, "too long"),
        ({"<": 0, "0": 0, "<0": -1, "<0x": -2, "x": 0, "<0x0": -3, "A": 0, "<0x0A": -4, ">": 0},
         "bytes or of control"),
    ],
)  # fmt: skip
def test_what_no_list_of_merges_can_stand_for_is_refused(
    scores: dict[str, float], reason: str
) -> None:
    with pytest.raises(NotMergesError, match=reason):
        derive_merges(scores, BYTES)


def test_overlapping_pairs_of_one_token_are_joined_on_the_left() -> None:
    scores = {"a": 0.0, "b": 0.0, "ab": -1.0, "ba": -2.0, "aba": -3.0}
    assert derive_merges(scores)[:2] == [("a", "b"), ("b", "a")]
    tokenizer = Tokenizer(
        models.BPE(vocab={t: i for i, t in enumerate(scores)}, merges=derive_merges(scores))
    )
    for text in ("aba", "ababa", "baba", "aaba", "abaaba"):
        assert tokenizer.encode(text).tokens == merged(text, scores)


@pytest.mark.parametrize(
    "tokens",
    [
        ["a" * length for length in range(1, 129)],
        [chr(0x4E00 + index) * length for index in range(300) for length in range(1, 100)],
        ["".join("ab"[index >> bit & 1] for bit in range(14)) for index in range(2**14)],
    ],
)
def test_a_hostile_vocabulary_takes_bounded_time(tokens: list[str]) -> None:
    began = time.thread_time()
    scores = {token: -float(place) for place, token in enumerate([*"ab", *tokens])}
    with contextlib.suppress(NotMergesError):
        derive_merges(scores)
    assert time.thread_time() - began < 10.0
