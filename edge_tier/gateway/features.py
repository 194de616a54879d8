"""Cheap features of a prompt, the same for training and serving.

*Dense* features have names: how often words and signs of a kind occur, and how alike the options of
a multiple choice are. *Hashed* features are word uni- and bigrams in buckets (feature hashing,
Weinberger et al. 2009) by CRC-32, which is stable over processes and machines. Only a bounded part
of a long text is read. What a word says is worked out once and kept, so that most of a prompt is
looked up by C loops.
"""

from __future__ import annotations

import re
from itertools import chain
from math import log1p
from typing import NamedTuple
from zlib import crc32

from edge_tier.gateway.options import OPTIONS, compared, parted

BUCKETS = 4_096
"""A power of two."""
MAX_HEAD_CHARS = 1_300
MAX_TAIL_CHARS = 500
MAX_COUNT = 2_048
"""No count is higher."""

_MASK = BUCKETS - 1
_TOKEN = re.compile(rb"[a-z]+(?:'[a-z]+)?|[0-9]+(?:[.,][0-9]+)*|[\x80-\xff]+|[^\w\s]")
_PAIRED = 0x9E3779B9
_HASHED_SUM = 8
_USUAL_LENGTH = 4.7
_USUAL_WORDS = 4
_MAX_KEPT_CHUNKS = 32_768
_MAX_KEPT_BYTES = 40

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
    "symbols": "b c d e f g h j k l m n o p q r s t u v w x y z",
    "terms": "called known refers defined definition term example",
    "humanities": "ancient art beliefs bible buddhist century christian church civilization "
    "cultural culture emotional empire god historical history islam jewish king military nation "
    "nations political president religion religious revolution social society soviet theory "
    "tradition war women world",
}
_FIRST_SIGN = 2
"""Words and numbers come before the kinds of the lexicon."""
_SIGNS: dict[bytes, tuple[int, ...]] = {}
for _index, _words in enumerate(_LEXICON.values(), _FIRST_SIGN):
    for _word in _words.split():
        _SIGNS[_word.encode()] = (*_SIGNS.get(_word.encode(), ()), _index)

_LOGARITHMIC = ("words", "numbers", *_LEXICON, "several_cases")
_FLAGS = ("quoted_passage", "options")
COUNTS = (*_LOGARITHMIC, *_FLAGS, *OPTIONS)
"""Names of what is counted, in order."""
DENSE = (*COUNTS, "word_length")
"""Names of the dense features, in order."""


class Features(NamedTuple):
    """``counts`` in the order of ``COUNTS``, none above ``MAX_COUNT``; ``hashed`` are buckets.

    Each of the buckets has the value ``hashed_value``, so that the wording of a short question
    counts as much as that of a long one.
    """

    counts: list[int]
    word_length: float
    hashed: set[int]
    hashed_value: float

    @property
    def dense(self) -> list[float]:
        """The dense features in the order of ``DENSE``."""
        return [*map(value_of, COUNTS, self.counts), self.word_length]


class _Chunk(NamedTuple):
    """What a piece of text between white space says."""

    words: int
    letters: int
    signs: tuple[int, ...]
    buckets: tuple[int, ...]
    first: bytes
    """What the last token of the chunk before is paired with."""
    left: int
    """The hash of the last token as the left one of a pair."""


class Chunks(dict[bytes, _Chunk]):
    """Every chunk met, up to a bound, after which they are worked out anew."""

    def __missing__(self, text: bytes) -> _Chunk:
        chunk = _chunk(_TOKEN.findall(text))
        if len(text) <= _MAX_KEPT_BYTES:
            if len(self) >= _MAX_KEPT_CHUNKS:
                self.clear()
            self[text] = chunk
        return chunk


def value_of(name: str, count: int) -> float:
    """The value of a counted feature: a logarithm, so that the tenth word says less than the first.

    What options tell is counted in hundredths and one more, as 0 means that there are none.
    """
    if name in OPTIONS:
        return count / 100
    return float(count) if name in _FLAGS else log1p(count)


def extract(text: str, known: Chunks) -> Features:
    """The features of a text. Takes bounded time, whatever its length."""
    if len(text) > MAX_HEAD_CHARS + MAX_TAIL_CHARS:
        text = f"{text[:MAX_HEAD_CHARS]}\n{text[-MAX_TAIL_CHARS:]}"
    text, options = parted(text)
    lower = text.lower()
    chunks = list(map(known.__getitem__, lower.encode("utf-8", "replace").split()))
    counts = [0] * len(COUNTS)
    if not chunks:
        return Features(counts, _USUAL_LENGTH, set(), 1.0)
    words, letters, signs, buckets, firsts, lefts = zip(*chunks, strict=True)
    for sign in chain.from_iterable(signs):
        counts[sign] += 1
    counts[0] = total = sum(words)
    counts[-8] = lower.count("statement ") + lower.count("scenario ") + lower.count("case ")
    counts[-7] = "following information" in lower or "according to the" in lower
    if options:
        counts[-6] = 1
        counts[-5:] = [hundredths + 1 for hundredths in compared(options, len(lower))]
    hashed: set[int] = set()
    if not options:
        # The wording says what kind of request it is; a multiple choice is always of one kind.
        hashed.update(*buckets)
        hashed.update([pair & _MASK for pair in map(crc32, firsts[1:], lefts)])
    return Features(
        counts,
        # Drawn towards the usual length, so that one long word says little.
        (sum(letters) + _USUAL_LENGTH * _USUAL_WORDS) / (total + _USUAL_WORDS),
        hashed,
        _HASHED_SUM / max(len(hashed), _HASHED_SUM),
    )


def _chunk(tokens: list[bytes]) -> _Chunk:
    words = [token for token in tokens if 96 < token[0] < 123]
    numbers = sum(47 < token[0] < 58 for token in tokens)
    signs = chain.from_iterable(_SIGNS.get(token, ()) for token in tokens)
    single = list(map(crc32, tokens))
    lefts = [value ^ _PAIRED for value in single]
    paired = map(crc32, tokens[1:], lefts)
    return _Chunk(
        len(words),
        sum(map(len, words)),
        (*[1] * numbers, *signs),
        tuple({value & _MASK for value in (*single, *paired)}),
        tokens[0] if tokens else b"",
        lefts[-1] if tokens else _PAIRED,
    )
