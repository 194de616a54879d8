"""The data of the injection model: attacks and harmless texts, grouped so that no near-duplicate of
a training text is tested on.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from edge_tier.gateway.injection_model import words_of
from infra.training.injection_texts import attacks, look_alikes, roles
from infra.training.seed_prompts import seed_prompts

SHINGLE_WORDS = 5
SIMILAR_ATTACKS = 0.2
"""Share of common shingles from which on two attacks belong together. Low: the prompts in the wild
are edits of each other."""
SIMILAR_HARMLESS = 0.5
_SKETCH = 256
_MOST_QUESTIONS = 2_000


class Text(NamedTuple):
    """A text, whether it is an attack, and the data set that it comes from."""

    text: str
    attack: bool
    source: str


class _Row(msgspec.Struct, frozen=True):
    prompt: str = ""
    text: str = ""


def read(folder: Path, seed: int) -> list[Text]:
    """All texts. Raises ``OSError`` and ``msgspec.ValidationError``."""
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrecy
    questions = list(_read(folder / "complexity_mmlu_half.jsonl"))
    rng.shuffle(questions)
    return [
        *_texts(_read(folder / "injection_inthewild.jsonl"), True, "in_the_wild"),
        *_texts(attacks(), True, "own_attacks"),
        *_texts(_read(folder / "injection_benign.jsonl"), False, "security"),
        *_texts(questions[:_MOST_QUESTIONS], False, "examinations"),
        *_texts(_read(folder / "pii_dev.jsonl"), False, "personal_data"),
        *_texts((prompt.text for prompt in seed_prompts(seed)), False, "seeds"),
        *_texts(look_alikes(), False, "look_alikes"),
        *_texts(roles(), False, "roles"),
    ]


def clusters(texts: Sequence[str], similar: float) -> list[int]:
    """A number for each text, the same for those that are linked by similarity (single linkage).

    Similarity is estimated on the lowest hashes of the shingles (bottom-k sketch: Cohen and Kaplan
    2007), and only of texts that share some.
    """
    sketches = [_sketch(text) for text in texts]
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    holders: dict[int, list[int]] = {}
    for i, sketch in enumerate(sketches):
        common: dict[int, int] = {}
        for value in sketch:
            for other in holders.setdefault(value, []):
                common[other] = common.get(other, 0) + 1
            holders[value].append(i)
        for other, shared in common.items():
            # The smaller text within the larger one is a duplicate, too.
            if shared >= similar * min(len(sketch), len(sketches[other])):
                parent[root(i)] = root(other)
    return [root(i) for i in range(len(texts))]


def folds(texts: Sequence[Text], count: int, seed: int) -> list[int]:
    """A fold for each text; a cluster lies in one fold as a whole."""
    fold_of: dict[int, int] = {}
    for attack, similar in ((True, SIMILAR_ATTACKS), (False, SIMILAR_HARMLESS)):
        rows = [i for i, text in enumerate(texts) if text.attack == attack]
        groups = clusters([texts[i].text for i in rows], similar)
        names = sorted(set(groups))
        random.Random(seed).shuffle(names)  # noqa: S311 - sampling, not secrecy
        of_group = {name: i % count for i, name in enumerate(names)}
        fold_of.update((row, of_group[group]) for row, group in zip(rows, groups, strict=True))
    return [fold_of[i] for i in range(len(texts))]


def _sketch(text: str) -> list[int]:
    words = words_of(text)
    size = min(SHINGLE_WORDS, max(len(words), 1))
    spans = (b" ".join(words[i : i + size]) for i in range(len(words) - size + 1))
    return sorted(set(map(crc32, spans)))[:_SKETCH]


def _read(path: Path) -> Iterator[str]:
    decode = msgspec.json.Decoder(_Row).decode
    for line in path.read_bytes().splitlines():
        if line:
            row = decode(line)
            yield row.prompt or row.text


def _texts(texts: Iterable[str], attack: bool, source: str) -> list[Text]:
    return [Text(text, attack, source) for text in texts]
