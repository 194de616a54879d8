"""``tokenizer.json`` for the ``tokenizers`` library, from a vocabulary that it can reproduce.

It lists no special token, so nothing in a text can become one. Byte-level BPE cuts a text into
words and merges their bytes. SentencePiece merges the characters of a whole run, with a space
before it and a sign for every space; what is no token is spelled in bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from origin.vocabulary import SPACE, Vocabulary

_AS_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


def tokenizer_json(vocabulary: Vocabulary) -> bytes:
    """The file; the same vocabulary gives the same bytes. Only for one without doubts."""
    return msgspec.json.encode(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            **(_of_spaces(vocabulary) if vocabulary.is_spm else _of_words(vocabulary)),
        }
    )


def _of_words(vocabulary: Vocabulary) -> dict[str, Any]:
    assert vocabulary.pre_tokenizer is not None
    cuts: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        for regex in vocabulary.pre_tokenizer.patterns
    ]
    return {
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [*cuts, {**_AS_BYTES, "use_regex": False}],
        },
        "post_processor": None,
        "decoder": {**_AS_BYTES, "use_regex": False},
        "model": _model(vocabulary, ignore_merges=vocabulary.pre_tokenizer.ignore_merges),
    }


def _of_spaces(vocabulary: Vocabulary) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    ]
    if vocabulary.adds_space:
        steps.insert(0, {"type": "Prepend", "prepend": SPACE})
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": _model(vocabulary, byte_fallback=True),
    }


def _model(
    vocabulary: Vocabulary, *, ignore_merges: bool = False, byte_fallback: bool = False
) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": byte_fallback,
        "ignore_merges": ignore_merges,
        "vocab": {
            token: id_ for token, id_ in vocabulary.ids.items() if token in vocabulary.mergeable
        },
        "merges": vocabulary.merges,
    }
