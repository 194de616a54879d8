"""Whether a request can make everybody else wait: bad ones of threat 15, and prompts of 1 MB.

While each is sent, a probe asks for the edge's health every 2 ms. Its slowest answer bounds every
stall of the event loop from above: it holds the work of other requests, and the scheduler's.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator

import aiohttp

from tests.benchmarks.processes import python_module
from tests.benchmarks.prompt_plane.corpus import chat_body, in_turns, large_texts
from tests.benchmarks.prompt_plane.peers import Gateway
from tests.benchmarks.results import Row

LIMIT_MS = 50.0
_SIZE = 1_000_000
_QUIET_S = 0.3


def attacks() -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """A name, a body and headers."""
    yield "nothing", b"", {}
    bomb = gzip.compress(b'{"model":"' + b"a" * 100_000_000 + b'"}', compresslevel=9)
    yield "gzip bomb", bomb, {"Content-Encoding": "gzip"}
    yield "JSON 10^6 deep", b"[" * 1_000_000, {}
    deep = b'{"model":"edge-small","messages":' + b"[" * 500_000 + b"]" * 500_000 + b"}"
    yield "messages 10^6 deep", deep, {}
    lone = rb"\ud800" * 100_000
    turn = b'{"model":"edge-small","messages":[{"role":"user","content":"' + lone + b'"}]}'
    yield "lone surrogates", turn, {}
    numbers = b"NaN," * 200_000
    yield "NaN", b'{"model":"edge-small","temperature":NaN,"messages":[' + numbers + b"1]}", {}
    for name, text in large_texts(_SIZE):
        body = chat_body(in_turns(text))
        while len(body) > 1_048_000:  # quoting made it longer than a body may be
            text = text[: int(len(text) * 1_040_000 / len(body))]
            body = chat_body(in_turns(text))
        yield f"1 MB of {name}", body, {}


async def stalls(edge: Gateway, rounds: int) -> list[Row]:
    """The slowest answer to the probe while each is answered."""
    runs: dict[str, list[float]] = {}
    cases = list(attacks())
    async with aiohttp.ClientSession() as session:
        for _ in range(rounds):
            for name, body, headers in cases:
                runs.setdefault(name, []).append(await _stall_ms(session, edge, body, headers))
    idle = runs.pop("nothing")
    return [
        Row(name="slowest answer to the probe, idle edge", unit="ms", runs=idle),
        *(
            Row(
                name=f"slowest answer to the probe during {name}", unit="ms", runs=values,
                target=LIMIT_MS, higher_is_better=False,
            )
            for name, values in runs.items()
        ),
        Row(
            name="the slowest of all these answers", unit="ms",
            runs=[max(max(values) for values in runs.values())], target=LIMIT_MS,
            higher_is_better=False,
        ),
    ]  # fmt: skip


async def _stall_ms(
    session: aiohttp.ClientSession, edge: Gateway, body: bytes, headers: dict[str, str]
) -> float:
    probe = await asyncio.create_subprocess_exec(
        *python_module("prompt_plane.probe", edge.url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    await asyncio.sleep(_QUIET_S)
    if body:
        everything = {"Content-Type": "application/json", **edge.headers, **headers}
        url = f"{edge.url}/v1/chat/completions"
        async with session.post(url, data=body, headers=everything) as answer:
            await answer.read()
            if answer.status not in (200, 400, 413, 415):
                raise RuntimeError(f"the edge answered {answer.status}")
    await asyncio.sleep(_QUIET_S)
    output, _ = await probe.communicate(b"\n")
    found: dict[str, float] = json.loads(output)
    return found["max_ms"]
