"""The tokenizer that a GGUF file holds, and whether an edge can reproduce it exactly.

Which tokens are special is decided as llama.cpp decides it when it loads a vocabulary
(``llama_vocab::impl::load``): by their type, and a few by their text whatever their type says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cached_property

from origin.pretokenizers import PRE_TOKENIZERS
from origin.sentencepiece import NotMergesError, derive_merges
from wire.bundle import SpecialToken
from wire.errors import GGUFInvalidError
from wire.gguf_types import GGUF, Scalar

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
_SPECIAL_TYPES = frozenset((_UNKNOWN, _CONTROL, _USER_DEFINED))
_PREFIX = "tokenizer.ggml."
_DEFAULT_BPE_ID = 11
"""What llama.cpp takes for BOS and EOS of a BPE vocabulary that names none."""
_DEFAULT_SPM_IDS = {"bos": 1, "eos": 2}
SPACE = "\u2581"
"""What stands for a space in a SentencePiece vocabulary."""
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""The tokens of single bytes in a SentencePiece vocabulary, by byte."""
_BYTE_OF_TOKEN = {token: byte for byte, token in enumerate(BYTE_TOKENS)}

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
_STRIPPING_MASKS = ("jina-v2-de", "jina-v2-es", "jina-v2-code")
"""With these pre-tokenizers ``<mask>`` does."""


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
        self.is_spm = self.model == "llama"
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
        default = self._default_id(name)
        id_ = self._gguf.integer(f"{_PREFIX}{name}_token_id", default)
        if not 0 <= id_ < len(self.tokens):
            id_ = default
        if not 0 <= id_ < len(self.tokens):
            return None
        return SpecialToken(self.shown(id_), id_)

    def shown(self, id_: int) -> str:
        """A token's text as the engine writes it."""
        token = self.tokens[id_]
        if id_ in self.special_ids:
            return token
        return decoded(token) if self.is_bpe else token.replace(SPACE, " ")

    def spelled(self, id_: int) -> bytes:
        """The bytes of a text for which a token stands."""
        token = self.tokens[id_]
        if id_ in self.special_ids:
            return token.encode()
        if self.is_bpe:
            return bytes(_BYTE_OF[character] for character in token)
        if token in _BYTE_OF_TOKEN:
            return bytes((_BYTE_OF_TOKEN[token],))
        return token.replace(SPACE, " ").encode()

    @property
    def end_of_turn(self) -> SpecialToken | None:
        """The token that ends a turn: as named, else the first known text that is a token."""
        found = next((text for text in _END_OF_TURN if text in self.ids), None)
        return self.named("eot") or (SpecialToken(found, self.ids[found]) if found else None)

    def adds(self, name: str) -> bool:
        """Whether ``bos`` or ``eos`` is added to every prompt."""
        implied = self.is_spm
        if self.pre_tokenizer is not None:
            implied = self.pre_tokenizer.add_bos
        return self._gguf.flag(f"{_PREFIX}add_{name}_token", implied and name == "bos")

    @property
    def adds_space(self) -> bool:
        """Whether a space goes before each run of text, as SentencePiece has it."""
        return self.is_spm and self._gguf.flag(f"{_PREFIX}add_space_prefix", True)

    def doubts(self) -> Iterator[str]:
        """Why an edge cannot give llama.cpp's ids for this vocabulary; none where it can."""
        if self.pre_tokenizer is None and not self.is_spm:
            kind = f"pre-tokenizer {self.pre!r}" if self.is_bpe else f"model {self.model!r}"
            yield f"tokenizer {kind} is not reproduced at the edge"
            return
        if not self.mergeable.issuperset(self.single_bytes):
            yield "the vocabulary lacks single bytes"
        elif self.is_spm:
            yield from self._doubts_about_spaces()
        elif self.merges is None:
            yield "a merge is not of plain tokens of the vocabulary"
        yield from self._doubts_about_specials()
        yield from self._doubts_about_plain()

    @property
    def single_bytes(self) -> tuple[str, ...]:
        """The token of every byte."""
        return BYTE_TOKENS if self.is_spm else tuple(BYTE_CHARACTERS)

    @cached_property
    def mergeable(self) -> frozenset[str]:
        """The tokens that a text without special tokens can give."""
        return frozenset(token for token, id_ in self.ids.items() if id_ not in self.special_ids)

    def _doubts_about_spaces(self) -> Iterator[str]:
        if any(self.tokens[id_] == SPACE for id_ in self.special_ids):
            yield "the token of a space is special"
        try:
            self.merges  # noqa: B018 - derived here, kept for the file
        except NotMergesError as error:
            yield f"the scores of the vocabulary are no order of merges: {error}"

    def _doubts_about_specials(self) -> Iterator[str]:
        name = self._gguf.text("general.name", "").lower()
        strips_mask = any(mark in self.pre for mark in _STRIPPING_MASKS) and "<mask>" in self.ids
        if strips_mask or any(mark in name for mark in _STRIPPING_MODELS):
            yield "special tokens of models with this name swallow white space"
        if any(len(group) > 1 for group in self._guessed_in_middle()):
            yield "which token fills in the middle is ambiguous"
        if {"<|tool_response>", "</s>"} <= self.ids.keys():
            yield "llama.cpp treats </s> as plain text here"
        if self.pre_tokenizer is not None and self.pre_tokenizer.ignore_merges:
            yield from self._doubts_about_words()
        for which in ("bos", "eos"):
            token = self.named(which)
            if self.adds(which) and (token is None or token.id not in self.special_ids):
                yield f"{which} is added but is not a special token"

    def _doubts_about_words(self) -> Iterator[str]:
        """A word that is a token is taken whole, a special one too. Where its text is the word's
        own, it was cut out before; ``Ġthe`` is not, but is what the word `` the`` looks like.
        """
        texts = (self.tokens[id_] for id_ in self.special_ids)
        if any(_word_of(text) not in (None, text) for text in texts):
            yield "a special token is the byte-level form of a plain word"

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
            GGUFInvalidError: the file has none, or no scores.
            NotMergesError: the scores of a SentencePiece vocabulary are no order of merges.
        """
        if self.is_spm:
            return derive_merges(self._scores(), self._never())
        pairs: dict[tuple[str, str], None] = {}
        for merge in self._gguf.texts(f"{_PREFIX}merges"):
            middle = merge.find(" ", 1)
            left, right = merge[:middle], merge[middle + 1 :]
            if middle < 0 or not self.mergeable.issuperset((left, right, left + right)):
                return None
            pairs[left, right] = None
        return list(pairs)

    def _default_id(self, name: str) -> int:
        if self.is_spm:
            return _DEFAULT_SPM_IDS.get(name, -1)
        if self.pre_tokenizer is not None and name == "bos" and not self.pre_tokenizer.default_bos:
            return -1
        return _DEFAULT_BPE_ID if self.is_bpe and name in ("bos", "eos") else -1

    def _scores(self) -> dict[str, float]:
        """The score of every token that merging may make. A text holds no space any more then, and
        no special token, so no token with one is ever made.
        """
        scores = self._gguf.metadata.get(f"{_PREFIX}scores", (0.0,) * len(self.tokens))
        if not isinstance(scores, tuple) or len(scores) < len(self.tokens):
            raise GGUFInvalidError("the GGUF vocabulary has not a score for each of its tokens")
        absent = {
            " ",
            *(self.tokens[id_] for id_ in self.special_ids if len(self.tokens[id_]) == 1),
        }
        return {
            token: _as_float(score)
            for token, score in zip(self.tokens, scores, strict=False)
            if token in self.mergeable and token not in _BYTE_OF_TOKEN and absent.isdisjoint(token)
        }

    def _never(self) -> list[str]:
        """Tokens that no merging may make. Every other special token is cut out of a text before;
        one with the sign of a space is not where the text has the space itself.
        """
        specials = (self.tokens[id_] for id_ in self.special_ids)
        return [*BYTE_TOKENS, *(text for text in specials if SPACE in text and " " not in text)]

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


def _as_float(score: Scalar) -> float:
    """As llama.cpp keeps it, in 32 bits."""
    try:
        (kept,) = struct.unpack("<f", struct.pack("<f", score))
    except (struct.error, OverflowError):
        raise GGUFInvalidError("the scores of the GGUF vocabulary are no numbers") from None
    return float(kept)


def decoded(token: str) -> str:
    """The text of a byte-level token; bytes that are no UTF-8 are replaced."""
    data = bytes(_BYTE_OF[character] for character in token if character in _BYTE_OF)
    return data.decode(errors="replace")


def _word_of(token: str) -> str | None:
    """The word whose byte-level form a text is; None where it is that of none."""
    try:
        return bytes(_BYTE_OF[character] for character in token).decode()
    except (KeyError, UnicodeDecodeError):
        return None


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
