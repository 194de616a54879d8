"""The golden file of a revision: what the model answered on the publisher's machine.

``golden.json`` is a file of the revision like any other, so its hash stands in the manifest and the
publisher's signature covers it; readers that do not know it pass it by. It holds a few prompts as
token ids, and for every variant of the weights (quantizations answer differently) the tokens that
the model chose greedily, each with its log-probability. A worker asks its engine the same before a
revision may serve, and :func:`compare` says whether this is the same model.

The same file on another machine gives slightly other numbers (threads, batch sizes, a GPU's order
of sums), so two rules leave room for what is honest:

- a log-probability may differ by ``max_nats``, and by ``mean_nats`` on average;
- another token may be chosen only where the expected one was as good as tied: it is among the
  alternatives, within ``max_nats`` of the chosen one and of its own expected value. What follows a
  tie follows another text, and is not compared.

What was measured, and why the defaults are what they are, stands in
``docs/adr/0025-a-revision-brings-its-own-questions.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from wire.errors import HeadwaterError, NameInvalidError
from wire.paths import variant_name

FORMAT = "headwater.golden/1"
GOLDEN_PATH = "golden.json"
MAX_GOLDEN_BYTES = 1024 * 1024
MAX_PROMPTS = 32
MAX_PROMPT_TOKENS = 1_024
MAX_ANSWER_TOKENS = 64
MAX_TOKEN_ID = 2**31 - 1
MAX_TOLERANCE_NATS = 10.0
MAX_NATS = 0.5
MEAN_NATS = 0.1
ALTERNATIVES = 8
"""How many of the likeliest tokens an engine is asked for at each place."""
_ROUNDING = 1e-3
"""A log-probability may be over 0 by so much."""
_FARTHEST_NATS = 1e6
"""No log-probability that was chosen greedily is so low, nor any difference counted as larger."""


class GoldenInvalidError(HeadwaterError):
    """A golden file that is malformed or out of bounds."""

    status = 422
    code = "golden_invalid"


class GoldenPrompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt: ids for engines that take them, and the text that they were made of for others."""

    ids: tuple[int, ...]
    text: str


class GoldenToken(msgspec.Struct, frozen=True, array_like=True):
    """A token that was chosen: its id, its bytes (none for a control token), and its natural-log
    probability."""

    id: int
    text: bytes
    logprob: float


Answer = tuple[GoldenToken, ...]


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """A golden file. Build it with :func:`build`, read it with :func:`decode`."""

    format: str
    prompts: tuple[GoldenPrompt, ...]
    answers: dict[str, tuple[Answer, ...]]
    """Variant (empty where the revision has none) → its answer to every prompt. Single answers may
    be empty: then that prompt is not asked."""
    max_nats: float
    mean_nats: float

    def of_variant(self, variant: str) -> Expectations | None:
        """What this variant must answer; None where the file does not say."""
        answers = self.answers.get(variant)
        if answers is None:
            return None
        return Expectations(self.prompts, answers, self.max_nats, self.mean_nats)


class Expectations(msgspec.Struct, frozen=True):
    """What one variant must answer, and how exactly."""

    prompts: tuple[GoldenPrompt, ...]
    answers: tuple[Answer, ...]
    max_nats: float
    mean_nats: float


class SeenToken(msgspec.Struct, frozen=True):
    """A token that an engine chose, with the log-probabilities of the likeliest at its place by
    id; the chosen one need not be among them."""

    id: int
    logprob: float
    likeliest: Mapping[int, float]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison found; ``problem`` is empty where the engine passed."""

    problem: str = ""
    tokens: int = 0
    """Compared, over all prompts."""
    ties: int = 0
    max_nats: float = 0.0
    """The largest difference of a log-probability: at least this, where the expected token was
    not among the likeliest."""
    mean_nats: float = 0.0


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Golden)


def build(
    prompts: tuple[GoldenPrompt, ...],
    answers: Mapping[str, tuple[Answer, ...]],
    *,
    max_nats: float = MAX_NATS,
    mean_nats: float = MEAN_NATS,
) -> Golden:
    """A checked golden file.

    Raises:
        GoldenInvalidError: something is out of bounds.
    """
    golden = Golden(
        format=FORMAT,
        prompts=prompts,
        answers=dict(answers),
        max_nats=max_nats,
        mean_nats=mean_nats,
    )
    _check(golden)
    return golden


def encode(golden: Golden) -> bytes:
    """The bytes of ``golden.json``; the same content gives the same bytes."""
    return _encoder.encode(golden)


def decode(data: bytes) -> Golden:
    """Read ``golden.json``.

    Raises:
        GoldenInvalidError: too large, malformed, of another format, or out of bounds.
    """
    if len(data) > MAX_GOLDEN_BYTES:
        raise GoldenInvalidError(f"{GOLDEN_PATH} of {len(data)} B is over {MAX_GOLDEN_BYTES} B")
    try:
        golden = _decoder.decode(data)
        _check(golden)
    except (ValueError, RecursionError, NameInvalidError) as error:
        raise GoldenInvalidError(f"{GOLDEN_PATH} is malformed: {error}") from error
    return golden


def compare(expected: Expectations, seen: Sequence[Sequence[SeenToken]]) -> Verdict:
    """Whether an engine that answered ``seen``, one answer for each prompt, has this model."""
    if len(seen) != len(expected.answers):
        return Verdict(problem=f"{len(seen)} answers to {len(expected.answers)} prompts")
    found = _Found()
    # All of them, also after a failure: how far they diverge is told.
    for number, (answer, tokens) in enumerate(zip(expected.answers, seen, strict=True)):
        if problem := _follow(answer, tokens, expected.max_nats, found):
            found.problems.append(f"prompt {number}, {problem}")
    mean = found.mean_nats
    if mean > expected.mean_nats and not found.problems:
        found.problems.append(
            f"log-probabilities differ by {mean:.3f} nats on average, over {expected.mean_nats:g}"
        )
    return Verdict(
        problem=found.problems[0] if found.problems else "",
        tokens=len(found.differences),
        ties=found.ties,
        max_nats=max(found.differences, default=0.0),
        mean_nats=mean,
    )


def compare_texts(expected: Expectations, texts: Sequence[str]) -> Verdict:
    """The weaker check, for an engine that tells neither ids nor log-probabilities: where a text
    differs, a tie cannot be told from another model, so only most of the texts must be the
    expected ones. ``texts`` are at most as long as the answers, in tokens."""
    wanted = [
        b"".join(token.text for token in answer).decode("utf-8", "replace")
        for answer in expected.answers
    ]
    differing = [
        number
        for number, (want, text) in enumerate(zip(wanted, texts, strict=True))
        if want.rstrip("\ufffd").strip() != text.rstrip("\ufffd").strip()
    ]
    tokens = sum(map(len, expected.answers))
    if 2 * len(differing) >= len(wanted):
        numbers = ", ".join(map(str, differing))
        problem = f"{len(differing)} of {len(wanted)} texts differ (prompts {numbers})"
        return Verdict(problem=problem, tokens=tokens)
    return Verdict(tokens=tokens, ties=len(differing))


class _Found:
    """What was compared so far."""

    def __init__(self) -> None:
        self.differences: list[float] = []
        self.problems: list[str] = []
        self.ties = 0

    @property
    def mean_nats(self) -> float:
        return math.fsum(self.differences) / max(1, len(self.differences))


def _follow(answer: Answer, seen: Sequence[SeenToken], limit: float, found: _Found) -> str:
    """Compare one answer to its end or to its first tie; returns what is wrong with it."""
    for place, want in enumerate(answer):
        if place >= len(seen):
            return f"token {place}: the answer ended, expected {want.id}"
        token = seen[place]
        known = dict(token.likeliest) | {token.id: token.logprob}
        logprob = known.get(want.id)
        if logprob is None:
            least = min(known.values())
            found.differences.append(min(max(0.0, want.logprob - least), _FARTHEST_NATS))
            return f"token {place}: {token.id} instead of {want.id}, which was not near"
        difference = abs(logprob - want.logprob)
        if not difference <= _FARTHEST_NATS:  # or it is no number
            difference = _FARTHEST_NATS
        found.differences.append(difference)
        if difference > limit:
            return (
                f"token {place}: log-probability {logprob:.3f} instead of {want.logprob:.3f}, "
                f"over {limit:g} nats apart"
            )
        if token.id != want.id:
            if token.logprob - logprob > limit:
                return f"token {place}: {token.id} instead of {want.id}, which was no tie"
            found.ties += 1
            break
    return ""


def _check(golden: Golden) -> None:
    if golden.format != FORMAT:
        raise GoldenInvalidError(f"golden format {golden.format[:80]!r} is not {FORMAT!r}")
    if not 0 < len(golden.prompts) <= MAX_PROMPTS:
        raise GoldenInvalidError(f"{len(golden.prompts)} golden prompts; 1..{MAX_PROMPTS}")
    for prompt in golden.prompts:
        if not 0 < len(prompt.ids) <= MAX_PROMPT_TOKENS:
            raise GoldenInvalidError(
                f"a golden prompt has {len(prompt.ids)} tokens; 1..{MAX_PROMPT_TOKENS}"
            )
        for id_ in prompt.ids:
            _check_id(id_)
    for tolerance in (golden.max_nats, golden.mean_nats):
        if not 0 < tolerance <= MAX_TOLERANCE_NATS:
            raise GoldenInvalidError(f"a tolerance of {tolerance} nats; up to {MAX_TOLERANCE_NATS}")
    for variant, answers in golden.answers.items():
        if variant:
            variant_name(variant)
        _check_answers(variant or "the model", answers, len(golden.prompts))


def _check_answers(name: str, answers: tuple[Answer, ...], prompts: int) -> None:
    if len(answers) != prompts:
        raise GoldenInvalidError(f"{name} has {len(answers)} golden answers to {prompts} prompts")
    if not any(answers):
        raise GoldenInvalidError(f"{name} has no golden answer that is not empty")
    for answer in answers:
        if len(answer) > MAX_ANSWER_TOKENS:
            raise GoldenInvalidError(
                f"{name}: a golden answer has {len(answer)} tokens; up to {MAX_ANSWER_TOKENS}"
            )
        for token in answer:
            _check_id(token.id)
            if not -_FARTHEST_NATS <= token.logprob <= _ROUNDING:
                raise GoldenInvalidError(f"{name}: a log-probability is {token.logprob}")


def _check_id(id_: int) -> None:
    if not 0 <= id_ <= MAX_TOKEN_ID:
        raise GoldenInvalidError(f"token id {id_} is none")
