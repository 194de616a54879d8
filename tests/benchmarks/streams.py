"""``bench streams``: what a relayed event costs, many streams at once, and stalls.

Streams of 20 events a second go through the edge in its modes (bytes passed through; placeholders
restored in the answer; the first tokens looked at by the confidence gate), through an edge that
lets no answer go on at another worker, and through peers, interleaved. Then one edge holds
thousands of streams, and one is sent what a stranger might send while somebody else asks for its
health.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil

from tests.benchmarks.load import Job
from tests.benchmarks.prompt_plane.peers import (
    Gateway,
    canned,
    edge_over,
    nginx_over,
    raise_descriptor_limit,
    sglang_over,
)
from tests.benchmarks.prompt_plane.runs import Figures, load
from tests.benchmarks.prompt_plane.stalls import stalls
from tests.benchmarks.results import Machine, Row, report

RATE, STREAMS, EVENTS = 20.0, 400, 160
PEERS = ("nginx", "sglang-router")
UNJOURNALED = "the edge without journals"
JOURNAL_TARGET = 1.05
"""Bound on what it costs a stream that it could go on at another worker."""
MODES = {
    "pass": ("edge-small", "", 1.0),
    "restore": ("edge-small", " Write to ann.smith@example.org or call +1 415 555 2671.", 2.0),
    "gate": ("auto", "", 2.0),
}
"""The model and how a prompt ends, so that the caller's policy brings the mode about; and the bound
on the ratio to nginx's cost.
"""
MANY, MANY_EVENTS, MANY_RATE = 5_000, 20, 1.0
"""So many streams that an edge with 20,000 descriptors, two a stream, has some to spare."""


async def measure(rounds: int, many: int) -> list[Row]:
    """All figures."""
    figures = Figures()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(canned(EVENTS, RATE))
        edge = await stack.enter_async_context(edge_over(server.url, folder / "state"))
        plain = await stack.enter_async_context(
            edge_over(server.url, folder / "plain", name=UNJOURNALED, resume__max_resumes="0")
        )
        found = [
            await stack.enter_async_context(make(server.url, folder))
            for make in (nginx_over, sglang_over)
        ]
        peers = [gateway for gateway in found if gateway is not None]
        for turn in range(rounds):
            await _round(figures, edge, plain, peers, turn)
        rows = _relay_rows(figures)
        rows += await stalls(edge, rounds)
    return rows + await _many(rounds, many)


async def _round(
    figures: Figures, edge: Gateway, plain: Gateway, peers: list[Gateway], turn: int
) -> None:
    job = Job(mode="streams", connections=STREAMS, seconds=0.5, pool=1_000, seed=turn)
    for mode, (model, extra, _) in MODES.items():
        asked = Job(
            mode="streams", connections=STREAMS, seconds=0.5, pool=1_000, seed=turn, model=model,
            extra=extra, headers=edge.keys[mode],
        )  # fmt: skip
        seen, cpu = await load(edge, asked)
        figures.add(_named(mode), edge.name, cpu / seen.events * 1e6)
    seen, cpu = await load(plain, job)
    figures.add(_named("pass"), plain.name, cpu / seen.events * 1e6)
    for gateway in peers:
        seen, cpu = await load(gateway, job)
        for mode in MODES:
            figures.add(_named(mode), gateway.name, cpu / seen.events * 1e6)


def _named(mode: str) -> str:
    return f"CPU per SSE event, {STREAMS} streams, {mode}"


def _relay_rows(figures: Figures) -> list[Row]:
    return [
        figures.row(_named(mode), "µs", peer, target if peer == "nginx" else None)
        for mode, (_, _, target) in MODES.items()
        for peer in PEERS
    ] + [figures.row(_named("pass"), "µs", UNJOURNALED, JOURNAL_TARGET)]


async def _many(rounds: int, streams: int) -> list[Row]:
    """Thousands of open streams on one process: what each takes, and whether all events came."""
    lost, memory, cpu_us = [], [], []
    for turn in range(min(rounds, 3)):
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server = await stack.enter_async_context(canned(MANY_EVENTS, MANY_RATE))
            edge = await stack.enter_async_context(edge_over(server.url, folder / "state"))
            await load(edge, Job(connections=16, seconds=1.0, pool=200, seed=99))  # all is loaded
            before = psutil.Process(edge.pid).memory_info().rss
            job = Job(mode="streams", connections=streams, seconds=0.0, pool=2_000, seed=turn)
            async with _watched(edge.pid) as resident:
                seen, cpu = await load(edge, job)
            lost.append(float(streams * MANY_EVENTS - seen.events))
            memory.append((max(resident) - before) / streams / 1024)
            cpu_us.append(cpu / seen.events * 1e6)
    name = f"{streams:,} streams on one process"
    return [
        Row(name=f"{name}: events lost", unit="", runs=lost, target=0, higher_is_better=False),
        Row(
            name=f"{name}: memory each", unit="KiB", runs=memory, target=40, higher_is_better=False
        ),
        Row(name=f"{name}: CPU per event", unit="µs", runs=cpu_us),
    ]


@asynccontextmanager
async def _watched(pid: int) -> AsyncIterator[list[int]]:
    """The resident bytes of a process, again and again as long as the block runs."""
    process = psutil.Process(pid)
    seen = [process.memory_info().rss]

    async def watch() -> None:
        while True:
            await asyncio.sleep(0.2)
            seen.append(process.memory_info().rss)

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    descriptors = raise_descriptor_limit()
    many = min(MANY, (descriptors - 1_000) // 2)
    rows = asyncio.run(measure(1 if quick else 5, many))
    print(f"{report('streams', rows, machine)}, {time.monotonic() - started:.0f} s")
