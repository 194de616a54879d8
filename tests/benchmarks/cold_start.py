"""``bench cold_start``: from starting a worker's process to its first token through the edge.

The worker starts from nothing each time (empty disk, warm edge). The peer is what people script
today, with the same engine and model: curl, sha256sum, load, first token.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from infra.local import Local
from tests.benchmarks.results import Machine, Row, report

QUESTION = {
    "model": "edge-small",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 1,
}
SCRIPT = """
import json, sys, time, urllib.request
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_ctx = 4096
server = xllamacpp.Server(params)
request = urllib.request.Request(
    server.listening_address + "/v1/chat/completions",
    data=sys.argv[2].encode(), headers={"Content-Type": "application/json"})
urllib.request.urlopen(request).read()
import os; os._exit(0)
"""


async def measure(rounds: int) -> list[Row]:
    """Worker and script in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Local(folder / "state") as local:
            for tier in ("origin", "cloud"):
                await local.start(tier)
                await local.ready(tier)
                if tier == "origin":
                    await local.publish_demo()
            await local.start("edge")
            await local.ready("edge")
            ours: list[float] = []
            theirs: list[float] = []
            for number in range(rounds + 1):
                one = await _worker(local)
                other = await asyncio.to_thread(_script, local, folder)
                if number:
                    ours.append(one)
                    theirs.append(other)
    return [
        Row(
            name="cold start to first token, demo model",
            unit="s",
            runs=ours,
            peer="curl + sha256sum + llama.cpp",
            peer_runs=theirs,
            higher_is_better=False,
        )
    ]


async def _worker(local: Local) -> float:
    started = time.perf_counter()
    await local.start("worker")
    await local.ready("worker")
    headers = {"Authorization": f"Bearer {local.api_key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            async with session.post(
                f"{local.urls.edge}/v1/chat/completions", json=QUESTION
            ) as answer:
                await answer.read()
                if answer.status == 200 and answer.headers["x-headwater-worker"]:
                    break
            await asyncio.sleep(0.01)
    took = time.perf_counter() - started
    await local.child("worker").stop()
    await asyncio.to_thread(shutil.rmtree, local.state.tier("worker"))
    return took


def _script(local: Local, folder: Path) -> float:
    import json

    origin, target = local.urls.edge, folder / "model.gguf"
    pointer = subprocess.run(
        ["curl", "-sf", f"{origin}/artifacts/channels/edge-small/stable"],
        check=True,
        capture_output=True,
    )
    revision = json.loads(pointer.stdout)["revision"]
    url = f"{origin}/artifacts/files/{revision}/edge-small-r1.gguf"
    started = time.perf_counter()
    subprocess.run(["curl", "-sf", "-o", str(target), url], check=True)
    subprocess.run(["sha256sum", str(target)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(target), json.dumps(QUESTION)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    rows = asyncio.run(measure(1 if quick else 5))
    print(f"{report('cold_start', rows, machine)}, {time.monotonic() - started:.0f} s")
