"""``bench gateway``: the whole pipeline against gateways that do less, and the pipeline alone.

The edge does everything (key, limits, parse, sanitize, tokenize, classify, route) and talks to a
canned model server that registers as a worker. The peers get the same requests, a pool of different
prompts, and do none of that. Runs are interleaved: every gateway once, and again.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tests.benchmarks.load import Job
from tests.benchmarks.processes import python_module
from tests.benchmarks.prompt_plane.peers import (
    Gateway,
    canned,
    edge_over,
    litellm_over,
    nginx_over,
    plain_over,
    portkey_over,
    quiet_sglang_over,
    raise_descriptor_limit,
    sglang_over,
)
from tests.benchmarks.prompt_plane.runs import Figures, load
from tests.benchmarks.results import Machine, Row, report

PEERS = (
    "sglang-router",
    "sglang-router, no log",
    "LiteLLM",
    "Portkey",
    "nginx",
    "plain aiohttp proxy",
)
SHORT, LONG = 120, 1_000
"""Characters of a prompt: about 30 tokens of a common vocabulary, and 1 KB."""
RATES = {SHORT: "chat completions per CPU-second, 30 tokens", LONG: "the same, 1 KB"}
P50, P99 = "latency p50, 16 connections", "latency p99, 16 connections"
ALONE = "latency p50, one connection"
ADDED = "latency p50 added to the model server's own, one connection"
_SLOW = {"LiteLLM": 0.4, "Portkey": 0.5}
"""Share of the time that is enough for those who answer slowly."""


async def measure(rounds: int, seconds: float) -> list[Row]:
    """All figures over HTTP."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(canned(events=1, rate=1.0))
        edge = await stack.enter_async_context(edge_over(server.url, folder / "state"))
        makers = (
            sglang_over, quiet_sglang_over, litellm_over, portkey_over, nginx_over, plain_over,
        )  # fmt: skip
        found = [await stack.enter_async_context(make(server.url, folder)) for make in makers]
        gateways = [edge, *(gateway for gateway in found if gateway is not None)]
        figures = Figures()
        for gateway in (server, *gateways):  # all are warm: compiled, connected, their caches full
            for chars in RATES:
                warming = Job(
                    connections=16, seconds=min(seconds, 3.0), prompt_chars=chars, seed=99
                )
                await load(gateway, warming)
        for turn in range(rounds):
            await _round(figures, server, gateways, seconds, seed=turn)
    return _rows(figures)


async def _round(
    figures: Figures, server: Gateway, gateways: list[Gateway], seconds: float, seed: int
) -> None:
    for gateway in gateways:
        for chars, figure in RATES.items():
            share = _SLOW.get(gateway.name, 1.0)
            job = Job(connections=16, seconds=seconds * share, prompt_chars=chars, seed=seed)
            seen, cpu = await load(gateway, job)
            figures.add(figure, gateway.name, seen.answers / cpu)
            if chars == SHORT:
                figures.add(P50, gateway.name, seen.p50_ms)
                figures.add(P99, gateway.name, seen.p99_ms)
    alone = Job(connections=1, seconds=min(seconds, 2.0), seed=seed)
    direct = (await load(server, alone))[0].p50_ms
    for gateway in gateways:
        p50 = (await load(gateway, alone))[0].p50_ms
        figures.add(ALONE, gateway.name, p50)
        figures.add(ADDED, gateway.name, p50 - direct)


def _rows(figures: Figures) -> list[Row]:
    rows = []
    for chars, figure in RATES.items():
        targets = {"sglang-router": 1.5, "LiteLLM": 100.0} if chars == SHORT else {}
        rows += [
            figures.row(figure, "1/s", peer, targets.get(peer), higher_is_better=True)
            for peer in PEERS
        ]
    for peer in PEERS:
        rows.append(figures.row(P50, "ms", peer))
        rows.append(figures.row(P99, "ms", peer, 1.0 if peer == "sglang-router" else None))
    added = figures.runs[ADDED]["headwater edge"]
    rows.append(Row(name=ADDED, unit="ms", runs=added, target=0.35, higher_is_better=False))
    rows += [figures.row(ADDED, "ms", peer) for peer in PEERS]
    return rows


async def _alone(rounds: int, requests: int) -> list[Row]:
    """The pipeline alone, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *python_module("prompt_plane.in_process", rounds, requests), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return [Row(**row) for row in json.loads(output)]


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    raise_descriptor_limit()
    machine, started = Machine(), time.monotonic()
    rows = asyncio.run(_alone(1 if quick else 5, 200 if quick else 1_000))
    rows += asyncio.run(measure(1 if quick else 5, 1.0 if quick else 4.0))
    print(f"{report('gateway', rows, machine)}, {time.monotonic() - started:.0f} s")
