"""The tokenizer that a GGUF file holds, and whether an edge can reproduce it exactly.

Which tokens are special is decided as llama.cpp decides it when it loads a vocabulary
(``llama_vocab::impl::load``): by their type, and a few by their text whatever their type says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import msgspec

from origin.pretokenizers import PRE_TOKENIZERS
from wire.bundle import SpecialToken
from wire.errors import GGUFInvalidError
from wire.gguf_types import GGUF

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
_SPECIAL_TYPES = frozenset((_UNKNOWN, _CONTROL, _USER_DEFINED))
_PREFIX = "tokenizer.ggml."
_DEFAULT_BPE_ID = 11
"""What llama.cpp takes for BOS and EOS of a BPE vocabulary that names none."""

_END_OF_TURN = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
    "<EOT>", "_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>", "<end_of_utterance>",
)  # fmt: skip
_ALWAYS_SPECIAL = frozenset((
    *_END_OF_TURN, "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "</s>", "<|eom_id|>",
    "[EOS]", "<eos>", "<turn|>", "<|tool_response>", "[e~[", "<|channel|>", "<|message|>",
    "<|start|>", "<|constrain|>",
))  # fmt: skip
_FILL_IN_MIDDLE: Mapping[str, tuple[str, ...]] = {
    "fim_pre": (
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
        "<|code_prefix|>", "<|prefix|>",
    ),
    "fim_suf": (
        "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
        "<|code_suffix|>", "<|suffix|>",
    ),
    "fim_mid": (
        "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
        "<|code_middle|>", "<|middle|>",
    ),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": (
        "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>",
    ),
    "fim_sep": ("<|file_sep|>",),
}  # fmt: skip
_OLD_NAMES = {"fim_pre": "prefix", "fim_suf": "suffix", "fim_mid": "middle"}
_STRIPPING_MODELS = ("phi-3", "phi3", "modern-bert")
"""llama.cpp lets special tokens of models so named swallow the white space around them."""


class Vocabulary:
    """The tokens of a GGUF file.

    Raises:
        GGUFInvalidError: no tokenizer, or one that llama.cpp would refuse.
    """

    def __init__(self, gguf: GGUF) -> None:
        self._gguf = gguf
        self.model = gguf.text(f"{_PREFIX}model")
        self.pre = gguf.text(f"{_PREFIX}pre", "default")
        self.is_bpe = self.model == "gpt2"
        self.pre_tokenizer = PRE_TOKENIZERS.get(self.pre) if self.is_bpe else None
        self.tokens = tuple(
            token or f"[EMPTY_{index}]"
            for index, token in enumerate(gguf.texts(f"{_PREFIX}tokens"))
        )
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self.ids) != len(self.tokens):
            raise GGUFInvalidError("the GGUF vocabulary holds a token twice")
        self._types = gguf.integers(f"{_PREFIX}token_type", (_NORMAL,) * len(self.tokens))
        if len(self._types) < len(self.tokens):
            raise GGUFInvalidError(
                f"the GGUF vocabulary has {len(self.tokens)} tokens but {len(self._types)} types"
            )

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Every token that llama.cpp looks for in a text before it merges anything."""
        by_type = (
            id_
            for id_, type_ in zip(self.ids.values(), self._types, strict=False)
            if type_ in _SPECIAL_TYPES
        )
        by_text = (self.ids[text] for text in _ALWAYS_SPECIAL if text in self.ids)
        in_middle = (id_ for group in self._guessed_in_middle() for id_ in group)
        return frozenset((*by_type, *by_text, *in_middle))

    @cached_property
    def plain_ids(self) -> frozenset[int]:
        """Special tokens that content may hold too: runs of white space of type USER_DEFINED."""
        return frozenset(
            id_
            for id_ in self.special_ids
            if self._types[id_] == _USER_DEFINED and self.tokens[id_].isspace()
        )

    def specials(self, ids: frozenset[int]) -> tuple[SpecialToken, ...]:
        """These tokens with their texts, by id."""
        return tuple(SpecialToken(self.tokens[id_], id_) for id_ in sorted(ids))

    def named(self, name: str) -> SpecialToken | None:
        """The token that the metadata calls ``bos``, ``eos``, …, with the text a template sees."""
        default = _DEFAULT_BPE_ID if self.is_bpe and name in ("bos", "eos") else -1
        id_ = self._gguf.integer(f"{_PREFIX}{name}_token_id", default)
        if not 0 <= id_ < len(self.tokens):
            id_ = default
        if not 0 <= id_ < len(self.tokens):
            return None
        token = self.tokens[id_]
        return SpecialToken(token if id_ in self.special_ids else decoded(token), id_)

    @property
    def end_of_turn(self) -> SpecialToken | None:
        """The token that ends a turn: as named, else the first known text that is a token."""
        found = next((text for text in _END_OF_TURN if text in self.ids), None)
        return self.named("eot") or (SpecialToken(found, self.ids[found]) if found else None)

    def adds(self, name: str) -> bool:
        """Whether ``bos`` or ``eos`` is added to every prompt."""
        implied = not self.is_bpe and self.model == "llama"
        if self.pre_tokenizer is not None:
            implied = self.pre_tokenizer.add_bos
        return self._gguf.flag(f"{_PREFIX}add_{name}_token", implied and name == "bos")

    def doubts(self) -> Iterator[str]:
        """Why an edge cannot give llama.cpp's ids for this vocabulary; none where it can."""
        if self.pre_tokenizer is None:
            kind = f"pre-tokenizer {self.pre!r}" if self.is_bpe else f"model {self.model!r}"
            yield f"tokenizer {kind} is not reproduced at the edge"
            return
        if not all(character in self.ids for character in BYTE_CHARACTERS):
            yield "the vocabulary lacks single bytes"
        if self.merges is None:
            yield "a merge is not of plain tokens of the vocabulary"
        if any(name in self._gguf.text("general.name", "").lower() for name in _STRIPPING_MODELS):
            yield "special tokens of models with this name swallow white space"
        if any(len(group) > 1 for group in self._guessed_in_middle()):
            yield "which token fills in the middle is ambiguous"
        if {"<|tool_response>", "</s>"} <= self.ids.keys():
            yield "llama.cpp treats </s> as plain text here"
        yield from self._doubts_about_plain()
        for name in ("bos", "eos"):
            token = self.named(name)
            if self.adds(name) and (token is None or token.id not in self.special_ids):
                yield f"{name} is added but is not a special token"

    def _doubts_about_plain(self) -> Iterator[str]:
        plain = [self.tokens[id_] for id_ in self.plain_ids]
        control = [self.tokens[id_] for id_ in self.special_ids - self.plain_ids]
        if any(len(set(text)) > 1 for text in plain):
            yield "a token of mixed white space could be found in two ways"
        if plain and any(character.isspace() for text in control for character in text):
            yield "a control token holds white space, as do tokens of plain text"

    @cached_property
    def merges(self) -> list[tuple[str, str]] | None:
        """The merges in order of rank, each once; None where one is not of plain tokens.

        Raises:
            GGUFInvalidError: the file has none.
        """
        mergeable = {token for token, id_ in self.ids.items() if id_ not in self.special_ids}
        pairs: dict[tuple[str, str], None] = {}
        for merge in self._gguf.texts(f"{_PREFIX}merges"):
            middle = merge.find(" ", 1)
            left, right = merge[:middle], merge[middle + 1 :]
            if middle < 0 or not mergeable.issuperset((left, right, left + right)):
                return None
            pairs[left, right] = None
        return list(pairs)

    def _guessed_in_middle(self) -> Iterator[list[int]]:
        """For each fill-in-the-middle token that is not named: the candidates by text."""
        for name, texts in _FILL_IN_MIDDLE.items():
            named = any(
                f"{_PREFIX}{key}_token_id" in self._gguf.metadata
                for key in (name, _OLD_NAMES.get(name, name))
            )
            found = [self.ids[text] for text in texts if text in self.ids]
            if not named and any(self._types[id_] not in _SPECIAL_TYPES for id_ in found):
                yield found


def tokenizer_json(vocabulary: Vocabulary) -> bytes:
    """``tokenizer.json`` for the ``tokenizers`` library, without any special token. Only for a
    vocabulary without doubts.
    """
    assert vocabulary.pre_tokenizer is not None
    vocab = {
        token: id_ for token, id_ in vocabulary.ids.items() if id_ not in vocabulary.special_ids
    }
    cuts: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        for regex in vocabulary.pre_tokenizer.patterns
    ]
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return msgspec.json.encode(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [*cuts, {**as_bytes, "use_regex": False}],
            },
            "post_processor": None,
            "decoder": {**as_bytes, "use_regex": False},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": vocabulary.pre_tokenizer.ignore_merges,
                "vocab": vocab,
                "merges": vocabulary.merges,
            },
        }
    )


def decoded(token: str) -> str:
    """The text of a byte-level token; bytes that are no UTF-8 are replaced."""
    data = bytes(_BYTE_OF[character] for character in token if character in _BYTE_OF)
    return data.decode(errors="replace")


def _byte_characters() -> str:
    """GPT-2's alphabet: the printable Latin-1 characters stand for themselves, every other byte
    for a character from U+0100 on, in order (Radford et al. 2019, ``encoder.py``).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTE_CHARACTERS = _byte_characters()
"""The character that stands for each byte, by byte."""
_BYTE_OF = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
