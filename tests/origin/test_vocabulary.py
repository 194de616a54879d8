"""What llama.cpp makes of a vocabulary, and when an edge cannot follow."""

from __future__ import annotations

import json

import pytest

from origin.tokenizer_file import tokenizer_json
from origin.vocabulary import BYTE_CHARACTERS, BYTE_TOKENS, Vocabulary, decoded
from wire.bundle import SpecialToken
from wire.errors import GGUFInvalidError
from wire.gguf_types import GGUF, Value

BYTES = tuple(BYTE_CHARACTERS)
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def metadata_of(*tokens: tuple[str, int], **keys: Value) -> dict[str, Value]:
    """A byte-level vocabulary with ``ab`` and these tokens; ``keys`` go below tokenizer.ggml."""
    found: dict[str, Value] = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": (*BYTES, "ab", *(text for text, _ in tokens)),
        "token_type": (*(1 for _ in BYTES), 1, *(kind for _, kind in tokens)),
        "merges": ("a b",),
        **keys,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in found.items()}


def vocabulary(*tokens: tuple[str, int], **keys: Value) -> Vocabulary:
    return Vocabulary(of(metadata_of(*tokens, **keys)))


def of(metadata: dict[str, Value]) -> GGUF:
    return GGUF(version=3, metadata=metadata, alignment=32, data_offset=0, tensors=(), file_size=0)


def special_texts(found: Vocabulary) -> set[str]:
    return {token.text for token in found.specials(found.special_ids)}


def test_special_tokens_are_those_of_a_special_type() -> None:
    found = vocabulary(
        ("<c>", CONTROL), ("<u>", USER_DEFINED), ("<?>", UNKNOWN), ("<n>", NORMAL), ("<x>", UNUSED)
    )
    assert special_texts(found) == {"<c>", "<u>", "<?>"}
    assert list(found.doubts()) == []


def test_some_texts_are_special_whatever_their_type() -> None:
    found = vocabulary(("<|im_end|>", NORMAL), ("</s>", NORMAL), ("<|fim_prefix|>", NORMAL))
    assert special_texts(found) == {"<|im_end|>", "</s>", "<|fim_prefix|>"}
    assert list(found.doubts()) == []


def test_a_named_token_for_the_middle_leaves_lookalikes_plain() -> None:
    found = vocabulary(("<PRE>", NORMAL), ("<|pre|>", CONTROL), fim_pre_token_id=258)
    assert special_texts(found) == {"<|pre|>"}
    older = vocabulary(("<PRE>", NORMAL), ("<|pre|>", CONTROL), prefix_token_id=258)
    assert special_texts(older) == {"<|pre|>"}


def test_only_runs_of_white_space_are_plain_specials() -> None:
    found = vocabulary(("  ", USER_DEFINED), ("\t\t", USER_DEFINED), ("<u>", USER_DEFINED))
    assert {token.text for token in found.specials(found.plain_ids)} == {"  ", "\t\t"}
    assert list(found.doubts()) == []
    assert vocabulary(("  ", CONTROL)).plain_ids == frozenset()


@pytest.mark.parametrize(
    ("found", "doubt"),
    [
        (vocabulary(pre="glm4"), "pre-tokenizer 'glm4'"),
        (vocabulary(model="t5"), "model 't5'"),
        (vocabulary(model="bert"), "model 'bert'"),
        (vocabulary(model="plamo2"), "model 'plamo2'"),
        (vocabulary(model="rwkv"), "model 'rwkv'"),
        (vocabulary(model="gemma4"), "model 'gemma4'"),
        (vocabulary(("<mask>", CONTROL), pre="jina-v2-de"), "swallow white space"),
        (vocabulary(tokens=(*BYTES[1:], "ab"), token_type=(1,) * 256), "lacks single bytes"),
        (vocabulary(merges=("a c",)), "merge is not of plain tokens"),
        (vocabulary(merges=("ab",)), "merge is not of plain tokens"),
        (vocabulary(("abc", CONTROL), merges=("ab c",)), "merge is not of plain tokens"),
        (vocabulary((" \t", USER_DEFINED)), "mixed white space"),
        (vocabulary(("  ", USER_DEFINED), ("<a b>", CONTROL)), "holds white space"),
        (vocabulary(("<PRE>", NORMAL), ("<fim_prefix>", NORMAL)), "ambiguous"),
        (vocabulary(("</s>", CONTROL), ("<|tool_response>", CONTROL)), "</s> as plain text"),
        (vocabulary(add_bos_token=True), "bos is added but is not a special"),
        (vocabulary(add_eos_token=True), "eos is added but is not a special"),
        (vocabulary(pre="llama-bpe"), "bos is added but is not a special"),
        (vocabulary(("Ġthe", CONTROL), pre="youtu"), "byte-level form of a plain word"),
        (vocabulary(("Ġthe", USER_DEFINED), pre="midm-2.0"), "byte-level form of a plain word"),
        (vocabulary(("Ã©", UNKNOWN), pre="tekken"), "byte-level form of a plain word"),
    ],
)  # fmt: skip
def test_what_an_edge_cannot_follow_is_a_doubt(found: Vocabulary, doubt: str) -> None:
    assert any(doubt in reason for reason in found.doubts())


def test_a_special_token_that_no_word_looks_like_is_no_doubt() -> None:
    assert list(vocabulary(("Ġthe", CONTROL)).doubts()) == []
    texts = ("hello", "<|eot|>", "<｜end▁of▁sentence｜>", "éé")
    found = vocabulary(*((text, CONTROL) for text in texts), pre="youtu")
    assert not any("plain word" in reason for reason in found.doubts()), list(found.doubts())


def test_models_whose_specials_swallow_white_space_are_a_doubt() -> None:
    metadata = {**metadata_of(), "general.name": "My Phi-3 Mini"}
    assert any("swallow" in reason for reason in Vocabulary(of(metadata)).doubts())


def test_bos_and_eos_are_as_named_or_the_default() -> None:
    found = vocabulary(("<s>", CONTROL), ("<e>", CONTROL), bos_token_id=257, eos_token_id=999)
    assert found.named("bos") == SpecialToken("<s>", 257)
    assert found.named("eos") == SpecialToken(decoded(BYTES[11]), 11)
    assert found.named("eot") is None


def test_the_token_that_ends_a_turn_is_known_by_its_text() -> None:
    assert vocabulary().end_of_turn is None
    by_text = vocabulary(("<|im_end|>", CONTROL), ("<|eot_id|>", CONTROL))
    assert by_text.end_of_turn == SpecialToken("<|eot_id|>", 258)
    named = vocabulary(("<|im_end|>", CONTROL), ("<x>", CONTROL), eot_token_id=258)
    assert named.end_of_turn == SpecialToken("<x>", 258)


def test_bos_is_added_where_the_file_or_the_pre_tokenizer_says_so() -> None:
    assert not vocabulary().adds("bos")
    assert vocabulary(add_bos_token=True).adds("bos")
    assert vocabulary(pre="llama-bpe").adds("bos")
    assert not vocabulary(pre="llama-bpe", add_bos_token=False).adds("bos")
    assert not vocabulary(pre="llama-bpe").adds("eos")


def test_a_pre_tokenizer_may_have_no_default_bos() -> None:
    assert vocabulary(pre="chatglm-bpe").named("bos") is None
    assert vocabulary(pre="chatglm-bpe").named("eos") is not None


def spm(*tokens: tuple[str, int, float], **keys: Value) -> Vocabulary:
    """A SentencePiece vocabulary with ``a``, ``b``, ``ab`` and these tokens."""
    special = (("<unk>", UNKNOWN, 0.0), ("<s>", CONTROL, 0.0), ("</s>", CONTROL, 0.0))
    plain = (
        ("a", NORMAL, -9.0),
        ("b", NORMAL, -9.0),
        ("\u2581", NORMAL, -9.0),
        ("ab", NORMAL, -1.0),
    )
    rows = (*special, *((token, BYTE, 0.0) for token in BYTE_TOKENS), *plain, *tokens)
    found: dict[str, Value] = {
        "model": "llama",
        "tokens": tuple(text for text, _, _ in rows),
        "token_type": tuple(kind for _, kind, _ in rows),
        "scores": tuple(score for _, _, score in rows),
        **keys,
    }
    return Vocabulary(of({f"tokenizer.ggml.{key}": value for key, value in found.items()}))


def test_a_sentencepiece_vocabulary_has_its_own_defaults() -> None:
    found = spm(("\u2581a", NORMAL, -2.0))
    assert list(found.doubts()) == []
    assert (found.named("bos"), found.named("eos")) == (
        SpecialToken("<s>", 1), SpecialToken("</s>", 2),
    )  # fmt: skip
    assert found.adds("bos")
    assert found.adds_space
    assert not spm(add_space_prefix=False).adds_space
    assert found.merges == [("a", "b"), ("\u2581", "a")]


def test_tokens_of_sentencepiece_spell_bytes_and_spaces() -> None:
    found = spm(("\u2581a", NORMAL, -2.0), ("<\u2581x>", CONTROL, 0.0))
    spelled = {token: found.spelled(id_) for token, id_ in found.ids.items()}
    assert spelled["<0x0A>"] == b"\n"
    assert spelled["\u2581a"] == b" a"
    assert spelled["<\u2581x>"].decode() == "<\u2581x>"
    assert found.shown(found.ids["\u2581a"]) == " a"


@pytest.mark.parametrize(
    ("found", "doubt"),
    [
        (spm(token_type=(CONTROL,) * 263), "lacks single bytes"),
        (spm(("c", NORMAL, -9.0), ("abc", NORMAL, -1.0)), "have one score"),
        (spm(("ac", NORMAL, -2.0)), "no token of its own"),
        (spm(("\u2581a", CONTROL, 0.0)), "merged into a token of bytes or of control"),
        (spm(("\u2581a", USER_DEFINED, 0.0)), "merged into a token of bytes or of control"),
        (spm(("bb", NORMAL, float("nan"))), "not a finite number"),
        (spm(("bb", NORMAL, float("-inf"))), "not a finite number"),
        (spm(("b" * 200, NORMAL, -3.0)), "too long"),
        (spm(bos_token_id=260), "bos is added but is not a special"),
    ],
)  # fmt: skip
def test_what_an_edge_cannot_follow_of_sentencepiece_is_a_doubt(
    found: Vocabulary, doubt: str
) -> None:
    assert any(doubt in reason for reason in found.doubts()), list(found.doubts())


@pytest.mark.parametrize("scores", [(0.0,), "text", ("x",) * 263, (2**2000,) * 263])
def test_scores_that_llama_cpp_refuses_are_refused(scores: Value) -> None:
    with pytest.raises(GGUFInvalidError, match="score"):
        list(spm(scores=scores).doubts())


def test_a_merge_that_stands_twice_keeps_its_first_rank() -> None:
    found = vocabulary(("bc", NORMAL), merges=("a b", "b c", "a b"))
    assert found.merges == [("a", "b"), ("b", "c")]


def test_the_tokenizer_file_lists_no_special_token() -> None:
    found = vocabulary(("<s>", CONTROL), ("<u>", USER_DEFINED), ("  ", USER_DEFINED))
    document = json.loads(tokenizer_json(found))
    assert document["added_tokens"] == []
    assert document["model"]["vocab"] == {**{t: i for i, t in enumerate(BYTES)}, "ab": 256}
    assert document["model"]["merges"] == [["a", "b"]]
    assert tokenizer_json(found) == tokenizer_json(found)


@pytest.mark.parametrize(
    "keys",
    [
        {"tokens": (*BYTES, "a"), "token_type": (1,) * 257},
        {"token_type": (1, 1)},
        {"tokens": "text"},
        {"token_type": ("1",) * 257},
    ],
)
def test_a_vocabulary_that_llama_cpp_refuses_is_refused(keys: dict[str, Value]) -> None:
    with pytest.raises(GGUFInvalidError):
        vocabulary(**keys)


def test_a_file_without_a_vocabulary_is_refused() -> None:
    with pytest.raises(GGUFInvalidError, match=r"tokenizer\.ggml\.model"):
        Vocabulary(of({}))


def test_empty_tokens_get_the_name_that_llama_cpp_gives_them() -> None:
    assert "[EMPTY_257]" in vocabulary(("", NORMAL)).ids


def test_byte_characters_are_gpt2s() -> None:
    assert len(set(BYTE_CHARACTERS)) == 256
    assert BYTE_CHARACTERS[ord(" ")] == "Ġ"
    assert BYTE_CHARACTERS[ord("\n")] == "Ċ"
    assert BYTE_CHARACTERS[ord("a")] == "a"
    assert decoded("ĠgrÃ¼ÃŁe") == " grüße"
