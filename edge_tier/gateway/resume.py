"""How an answer goes on that a worker broke off. Pure: all rules are here (docs/adr/0027).

What may go on: one streamed choice of a chat or completion whose prompt went to a worker as token
ids, and whose journal is complete; a worker of the very same revision goes on with it::

    the event with the finish reason is out, or as many tokens as were asked for
                               ──► the edge writes what is missing of the end    (completed)
    greedy, no penalties, every id known ──► after the tokens so far             (continued)
    greedy, or with a seed     ──► generated again, compared, the rest given on  (replayed)
    other tokens came, or sampled without a seed
                               ──► after the tokens so far, and a comment says   (anew)
    nothing of these           ──► an error event, and no ``[DONE]``

Penalties count tokens, and engines differ in whether those of a prompt count; so does what a seed
has given so far. Only the generation of the whole again leaves an engine in the same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.relay import StreamScan
from edge_tier.gateway.request import Prompt, Sampling
from wire.errors import HeadwaterError
from wire.journal import REPLAY_DIFFERS
from wire.sse import comment

Manner = Literal["continued", "replayed", "anew"]
ANEW = comment("continued on another worker; sampled anew")
"""What a client is told whose answer is not the one that the first worker would have given."""
_REFUSED = frozenset({"request_invalid", "context_length_exceeded", "unsupported_parameter"})
"""Errors of a worker that another one would repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeConfig:
    """How far the edge goes for an answer that a worker broke off."""

    max_resumes: int = 2
    """Of one answer; 0: a broken answer is an error event at once."""
    journal_bytes: int = 128 * 1024
    """What is remembered of one answer's tokens, about five bytes each; an answer over it does not
    go on."""
    timeout_s: float = 30.0
    """How long a client may wait for another worker to go on."""
    retry_s: float = 0.25
    """Until that, how often those that were too busy are asked again: whoever takes over from a
    worker gets all of its answers at once."""

    def __post_init__(self) -> None:
        if self.max_resumes < 0 or self.journal_bytes < 1:
            raise ValueError("resume: max_resumes from 0, journal_bytes from 1")
        if self.timeout_s <= 0 or self.retry_s <= 0:
            raise ValueError("resume: timeout_s and retry_s are times above 0, in seconds")


def may_resume(prompt: Prompt, config: ResumeConfig) -> bool:
    """Whether a worker is to be asked for a journal."""
    return (
        config.max_resumes > 0
        and prompt.stream
        and prompt.n == 1
        and prompt.kind != "embedding"
        and not prompt.engine_renders
    )


def another_may(failure: HeadwaterError, scan: StreamScan) -> bool:
    """Whether another worker might do better: this one is gone, silent, or its engine is."""
    if scan.failed:
        return scan.fault not in _REFUSED
    return isinstance(failure, UpstreamError)


def workers_fault(scan: StreamScan) -> bool:
    """Whether a stream that broke did so by its worker's fault, and not by the request's."""
    return not scan.failed or scan.fault not in _REFUSED


def manners(sampling: Sampling, *, sure: bool, differed: bool) -> tuple[Manner, ...]:
    """The ways to go on, the best first.

    Args:
        sure: every id is known.
        differed: generated again, it was another answer.
    """
    greedy = sampling.temperature == 0
    if greedy and sure and not (sampling.presence_penalty or sampling.frequency_penalty):
        return ("continued",)
    if (greedy or sampling.seed is not None) and not differed:
        return ("replayed", "anew")
    return ("anew",)


def differs(scan: StreamScan) -> bool:
    """Whether a worker said in its stream that other tokens came."""
    return scan.fault == REPLAY_DIFFERS
