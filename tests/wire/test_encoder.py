"""Pieces become ids; a text can only become ids of plain tokens."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.bundle import Bundle, build_bundle
from tests.fakes.tiny_gguf import CONTROL, train_vocabulary, write_tiny_gguf
from wire.bundle import MAX_TOKENIZER_BYTES, BundleInvalidError, SpecialToken
from wire.encoder import Encoder
from wire.errors import RequestInvalidError
from wire.gguf import read_gguf
from wire.specials import Piece

VOCABULARY = train_vocabulary(user_defined=("  ", "    ", "\t\t"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("encoder") / "tiny.gguf"
    return bundle_of(write_tiny_gguf(path, vocab=VOCABULARY, chat_template=None, metadata={
        "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True,
    }))  # fmt: skip


def bundle_of(path: Path) -> Bundle:
    with path.open("rb") as stream:
        return build_bundle(read_gguf(stream, path.stat().st_size))


@pytest.fixture(scope="module")
def encoder(bundle: Bundle) -> Encoder:
    return Encoder(bundle.tokenizer, bundle.card)


def test_bos_and_eos_stand_around_the_pieces(encoder: Encoder) -> None:
    bos, eos = VOCABULARY.id("<|endoftext|>"), VOCABULARY.id("<|im_end|>")
    start = VOCABULARY.id("<|im_start|>")
    assert encoder.encode([]) == [bos, eos]
    assert encoder.encode([start, start]) == [bos, start, start, eos]
    assert encoder.encode(["a", start]) == [bos, VOCABULARY.id("a"), start, eos]


def test_parsed_texts_have_neither_bos_nor_eos(encoder: Encoder) -> None:
    start = VOCABULARY.id("<|im_start|>")
    assert encoder.encode_parsed("<|im_start|>a") == [start, VOCABULARY.id("a")]
    assert encoder.encode_parsed("") == []


@given(
    text=st.lists(st.sampled_from([*CONTROL, " ", "a", "<|"]) | st.text(max_size=5)).map("".join)
)
@settings(deadline=None)
def test_no_text_becomes_a_control_token(encoder: Encoder, text: str) -> None:
    ids = encoder.encode([text])[1:-1]
    assert not {VOCABULARY.id(token) for token in CONTROL} & set(ids)


def test_runs_of_white_space_are_tokens_in_every_text(encoder: Encoder) -> None:
    two, four = VOCABULARY.id("  "), VOCABULARY.id("    ")
    a = VOCABULARY.id("a")
    space = VOCABULARY.id("Ġ")
    assert encoder.encode(["a" + " " * 7 + "a"])[1:-1] == [a, four, two, space, a]


def test_remembered_texts_have_the_same_ids(bundle: Bundle) -> None:
    fresh, knowing = (Encoder(bundle.tokenizer, bundle.card) for _ in range(2))
    knowing.remember(["assistant\n", "\n", "a  b"])
    pieces: list[Piece] = ["\n", 3, "assistant\n", "assistant\n\n", "a  b"]
    assert knowing.encode(pieces) == fresh.encode(pieces)


def test_a_lone_surrogate_is_the_requests_fault(encoder: Encoder) -> None:
    with pytest.raises(RequestInvalidError, match="lone surrogate"):
        encoder.encode(["a\ud800b"])


def test_a_tokenizer_that_could_give_a_control_token_is_refused(bundle: Bundle) -> None:
    card = msgspec.structs.replace(bundle.card, control_literals=(SpecialToken("a", 5),))
    with pytest.raises(BundleInvalidError, match="can give the control token 5"):
        Encoder(bundle.tokenizer, card)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", bytes(MAX_TOKENIZER_BYTES + 1)])
def test_a_malformed_tokenizer_is_refused(bundle: Bundle, data: bytes) -> None:
    with pytest.raises(BundleInvalidError, match=r"tokenizer\.json"):
        Encoder(data, bundle.card)
