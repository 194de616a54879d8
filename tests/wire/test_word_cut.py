"""Cutting before spaces changes no id, for every pre-tokenizer and for SentencePiece."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from origin.bundle import build_bundle
from origin.parity_corpus import parity_texts
from origin.pretokenizers import PRE_TOKENIZERS
from tests.fakes.cutting import CUT_TEXTS, confined, random_texts, without_crossings
from tests.fakes.spm_vocabulary import spm_vocabulary, train_spm
from tests.fakes.tiny_gguf import Vocabulary, train_vocabulary, write_tiny_gguf
from wire.gguf import read_gguf
from wire.word_cut import PROVEN, Cut, cut_of, digest_of, pieces_of, slices_of

ONE_OF_EACH = list({value: name for name, value in PRE_TOKENIZERS.items()}.values())
VOCABULARY = without_crossings()


def tokenizer_file(folder: Path, vocabulary: Vocabulary, pre: str = "gpt-2", **keys: bool) -> bytes:
    metadata = {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    path = write_tiny_gguf(
        folder / "t.gguf", vocab=vocabulary, pre=pre, chat_template=None, metadata=metadata
    )
    with path.open("rb") as stream:
        return build_bundle(read_gguf(stream, path.stat().st_size)).tokenizer


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def ids_of_pieces(tokenizer: Tokenizer, cut: Cut, text: str) -> list[int]:
    ids = []
    for index, piece in enumerate(pieces_of(text)):
        lead = index and cut.prepends
        part = ids_of(tokenizer, piece[1:] if lead else piece)
        assert sum(cut.sizes[id_] for id_ in part) == cut.size(piece)
        ids += part
    return ids


@pytest.mark.parametrize("pre", ONE_OF_EACH)
def test_every_known_pre_tokenizer_is_proven_and_cut_exactly(pre: str, tmp_path: Path) -> None:
    data = tokenizer_file(tmp_path, VOCABULARY, pre)
    tokenizer, cut = Tokenizer.from_buffer(data), cut_of(data)
    assert digest_of(data) in PROVEN
    assert cut is not None
    texts = [text.text for text in parity_texts(["<s>", "<|im_end|>"])]
    for text in (*texts, *CUT_TEXTS, *random_texts(400, seed=len(pre))):
        assert ids_of_pieces(tokenizer, cut, text) == ids_of(tokenizer, text), (pre, text)


def test_a_vocabulary_that_crosses_words_is_not_cut(tmp_path: Path) -> None:
    trained = confined(train_vocabulary())
    crossing = Vocabulary((*trained.tokens, "sĠ"), (*trained.types, 1), (*trained.merges, "s Ġ"))
    assert cut_of(tokenizer_file(tmp_path, trained)) is not None
    assert cut_of(tokenizer_file(tmp_path, crossing)) is None
    assert cut_of(tokenizer_file(tmp_path, train_vocabulary())) is None
    assert cut_of(tokenizer_file(tmp_path, train_spm(crosses_words=True))) is None


def test_an_unknown_pre_tokenizer_is_not_cut(tmp_path: Path) -> None:
    file = msgspec.json.decode(tokenizer_file(tmp_path, VOCABULARY))
    file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] += "|x x"
    assert cut_of(msgspec.json.encode(file)) is None


@pytest.mark.parametrize("key", ["dropout", "unk_token", "continuing_subword_prefix", "fuse_unk"])
def test_a_model_with_habits_of_its_own_is_not_cut(key: str, tmp_path: Path) -> None:
    file = msgspec.json.decode(tokenizer_file(tmp_path, VOCABULARY))
    file["model"][key] = "x"
    assert cut_of(msgspec.json.encode(file)) is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"model": 1}'])
def test_what_is_no_tokenizer_is_not_cut(data: bytes) -> None:
    assert cut_of(data) is None


@pytest.mark.parametrize("adds_space", [True, False])
def test_sentencepiece_is_cut_exactly(adds_space: bool, tmp_path: Path) -> None:
    data = tokenizer_file(tmp_path, train_spm(), add_space_prefix=adds_space)
    tokenizer, cut = Tokenizer.from_buffer(data), cut_of(data)
    assert cut is not None
    assert cut.prepends == adds_space
    for text in (*CUT_TEXTS, *random_texts(400, seed=1)):
        inner = text.strip(" ").replace("\u2581", "_")
        if inner:
            assert ids_of_pieces(tokenizer, cut, inner) == ids_of(tokenizer, inner), inner


def test_powers_of_the_space_do_not_hinder_a_cut(tmp_path: Path) -> None:
    vocabulary = spm_vocabulary(["\u2581\u2581", "\u2581a", "a", "\u2581"])
    assert cut_of(tokenizer_file(tmp_path, vocabulary)) is not None


spaced = st.lists(
    st.sampled_from([" ", "  ", "\n", "\t", "a", "é", "\u00a0", "\x1c", "。", "'s"])
    | st.text(max_size=4)
).map("".join)


@given(text=spaced)
@settings(deadline=None)
def test_pieces_are_the_text_cut_before_spaces_after_what_is_no_white_space(text: str) -> None:
    pieces = pieces_of(text)
    assert "".join(pieces) == text
    assert all(pieces)
    for left, right in pairwise(pieces):
        assert right[0] == " "
        assert not left[-1].isspace()
    cuts = sum(b == " " and not a.isspace() for a, b in pairwise(text))
    assert len(pieces) == (cuts + 1 if text else 0)


@given(text=spaced, length=st.integers(1, 9))
@settings(deadline=None)
def test_slices_are_the_text_cut_at_some_of_these_places(text: str, length: int) -> None:
    slices = list(slices_of(text, length))
    assert "".join(slices) == text
    for left, right in pairwise(slices):
        assert len(left) >= length
        assert right[0] == " "
        assert not left[-1].isspace()


def test_slices_of_a_long_run_take_linear_time() -> None:
    assert [len(part) for part in slices_of(" " * 10**6, 100)] == [10**6]
    assert len(list(slices_of("a " * 10**5, 100))) > 1_000
