"""SentencePiece vocabularies made on the spot, of the BPE kind that Llama 2 and Mistral have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.fakes.tiny_gguf import (
    CONTROL_TYPE,
    CORPUS,
    NORMAL_TYPE,
    USER_DEFINED_TYPE,
    Vocabulary,
)

UNKNOWN_TYPE, UNUSED_TYPE, BYTE_TYPE = 2, 5, 6
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
MORE_LINES = (
    "x" * 40 + " ----------------- ============ " + " " * 33 + "/////// ........ hahahaha lalala",
    "        return 0  # eight      six    four\n\n\n\n\tx\t\ty",
    "aaaa aaa aa a baaab aaaaaaaa abababab bababa",
)


@lru_cache
def train_spm(
    size: int = 700,
    *,
    control: tuple[str, ...] = (),
    user_defined: tuple[str, ...] = (),
    crosses_words: bool = False,
) -> Vocabulary:
    """``<unk>``, BOS, EOS, the bytes, then ``size`` tokens trained, then the special ones.

    ``crosses_words``: train over spaces too, so that tokens hold them within.
    """
    tokenizer = Tokenizer(models.BPE())
    if not crosses_words:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[],
        show_progress=False,
        limit_alphabet=120,
        max_token_length=32,
    )
    lines = [line.replace(" ", "\u2581") for line in (*CORPUS, *MORE_LINES) for _ in range(3)]
    tokenizer.train_from_iterator(lines, trainer)
    vocab = json.loads(tokenizer.to_str())["model"]["vocab"]
    trained = sorted(vocab, key=vocab.get)
    merged = [token for token in trained if len(token) > 1]
    characters = [token for token in trained if len(token) == 1]
    special = {*control, *user_defined}
    return spm_vocabulary(
        [token for token in (*merged, *characters) if token not in special],
        control,
        user_defined,
    )


def spm_vocabulary(
    plain: Sequence[str], control: Sequence[str] = (), user_defined: Sequence[str] = ()
) -> Vocabulary:
    """As a converter writes it, with the plain tokens scored by their place."""
    kinds = (
        (("<unk>",), UNKNOWN_TYPE),
        (("<s>", "</s>", *control), CONTROL_TYPE),
        (BYTES, BYTE_TYPE),
        (tuple(plain), NORMAL_TYPE),
        (tuple(user_defined), USER_DEFINED_TYPE),
    )
    tokens = tuple(token for texts, _ in kinds for token in texts)
    types = tuple(kind for texts, kind in kinds for _ in texts)
    places = {token: place for place, token in enumerate(plain)}
    return Vocabulary(tokens, types, (), tuple(-float(places.get(token, 0)) for token in tokens))
