"""Texts and a vocabulary made to catch a wrong cut between words."""

from __future__ import annotations

import random
import re

from origin.vocabulary import BYTE_CHARACTERS
from tests.fakes.tiny_gguf import CORPUS, Vocabulary, train_vocabulary

_CHARACTERS = (
    *"abcXYZ0123456789'\"!?.,;:-_()[]{}<>|/\\sdtmlrveSDT", *" " * 40, *"\n\n\n\r\t\t", "  ",
    "'s", "'LL",
    *"äßéñПр世界ひ한ع\u0301\u00a0\u3000\u2003\u200b\x00\x0b\x0c\x1c\x85\u2028½Ⅷ٣ſK\ufeff。，ㄅ",
    "नी", "🙂", "👨\u200d", "\u1c89", "\U00010d41", "\ud7ff", "\ue000", "IMGIMGA", "<|im_end|>",
)  # fmt: skip

CUT_TEXTS = (
    *CORPUS, "a b", "a  b", "a \n b", "a\n b", "\n a", " a", "a ", "a   ", "x 1 22 333 4444 a1 1a",
    "it 's I 'm we 'll 'S", "don't don' t", "! ! !! ' ' (a b) ( a", "A B ab Cd eF", "a b c d e f g",
    "世 界 世界 。 ひ", "e \u0301 e\u0301 \u0301", "\u00a0 a \u00a0 b\u3000 c \u3000", "é à à b",
    "IMGIMGA Z IMGIMGABZ <sentinel:1 > <sentinel:12>", "/ // a/ b /\n /", "$ $a +1 - 1 ^ `a ~ |",
    "  a    b     c\n    d\n\n  e \n ", "\x85 a\x85 b \x1c c", "र ा हि न् दी",
    "1 000 000", "٣ ٣٤٥ ٣",
)  # fmt: skip


def random_texts(count: int, seed: int) -> list[str]:
    """Short texts with many spaces among all kinds of characters."""
    source = random.Random(seed)
    return ["".join(source.choices(_CHARACTERS, k=source.randrange(1, 90))) for _ in range(count)]


def without_crossings() -> Vocabulary:
    """The trained one and pairs of telling bytes, none of which ends in a space after a letter."""
    trained = confined(train_vocabulary())
    space = BYTE_CHARACTERS[ord(" ")]
    letters = [BYTE_CHARACTERS[ord(c)] for c in "asAS'.(1 \n\r\t/"] + [*"ÃàäåĠæï"]
    white = {BYTE_CHARACTERS[ord(c)] for c in " \n\r\t"}
    pairs = {
        left + right: f"{left} {right}"
        for left in dict.fromkeys(letters)
        for right in dict.fromkeys(letters)
        if right != space or left in white
    }
    new = {token: merge for token, merge in pairs.items() if token not in trained.tokens}
    return Vocabulary(
        (*trained.tokens, *new),
        (*trained.types, *(1 for _ in new)),
        (*new.values(), *trained.merges),
    )


def confined(vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary without the tokens that hold a space after what is no white space."""
    crossed = re.compile("[^ĠĊĉč]Ġ")
    kept = [
        (token, kind)
        for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
        if not crossed.search(token)
    ]
    merges = [merge for merge in vocabulary.merges if not crossed.search(merge.replace(" ", ""))]
    return Vocabulary(tuple(t for t, _ in kept), tuple(k for _, k in kept), tuple(merges))
