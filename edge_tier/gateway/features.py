"""Cheap features of a prompt, the same for training and serving.

*Dense* features have names: sizes, and how often words and signs of a kind occur. *Hashed* features
are word uni- and bigrams in buckets (feature hashing, Weinberger et al. 2009) by CRC-32, which is
stable over processes and machines. Only a bounded part of a long text is read.
"""

from __future__ import annotations

import re
from math import log1p
from typing import NamedTuple
from zlib import crc32

BUCKETS = 4_096
"""A power of two."""
MAX_HEAD_CHARS = 3_000
MAX_TAIL_CHARS = 1_000
MAX_TOKENS = 500

_TOKEN = re.compile(rb"[a-z]+(?:'[a-z]+)?|[0-9]+(?:[.,][0-9]+)*|[\x80-\xff]+|[^\w\s]")
_OPTION = re.compile(r"^\(?[A-H][.)] .*$", re.MULTILINE)
_ANSWER_CUE = re.compile(r"\s*Answer:\s*\Z")
_PAIRED = 0x9E3779B9
_HASHED_SUM = 8
_USUAL_LENGTH = 4.7
_USUAL_WORDS = 4

_LEXICON = {
    "sentences": ". ! ?",
    "math": "+ - * / = ^ < > ≤ ≥ ≠ ≈ ∑ ∏ ∫ √ ∞ π × ÷ ± ∈ ∀ ∃ → ⊃ ∨ ∧ ≡ ~ | \\ ° %",
    "code": "` { } ; ( ) [ ] # def int void import return const null select python java "
    "javascript typescript rust sql regex go c function code program",
    "fact_words": "what what's who whom whose when where which name list capital color colour "
    "opposite spell currency translate hello hi thanks",
    "how_why": "how why",
    "reasoning": "analyse analyze analysis argue argument arguments assess assessment calculate "
    "cause causes compare comparison compute construct contrast critique critical debug decide "
    "deduce defend derive describe design determine discuss estimate evaluate evaluation explain "
    "explanation explore formulate implement infer integrate interpret investigate justify "
    "optimise optimize outline plan propose proof prove reason reasoning refactor resolve show "
    "simulate solve strategy summarise summarize tradeoff tradeoffs weigh write",
    "steps": "step steps detail detailed depth thorough thoroughly carefully first then next "
    "finally each every both",
    "conditions": "if suppose assume assuming given let unless whether would could should might "
    "may when provided",
    "negations": "not except least never none neither nor false cannot no without",
    "connectives": "because therefore however although though thus hence while whereas since so "
    "consequently implications implies",
    "comparisons": "more less most best better worse than greater between difference differences "
    "differ versus vs advantages disadvantages",
    "quantities": "acceleration angle area average charge circuit coefficient constant current "
    "density derivative distance energy equation force formula frequency gradient graph integral "
    "linear magnitude mass matrix mean median momentum percent polynomial power pressure "
    "probability radius ratio resistance speed sum temperature variance vector velocity voltage "
    "volume wavelength weight",
    "economics": "accounting assets balance bank bonds budget cash cost costs curve debt deficit "
    "demand depreciation dividend earnings equity expenses exports fiscal gdp income inflation "
    "interest inventory investment loan marginal market monetary monopoly output price prices "
    "profit rate rates revenue shares supply tariff tax taxes unemployment wage wages",
    "law": "agreement amendment appeal attorney buyer claim clause constitution constitutional "
    "contract convicted court crime damages deed defendant easement evidence guilty judge "
    "jurisdiction jury landlord lawsuit legal liability liable negligence plaintiff property "
    "seller statute sued suit tenant testify trial witness",
    "ethics": "immoral moral morally morality ethical ethically unethical wrong permissible",
    "logic": "assumption axiom conclusion consistent contradiction contingent counterexample "
    "deduction equivalent fallacy iff invalid lemma logically predicate premise premises "
    "proposition set subset tautology theorem true truth valid",
    "computing": "algorithm array binary bit bits boolean byte bytes compiler data database input "
    "integer latency loop memory network neural node object pointer procedure processor query "
    "queue recursive server sort stack string thread training tree variable",
    "humanities": "ancient art beliefs bible buddhist century christian church civilization "
    "cultural culture emotional empire god historical history islam jewish king military nation "
    "nations political president religion religious revolution social society soviet theory "
    "tradition war women world",
}
_SIGNS: dict[bytes, tuple[int, ...]] = {}
for _index, _words in enumerate(_LEXICON.values()):
    for _word in _words.split():
        _SIGNS[_word.encode()] = (*_SIGNS.get(_word.encode(), ()), _index)

DENSE = ("words", "word_length", "numbers", *_LEXICON, "quoted_passage", "several_cases", "options")
"""Names of the dense features, in order."""


class Features(NamedTuple):
    """``dense`` in the order of ``DENSE``; ``hashed`` are buckets, each once.

    Each of the buckets has the value ``hashed_value``, so that the wording of a short question
    counts as much as that of a long one.
    """

    dense: list[float]
    hashed: list[int]
    hashed_value: float


def extract(text: str) -> Features:
    """The features of a text. Takes bounded time, whatever its length."""
    if len(text) > MAX_HEAD_CHARS + MAX_TAIL_CHARS:
        text = f"{text[:MAX_HEAD_CHARS]}\n{text[-MAX_TAIL_CHARS:]}"
    options = 0
    if "\nA" in text or "\n(A" in text:
        text, options = _OPTION.subn("", _ANSWER_CUE.sub("", text))
    lower = text.lower()
    tokens = _TOKEN.findall(lower.encode("utf-8", "replace"))[:MAX_TOKENS]
    lengths = [len(token) for token in tokens if 96 < token[0] < 123]
    counts = [0] * len(_LEXICON)
    for signs in filter(None, map(_SIGNS.get, tokens)):
        for index in signs:
            counts[index] += 1
    dense = [
        log1p(len(lengths)),
        # Drawn towards the usual length, so that one long word says little.
        (sum(lengths) + _USUAL_LENGTH * _USUAL_WORDS) / (len(lengths) + _USUAL_WORDS),
        log1p(len([token for token in tokens if 47 < token[0] < 58])),
        *map(log1p, counts),
        float("following information" in lower or "according to the" in lower),
        log1p(lower.count("statement ") + lower.count("scenario ") + lower.count("case ")),
        float(options > 1),
    ]
    hashed = _buckets(tokens)
    return Features(dense, hashed, _HASHED_SUM / max(len(hashed), _HASHED_SUM))


def _buckets(tokens: list[bytes]) -> list[int]:
    single = list(map(crc32, tokens))
    paired = [crc32(token, left ^ _PAIRED) for left, token in zip(single, tokens[1:], strict=False)]
    return list({value & (BUCKETS - 1) for value in (*single, *paired)})
