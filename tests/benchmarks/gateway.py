"""``bench gateway``: requests per CPU-second, and CPU per relayed SSE event, against peers.

The edge does its whole pipeline (auth, parse, sanitize, tokenize, classify, limits, routing) and
talks to a canned model server that registers as a worker. The peers get the same requests and do
none of that. Runs are interleaved: peer, edge, peer, edge.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from infra.local import Local
from infra.state import read_secret
from tests.benchmarks.processes import cpu_seconds, free_port, program, python_module
from tests.benchmarks.results import Machine, Row, report
from wire.paths import HEARTBEAT
from wire.workers import WorkerReport

RATE, STREAMS, EVENTS = 20.0, 400, 160
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
 fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
 upstream canned {{ server 127.0.0.1:{upstream}; keepalive 512; }}
 server {{ listen 127.0.0.1:{port}; keepalive_requests 10000000;
  location / {{ proxy_pass http://canned; proxy_http_version 1.1; proxy_buffering off;
   proxy_set_header Connection ""; }} }} }}
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Something under load."""

    name: str
    url: str
    pid: int
    key: str = "none"


async def load(
    gateway: Gateway, mode: str, connections: int, seconds: float
) -> tuple[dict[str, Any], float]:
    """One run: what the generator saw, and the gateway's CPU seconds."""
    before = cpu_seconds(gateway.pid)
    process = await asyncio.create_subprocess_exec(
        *python_module("load", mode, gateway.url, gateway.key, connections, seconds),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    used = cpu_seconds(gateway.pid) - before
    result: dict[str, Any] = json.loads(output)
    if result["failures"]:
        raise RuntimeError(f"{gateway.name}: {result['failures']} requests failed")
    return result, used


@asynccontextmanager
async def edge_over(upstream: int, folder: Path) -> AsyncIterator[Gateway]:
    """An edge with a published model, whose only worker is the canned server."""
    # The keys of the launcher are for people; a benchmark must not be stopped by its limits.
    async with Local(folder) as local:
        await local.start("origin")
        await local.ready("origin")
        await local.publish_demo()
        url = await local.start("edge")
        await local.ready("edge")
        async with aiohttp.ClientSession() as session:
            revision = await _revision(session, local, url)
            key = await _unlimited_key(session, local, url)
            beats = asyncio.create_task(_beat(session, local, url, upstream, revision))
            try:
                await asyncio.sleep(0.2)
                yield Gateway("headwater edge", url, local.child("edge").pid or 0, key)
            finally:
                beats.cancel()


async def _revision(session: aiohttp.ClientSession, local: Local, url: str) -> str:
    headers = {"Authorization": f"Bearer {local.admin_token}"}
    for _ in range(100):
        async with session.get(f"{url}/admin/status", headers=headers) as answer:
            revision: str = (await answer.json())["models"].get("edge-small", "")
        if revision:
            return revision
        await asyncio.sleep(0.1)
    raise TimeoutError("the edge does not know the published model")


async def _unlimited_key(session: aiohttp.ClientSession, local: Local, url: str) -> str:
    limits = {"requests_per_minute": 0, "tokens_per_minute": 0, "max_output_tokens": 0}
    headers = {"Authorization": f"Bearer {local.admin_token}"}
    body = {"tenant": "bench", "limits": limits}
    async with session.post(f"{url}/admin/keys", json=body, headers=headers) as answer:
        key: str = (await answer.json())["key"]
        return key


async def _beat(
    session: aiohttp.ClientSession, local: Local, url: str, upstream: int, revision: str
) -> None:
    headers = {"Authorization": f"Bearer {read_secret(local.state.worker_token)}"}
    canned = WorkerReport(
        worker="canned",
        url=f"http://127.0.0.1:{upstream}",
        model="edge-small",
        channel="stable",
        revision=revision,
        state="ready",
        slots=10_000,
        busy=0,
        queue=0,
        ttl_s=60,
    )
    while True:
        async with session.post(
            url + HEARTBEAT, data=msgspec.json.encode(canned), headers=headers
        ) as answer:
            answer.raise_for_status()
        await asyncio.sleep(5)


@asynccontextmanager
async def nginx_over(upstream: int, folder: Path) -> AsyncIterator[Gateway | None]:
    """nginx as a proxy without buffering; None where it is not installed."""
    binary = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if binary is None:
        yield None
        return
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream, port=port))
    async with program([binary, "-c", str(config), "-p", str(folder)], port) as pid:
        yield Gateway("nginx", f"http://127.0.0.1:{port}", pid)


async def measure(rounds: int, seconds: float) -> list[Row]:
    """All figures of the gateway."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream, plain = free_port(), free_port()
        await stack.enter_async_context(
            program(python_module("canned", upstream, EVENTS, RATE), upstream)
        )
        plain_pid = await stack.enter_async_context(
            program(python_module("aiohttp_proxy", plain, f"http://127.0.0.1:{upstream}"), plain)
        )
        edge = await stack.enter_async_context(edge_over(upstream, folder / "state"))
        peers = [Gateway("plain aiohttp proxy", f"http://127.0.0.1:{plain}", plain_pid)]
        nginx = await stack.enter_async_context(nginx_over(upstream, folder))
        peers += [nginx] if nginx else []
        return await _interleaved(edge, peers, rounds, seconds)


async def _interleaved(
    edge: Gateway, peers: list[Gateway], rounds: int, seconds: float
) -> list[Row]:
    per_cpu: dict[str, list[float]] = {}
    p50: dict[str, list[float]] = {}
    per_event: dict[str, list[float]] = {}
    for gateway in (edge, *peers):
        await load(gateway, "answers", 4, 0.5)
    for _ in range(rounds):
        for gateway in (edge, *peers):
            result, cpu = await load(gateway, "answers", 16, seconds)
            per_cpu.setdefault(gateway.name, []).append(result["answers"] / cpu)
            p50.setdefault(gateway.name, []).append(result["p50_ms"])
        for gateway in (edge, *peers):
            result, cpu = await load(gateway, "streams", STREAMS, 1.0)
            per_event.setdefault(gateway.name, []).append(cpu / result["events"] * 1e6)
    rows = []
    for peer, target in (("plain aiohttp proxy", 1.0), ("nginx", None)):
        rows += [
            Row(
                name=f"chat completions per CPU-second (vs {peer})",
                unit="1/s",
                runs=per_cpu[edge.name],
                peer=peer,
                peer_runs=per_cpu.get(peer, ()),
                target=target,
            ),
            Row(
                name=f"latency p50, 16 connections (vs {peer})",
                unit="ms",
                runs=p50[edge.name],
                peer=peer,
                peer_runs=p50.get(peer, ()),
                higher_is_better=False,
            ),
            Row(
                name=f"CPU per SSE event, {STREAMS} streams (vs {peer})",
                unit="µs",
                runs=per_event[edge.name],
                peer=peer,
                peer_runs=per_event.get(peer, ()),
                target=target,
                higher_is_better=False,
            ),
        ]
    return rows


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    rows = asyncio.run(measure(1 if quick else 3, 2.0 if quick else 5.0))
    print(f"{report('gateway', rows, machine)}, {time.monotonic() - started:.0f} s")
