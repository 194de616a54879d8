r"""Where a text may be cut so that the ids of the pieces are the ids of the whole.

The cut is before a space that follows a character which is no white space. It is exact where

1. no token of the vocabulary holds such a place, so that no merge can cross it; and
2. the pre-tokenizer, if there is one, finds the same words left and right of it. That is known of
   the patterns in ``PROVEN``: none looks behind, and none looks ahead past a character that is no
   white space (``\s+(?!\S)`` only looks from white space). Where a match may cross the cut, its
   parts are merged apart all the same, because of (1).

SentencePiece has no pre-tokenizer: it writes a sign for every space, merges whole runs, and mostly
puts one more sign before. A piece that begins with its space gives that up, and gets it back so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

SIGN = "\u2581"
"""What SentencePiece writes for a space."""

PROVEN = frozenset({
    "4e750db5b316deac",  # default
    "c17e771aa25d6007",  # gpt-2
    "1c7b10368accc22d",  # smollm
    "b82f756800e1ca8b",  # falcon
    "b55dec3bc1c25190",  # llama-bpe
    "bb525e6cd084014a",  # dbrx
    "629d45554a68465b",  # qwen2
    "9efab095f25e4b7a",  # qwen35
    "2a01a783c97dc467",  # ufakzeka
    "d5fa651b95170a6f",  # laguna
    "ccb5b1971707916a",  # minicpm5
    "59c4500876cf1ac9",  # seed-coder
    "7c92aada30cfb0b3",  # bailingmoe
    "26c13bda3385ab66",  # exaone-moe
    "37c1530c8f2cd44c",  # tekken
    "1d6574e1118d848c",  # gpt-4o
    "6d640b73894b158e",  # granite-embed-multi-97m
    "6fadd2def8b7fa20",  # kimi-k2
    "fe8b537d9285cd86",  # bloom
    "f365d24d76290b2d",  # viking
    "9f21a2536fba706d",  # deepseek-v3
    "c760c4d043958031",  # spark2_5
    "050c27fd9a3fbf27",  # deepseek-coder
    "e1183cda28464c61",  # deepseek-llm
    "a90fd9125a28ad7b",  # youtu
    "d0294493d65eecd7",  # chameleon
})  # fmt: skip
"""Digests of the pre-tokenizers that the tests cut in all ways (``digest_of``)."""

_PIECES = re.compile(r"\s*\S+(?:[^\S ]\s*\S*)*|\s+")
_CUT = re.compile(r"(?<=\S) ")
_CROSSED_BYTES = re.compile("[^\u0120\u0109\u010a\u010b\u010c\u010d\n]\u0120")
"""In the characters that byte-level BPE writes for bytes; white space of ASCII may go before."""
_CROSSED_SIGNS = re.compile(f"[^{SIGN}\n]{SIGN}")
_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Cut(msgspec.Struct, frozen=True):
    """How one tokenizer's texts are cut."""

    prepends: bool
    """Whether the tokenizer puts a space before every text."""
    signs: bool
    """Whether it is SentencePiece."""
    sizes: list[int]
    """By id: how long a token's text is; see :meth:`size`."""

    def size(self, piece: str) -> int:
        """The sum of the sizes of a piece's tokens."""
        if self.signs:
            piece = piece.replace(" ", SIGN)
            if self.prepends and not piece.startswith(SIGN):
                piece = SIGN + piece
        return len(piece) if piece.isascii() else len(piece.encode())


def cut_of(data: bytes) -> Cut | None:
    """How texts for the tokenizer of a ``tokenizer.json`` may be cut; None: not at all, as far as
    is known.
    """
    try:
        file: Any = msgspec.json.decode(data)
        model, normalizer, cutter = file["model"], file["normalizer"], file["pre_tokenizer"]
        vocabulary: dict[str, int] = model["vocab"]
        plain = (
            model["type"] == "BPE" and not any(map(model.get, _UNLIKE)) and not file["added_tokens"]
        )
        if not plain or file["post_processor"] is not None:
            return None
        together = "\n".join(vocabulary)
        if cutter is None:
            steps = [step["type"] for step in normalizer["normalizers"]]
            known = steps in (["Prepend", "Replace"], ["Replace"])
            if not known or not model["byte_fallback"] or _CROSSED_SIGNS.search(together):
                return None
            return Cut(prepends=len(steps) == 2, signs=True, sizes=_sizes(vocabulary, signs=True))
        if normalizer is not None or digest_of(data) not in PROVEN:
            return None
    except (KeyError, TypeError, msgspec.DecodeError):
        return None
    if model["byte_fallback"] or _CROSSED_BYTES.search(together):
        return None
    return Cut(prepends=False, signs=False, sizes=_sizes(vocabulary, signs=False))


_UNLIKE = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk")


def digest_of(data: bytes) -> str:
    """Names the pre-tokenizer of a ``tokenizer.json``, and whether whole words skip merging."""
    file: Any = msgspec.json.decode(data)
    said = msgspec.json.encode(
        [file["pre_tokenizer"], file["model"]["ignore_merges"]], order="sorted"
    )
    return hashlib.sha256(said).hexdigest()[:16]


def pieces_of(text: str) -> list[str]:
    """The text at all its cuts; their join is the text."""
    return _PIECES.findall(text)


def slices_of(text: str, length: int) -> Iterator[str]:
    """The text at some of its cuts: slices of about so many characters, where it has such cuts."""
    start = 0
    while len(text) - start > length:
        found = _CUT.search(text, start + length)
        if found is None:
            break
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def _sizes(vocabulary: dict[str, int], *, signs: bool) -> list[int]:
    sizes = [0] * (max(vocabulary.values(), default=-1) + 1)
    for token, id_ in vocabulary.items():
        if not signs:
            sizes[id_] = len(token)  # a character a byte
        else:
            sizes[id_] = 1 if _BYTE.fullmatch(token) else len(token.encode())
    return sizes
