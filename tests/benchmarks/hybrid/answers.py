"""What the small and the large demo model answer to the same questions, and what gate and verifier
make of it: the recorded tokens are replayed as streams through the edge's own code."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from edge_tier.gateway.gate import Gate, Gates
from edge_tier.gateway.request import Message, Prompt
from edge_tier.gateway.verify import (
    ClientAnswer,
    DraftCollector,
    Outcome,
    Spent,
    VerifyConfig,
    verifier,
)
from infra.demo_models.engine import Answer
from infra.training.fit_gate import ask
from infra.training.gate_questions import Question, questions
from wire.chat import DONE, ChunkEncoder, TokenLogprob
from wire.chat_answer import AnswerAccumulator
from wire.sse import SSEDecoder

LOCAL, CLOUD = "edge-small-r1", "cloud-large"
_ENCODER = ChunkEncoder("chatcmpl-bench", "bench", 0)


@dataclass(frozen=True, slots=True)
class Pair:
    """A question with both answers."""

    question: Question
    local: Answer
    cloud: Answer

    def right(self, text: str) -> bool:
        """Whether ``text`` is the answer."""
        return text.strip() == self.question.reply

    @property
    def prompt(self) -> Prompt:
        """The question as a request."""
        system = () if self.question.system is None else (Message("system", self.question.system),)
        messages = (*system, Message("user", self.question.text))
        return Prompt(kind="chat", model="auto", messages=messages, stream=True)


@dataclass(frozen=True, slots=True)
class Verified:
    """What draft and verify made of a question."""

    text: str
    outcome: Outcome
    spent: Spent


def collect(each: int, seed: int) -> list[Pair]:
    """Ask both models at the same time, each in a process and, in it, one question after the
    other: greedy answers are then the same in every run."""
    asked = questions(LOCAL, "judge", each, seed)
    with ThreadPoolExecutor(2) as pool:
        local, cloud = pool.map(ask, (LOCAL, CLOUD), (asked, asked))
    return [Pair(*row) for row in zip(asked, local.answers, cloud.answers, strict=True)]


def gated(pair: Pair, gates: Gates) -> tuple[Gate, str]:
    """The gate after the question's local stream, and the text that the client gets."""
    gate = gates.gate("edge-small")
    passed = b""
    for event in _stream(pair.local, gates.tokens("edge-small")):
        passed += gate.feed(event)
        if gate.decision == "escalate":
            return gate, pair.cloud.text
    return gate, _text(passed + gate.end())


def verified(pair: Pair, config: VerifyConfig) -> Verified:
    """What the client gets of the question by draft and verify, and what it costs."""
    collector = DraftCollector()
    for event in _stream(pair.local, 0):
        collector.feed(event)
    draft = collector.draft()
    checking = verifier(pair.prompt, draft, ClientAnswer(_ENCODER), config)
    told = b""
    for event in _stream(pair.cloud, 0):
        told += checking.feed(event)
        if checking.wants_cloud_stop:
            break
    told += checking.end()
    return Verified(_text(told), checking.outcome, checking.spent)


def _stream(answer: Answer, logprobs_first: int) -> Iterator[bytes]:
    """The events of an answer as our worker sends them."""
    yield _ENCODER.role()
    for index, (token, logprob) in enumerate(zip(answer.tokens, answer.logprobs, strict=True)):
        shown = [TokenLogprob(token, logprob)] if index < logprobs_first else None
        yield _ENCODER.delta(token, shown)
    yield _ENCODER.finish(answer.finish_reason) + DONE


def _text(events: bytes) -> str:
    accumulator = AnswerAccumulator("", "", 0)
    for event in SSEDecoder().feed(events):
        accumulator.feed(event.data)
    text: str = msgspec.json.decode(accumulator.body())["choices"][0]["message"]["content"]
    return text
