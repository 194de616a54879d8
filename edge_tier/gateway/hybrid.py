"""Two models for one answer: the confidence gate, and draft and verify, driven over real backends.

Each function opens what the plan's mode asks for and returns where the client's answer comes from;
the rules of both are in ``gate`` and ``verify``. Nothing has been sent to the client yet when they
return, so whatever failed until then has cost it nothing but time.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from edge_tier.gateway.backends import Backends
from edge_tier.gateway.calibration import shipped
from edge_tier.gateway.errors import NoBackendError
from edge_tier.gateway.gate import Gate, GateConfig, Gates
from edge_tier.gateway.opened import Opened, Wanted
from edge_tier.gateway.request import Prompt, Step
from edge_tier.gateway.verify import (
    ClientAnswer,
    Draft,
    DraftCollector,
    Verifier,
    VerifyConfig,
    cloud_prompt,
    verifier,
)
from wire.chat import ChunkEncoder, Kind
from wire.errors import HeadwaterError


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridConfig:
    """How two models make one answer."""

    gate: GateConfig = field(default_factory=GateConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)


@dataclass(slots=True)
class Begun:
    """Where an answer comes from."""

    opened: Opened
    stream: bool
    """Whether the backend's answer is a stream of events; if not it is a whole answer."""
    first: bytes = b""
    """Events that have arrived already."""
    feed: Callable[[bytes], bytes] | None = None
    """Every further piece goes through this."""
    end: Callable[[], bytes] | None = None
    """Gives the last events, when the backend's stream is over."""
    enough: Callable[[], bool] = lambda: False
    """Whether no more of the backend's stream is needed."""
    over: bool = False
    """There is no more than ``first``."""
    outcome: Callable[[], str] = lambda: ""
    """How the gate or the verification ended; empty where there was none."""
    confidence: float | None = None
    local_tokens: int = 0
    """Spent on a local answer that was not used."""


class Hybrid:
    """Opens plans of every mode."""

    def __init__(self, backends: Backends, config: HybridConfig) -> None:
        self.backends = backends
        self._config = config
        self._gates = Gates(config.gate, shipped())

    async def open(self, wanted: Wanted) -> Begun:
        """Open a backend as the plan's mode says.

        Raises:
            HeadwaterError: as ``Backends.open``.
        """
        plan, prompt = wanted.plan, wanted.prompt
        local = tuple(step for step in plan.steps if step.target == "worker")
        cloud = tuple(step for step in plan.steps if step.target == "cloud")
        both = local and cloud and prompt.n == 1 and not prompt.engine_renders
        if plan.mode == "direct" or not both or prompt.kind == "embedding":
            return await self._direct(wanted, plan.steps)
        if plan.mode == "gate":
            return await self._gated(wanted, local, cloud)
        return await self._verified(wanted, local, cloud)

    async def _direct(self, wanted: Wanted, steps: tuple[Step, ...]) -> Begun:
        opened = await self.backends.open(wanted, steps)
        if not wanted.prompt.stream:
            return Begun(opened, stream=False)
        return Begun(opened, stream=True, first=opened.response.take())

    async def _gated(
        self, wanted: Wanted, local: tuple[Step, ...], cloud: tuple[Step, ...]
    ) -> Begun:
        """A local answer that passes the gate, else the cloud's."""
        asked_logprobs = wanted.prompt.sampling.logprobs
        model = local[0].model
        first_tokens = 0 if asked_logprobs else self._gates.tokens(model)
        try:
            opened = await self.backends.open(
                dataclasses.replace(_streamed(wanted), logprobs_first=first_tokens), local
            )
        except NoBackendError:
            return await self._direct(wanted, cloud)
        try:
            gate = self._gates.gate(
                model, keep_logprobs=asked_logprobs, first_only=not asked_logprobs
            )
            released = await _look(opened, gate)
            if gate.decision == "pass":
                return _passed(opened, gate, released, "passed")
            return await self._escalated(wanted, opened, gate, cloud)
        except BaseException:
            opened.close()
            raise

    async def _escalated(
        self, wanted: Wanted, opened: Opened, gate: Gate, cloud: tuple[Step, ...]
    ) -> Begun:
        """The cloud's answer; and where the cloud has none, the local one after all."""
        try:
            begun = await self._direct(wanted, cloud)
        except HeadwaterError:
            held = None if opened.response.failed else gate.overrule()
            if held is None:
                raise
            return _passed(opened, gate, held, "stood")
        opened.close()
        begun.outcome = lambda: "escalated"
        begun.confidence = gate.confidence
        begun.local_tokens = gate.tokens
        return begun

    async def _verified(
        self, wanted: Wanted, local: tuple[Step, ...], cloud: tuple[Step, ...]
    ) -> Begun:
        """A local draft that the cloud accepts, corrects or replaces."""
        config = self._config.verify
        try:
            unjournaled = dataclasses.replace(_streamed(wanted), journal=None)
            drafting = await self.backends.open(unjournaled, local)
        except NoBackendError:
            return await self._direct(wanted, cloud)
        try:
            draft = await _drafted(drafting, config)
        finally:
            drafting.close()
        nonce = secrets.token_hex(8)
        question = cloud_prompt(await wanted.as_text(), draft, config, nonce)
        asked = dataclasses.replace(_streamed(wanted), as_text=_given(_streaming(question)))
        check = verifier(wanted.prompt, draft, _client(wanted, drafting.step.model), config)
        try:
            opened = await self.backends.open(asked, cloud)
        except HeadwaterError:
            if not draft.whole:
                raise
            return _checked(drafting, check, draft, over=True)
        return _checked(opened, check, draft)


async def _look(opened: Opened, gate: Gate) -> bytes:
    """Feed the gate until it has decided; what it released."""
    released, response = b"", opened.response
    try:
        while gate.decision == "wait":
            data = response.take()
            if data:
                released += gate.feed(data)
            elif response.ended or not await response.more():
                released += gate.end()
    except HeadwaterError:
        released += gate.end()
    return released


def _passed(opened: Opened, gate: Gate, first: bytes, outcome: str) -> Begun:
    begun = Begun(opened, stream=True, first=first, outcome=lambda: outcome)
    begun.confidence = gate.confidence
    if not gate.transparent:
        begun.feed, begun.end = gate.feed, gate.end
    return begun


async def _drafted(opened: Opened, config: VerifyConfig) -> Draft:
    """The whole local answer, or one that is of no use."""
    collector, response = DraftCollector(max_chars=config.max_draft_chars), opened.response
    try:
        while not collector.ended:
            data = response.take()
            if data:
                collector.feed(data)
            elif response.ended or not await response.more():
                break
    except HeadwaterError:
        return Draft()
    return collector.draft()


def _checked(opened: Opened, check: Verifier, draft: Draft, *, over: bool = False) -> Begun:
    """The client's answer as the verifier writes it."""
    first = check.end() if over else check.feed(opened.response.take())
    return Begun(
        opened,
        stream=True,
        first=first,
        feed=check.feed,
        end=check.end,
        enough=lambda: check.wants_cloud_stop,
        over=over,
        outcome=lambda: check.outcome,
        local_tokens=draft.tokens,
    )


def _client(wanted: Wanted, model: str) -> ClientAnswer:
    """Usage is always told; the relay's scan keeps it from who did not ask."""
    kind: Kind = "completion" if wanted.prompt.kind == "completion" else "chat"
    prefix = "cmpl-" if kind == "completion" else "chatcmpl-"
    encoder = ChunkEncoder(prefix + secrets.token_hex(12), model, int(time.time()), kind)
    return ClientAnswer(encoder, include_usage=True, prompt_tokens=len(wanted.tokens))


def _streamed(wanted: Wanted) -> Wanted:
    """The same, asked for as a stream."""

    async def as_text() -> Prompt:
        return _streaming(await wanted.as_text())

    return dataclasses.replace(wanted, prompt=_streaming(wanted.prompt), as_text=as_text)


def _given(prompt: Prompt) -> Callable[[], Awaitable[Prompt]]:
    async def give() -> Prompt:
        return prompt

    return give


def _streaming(prompt: Prompt) -> Prompt:
    return prompt if prompt.stream else msgspec.structs.replace(prompt, stream=True)
