"""What is asked of a backend, and the answer that one has begun to give."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from edge_tier.gateway.fleet import Member
from edge_tier.gateway.request import Plan, Prompt, Step, Tokens
from edge_tier.gateway.revision_counts import RevisionCounts
from edge_tier.gateway.tracing import Attempt, RequestTrace
from edge_tier.gateway.upstream_response import UpstreamResponse
from wire.journal import JournalWanted

_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of a backend."""

    plan: Plan
    prompt: Prompt
    as_text: Callable[[], Awaitable[Prompt]]
    """Gives the same for backends that render the template themselves."""
    tokens: Tokens
    max_tokens: int
    features: frozenset[str] = _NOTHING
    """What a worker's engine must be able to do."""
    logprobs_first: int = 0
    """Tokens whose log-probabilities a worker shall tell, for the confidence gate."""
    journal: JournalWanted | None = None
    """Asked of a worker that can go on with an answer, or have another one go on with its own."""
    caller: str = ""
    """The id of the caller's key: while a canary is tried on callers, it decides what they meet."""
    only: str = ""
    """The revision that a worker must serve; empty: any that the caller may meet."""
    avoid: frozenset[str] = _NOTHING
    """Workers that are not asked."""
    trace: RequestTrace | None = None
    """Told of every backend that is asked; None: there are no traces."""


@dataclass(slots=True)
class Opened:
    """A backend that has begun to answer. Close it, whatever happens."""

    step: Step
    response: UpstreamResponse
    member: Member | None
    revision: str
    worker: str
    at: float
    """When it began, by ``time.monotonic``."""
    fallbacks: int = 0
    hedged: bool = False
    prompt_ids: tuple[int, ...] = ()
    """The prompt as it was sent; empty: it was sent as text."""
    journaled: bool = False
    """Whether the events are to begin with the ids of their tokens."""
    broke: bool = False
    """It broke off, or said in its answer that it had failed."""
    counts: RevisionCounts | None = None
    attempt: Attempt | None = None
    """In the request's trace."""
    _closed: bool = False

    def close(self, output_tokens: int = 0) -> None:
        """Stop the generation where it still runs; may be called twice.

        Args:
            output_tokens: what the backend gave, if it gave all it had to.
        """
        if self.member is not None and not self._closed:
            self.member.in_flight -= 1
            if output_tokens:
                self.member.measured(output_tokens, time.monotonic() - self.at)
            self._count()
        if self.attempt is not None:
            self.attempt.end("broken" if self.broke or self.response.failed else "")
        self.response.close()
        self._closed = True

    def _count(self) -> None:
        """How it ended; one that the client left, or that was not needed, for neither side."""
        if self.counts is None:
            return
        if self.broke or self.response.failed:
            self.counts.failed(self.step.model, self.revision)
        elif self.response.ended:
            self.counts.answered(self.step.model, self.revision)


class StepFailedError(Exception):
    """A step of a plan gave no answer; the next one may.

    Args:
        worker: which one it was; empty: none was asked.
    """

    def __init__(self, message: str, worker: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.worker = worker
