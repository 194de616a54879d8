"""edge_tier.gateway.hybrid over real connections to backends that a test scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from edge_tier.gateway.errors import NoBackendError
from edge_tier.gateway.gate import GateConfig
from edge_tier.gateway.hybrid import Begun, Hybrid, HybridConfig
from edge_tier.gateway.opened import Wanted
from edge_tier.gateway.request import Message, Mode, Plan, Prompt, Step, Tokens
from edge_tier.gateway.verify import VerifyConfig
from tests.fakes.gateway import CLOUD_MODEL, MODEL, Backend, Gateway, gateway_in
from tests.fakes.waiting import until
from wire.chat import DONE, ChunkEncoder, TokenLogprob, decode_chunk
from wire.sse import SSEDecoder

PROMPT = Prompt(kind="chat", model="auto", messages=(Message("user", "hi"),), stream=True)
CONFIG = HybridConfig(
    gate=GateConfig(floor_logprob=-0.5, floor_tokens=2), verify=VerifyConfig(accept_chars=4)
)
STEPS = (Step(target="worker", model=MODEL), Step(target="cloud", model=CLOUD_MODEL))


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_in(tmp_path) as made:
        yield made


@pytest.fixture
def hybrid(gateway: Gateway) -> Hybrid:
    return Hybrid(gateway.backends, CONFIG)


def wanted(gateway: Gateway, mode: Mode, prompt: Prompt = PROMPT) -> Wanted:

    async def as_text() -> Prompt:
        return prompt

    return Wanted(
        plan=Plan(steps=STEPS, reasons=(), mode=mode),
        prompt=prompt,
        as_text=as_text,
        tokens=Tokens(model=MODEL, revision=gateway.revision, ids=(1, 2)),
        max_tokens=20,
    )


def says(backend: Backend, words: Sequence[str], logprob: float | None = None) -> None:
    """From now on the backend streams these words, each with a log-probability."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await backend.begin(request)
        encoder = ChunkEncoder("chatcmpl-1", backend.name, 1)
        await response.write(encoder.role())
        for word in words:
            told = [TokenLogprob(word, logprob)] if logprob is not None else None
            await response.write(encoder.delta(word, told))
        await response.write(encoder.finish("stop") + encoder.usage(5, len(words)) + DONE)
        return response

    backend.answer = answer


async def client_text(begun: Begun) -> tuple[str, str]:
    """What a client would read of an answer, and how it ends: ``done``, or the error's code."""
    got: list[bytes] = [begun.first]

    def sink(data: bytes) -> None:
        got.append(begun.feed(data) if begun.feed is not None else data)
        if begun.enough():
            begun.opened.response.cut()

    if not begun.over and not begun.enough():
        await begun.opened.response.pump(sink)
    got.append(begun.end() if begun.end is not None else b"")
    begun.opened.close()
    text, ending = "", ""
    for event in SSEDecoder().feed(b"".join(got)):
        if event.data == "[DONE]":
            ending = "done"
            continue
        chunk = decode_chunk(event.data)
        assert all(choice.logprobs is None for choice in chunk.choices)
        text += "".join(c.delta.content or "" for c in chunk.choices if c.delta is not None)
    return text, ending


async def test_a_confident_local_answer_passes_without_its_logprobs(
    gateway: Gateway, hybrid: Hybrid
) -> None:
    says(gateway.worker, ["Paris", " is", " it"], -0.01)
    begun = await hybrid.open(wanted(gateway, "gate"))
    assert begun.opened.step.target == "worker"
    assert begun.outcome() == "passed"
    assert await client_text(begun) == ("Paris is it", "done")
    assert gateway.worker.bodies[0]["logprobs_first"] > 0
    assert gateway.cloud.bodies == []


async def test_a_doubtful_one_is_cancelled_and_the_cloud_answers(
    gateway: Gateway, hybrid: Hybrid
) -> None:
    says(gateway.worker, ["Lyon", " maybe"], -9.0)
    says(gateway.cloud, ["Paris"])
    begun = await hybrid.open(wanted(gateway, "gate"))
    assert begun.opened.step.target == "cloud"
    assert begun.outcome() == "escalated"
    assert begun.local_tokens >= 1
    assert await client_text(begun) == ("Paris", "done")
    assert "logprobs_first" not in gateway.cloud.bodies[0]
    member = gateway.fleet.pick(MODEL)
    assert member is not None
    assert member.in_flight == 0


async def test_where_the_cloud_is_down_the_doubtful_answer_stands(
    gateway: Gateway, hybrid: Hybrid
) -> None:
    says(gateway.worker, ["Lyon", " maybe", " so"], -9.0)
    gateway.cloud.answer = gateway.cloud.failing
    begun = await hybrid.open(wanted(gateway, "gate"))
    assert begun.outcome() == "stood"
    assert await client_text(begun) == ("Lyon maybe so", "done")


@pytest.mark.parametrize("mode", ["gate", "verify"])
async def test_where_no_worker_answers_the_cloud_does(
    gateway: Gateway, hybrid: Hybrid, mode: Mode
) -> None:
    gateway.worker.answer = gateway.worker.failing
    says(gateway.cloud, ["Paris"])
    begun = await hybrid.open(wanted(gateway, mode))
    assert begun.opened.step.target == "cloud"
    assert await client_text(begun) == ("Paris", "done")


@pytest.mark.parametrize("mode", ["gate", "verify"])
async def test_where_both_fail_that_is_said(gateway: Gateway, hybrid: Hybrid, mode: Mode) -> None:
    gateway.worker.answer = gateway.worker.broken
    gateway.cloud.answer = gateway.cloud.failing
    with pytest.raises(NoBackendError):
        await hybrid.open(wanted(gateway, mode))
    member = gateway.fleet.pick(MODEL)
    assert member is not None
    assert member.in_flight == 0


async def test_a_draft_that_the_cloud_agrees_with_is_accepted_and_the_cloud_stopped(
    gateway: Gateway, hybrid: Hybrid
) -> None:
    says(gateway.worker, ["Paris", " is the capital", " of France."])

    async def begins_alike(request: web.Request) -> web.StreamResponse:
        response = await gateway.cloud.begin(request)
        encoder = ChunkEncoder("chatcmpl-2", CLOUD_MODEL, 1)
        await response.write(encoder.delta("Paris is the"))
        try:
            await gateway.cloud.silent(request)
        finally:
            gateway.cloud.gone.set()
        return response

    gateway.cloud.answer = begins_alike
    begun = await hybrid.open(wanted(gateway, "verify"))
    assert await client_text(begun) == ("Paris is the capital of France.", "done")
    assert begun.outcome() == "accepted"
    await until(gateway.cloud.gone.is_set)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [("Paris is no capital of France.", "corrected"), ("Lyon.", "replaced")],
)
async def test_a_draft_that_differs_gives_way(
    gateway: Gateway, hybrid: Hybrid, said: str, outcome: str
) -> None:
    strict = HybridConfig(verify=VerifyConfig(accept_chars=100))
    says(gateway.worker, ["Paris", " is the capital", " of France."])
    says(gateway.cloud, [said])
    begun = await Hybrid(gateway.backends, strict).open(wanted(gateway, "verify"))
    assert await client_text(begun) == (said, "done")
    assert begun.outcome() == outcome


async def test_a_draft_stands_where_the_cloud_cannot_be_asked(
    gateway: Gateway, hybrid: Hybrid
) -> None:
    says(gateway.worker, ["Paris", " it is"])
    gateway.cloud.answer = gateway.cloud.failing
    begun = await hybrid.open(wanted(gateway, "verify"))
    assert begun.over
    assert begun.outcome() == "unverified"
    assert await client_text(begun) == ("Paris it is", "done")


@pytest.mark.parametrize("mode", ["gate", "verify"])
@pytest.mark.parametrize(
    "changes", [{"n": 2}, {"tools": "[]"}, {"response_format": '{"type":"json_object"}'}]
)
async def test_what_cannot_be_judged_by_its_first_words_is_answered_directly(
    gateway: Gateway, hybrid: Hybrid, mode: Mode, changes: dict[str, object]
) -> None:
    prompt = msgspec.structs.replace(PROMPT, **changes)
    begun = await hybrid.open(wanted(gateway, mode, prompt))
    assert begun.outcome() == ""
    assert begun.opened.step.target == "worker"
    begun.opened.close()


async def test_a_client_that_wants_no_stream_gets_the_gates_answer_too(
    gateway: Gateway, hybrid: Hybrid
) -> None:
    says(gateway.worker, ["Paris"], -0.01)
    begun = await hybrid.open(
        wanted(gateway, "gate", msgspec.structs.replace(PROMPT, stream=False))
    )
    assert begun.stream
    assert gateway.worker.bodies[0]["stream"] is True
    assert await client_text(begun) == ("Paris", "done")
