"""The gateways under load: the edge and those it is compared with, as processes.

Peers from registries live in environments of their own below ``.venv/peers``, which
``make bench-peers`` fills; what is not there is not started, and its rows say so.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from infra.local import Local
from infra.state import read_secret
from tests.benchmarks.processes import listening, program, python_module
from tests.fakes.ports import free_port
from wire.files import write_atomically
from wire.paths import HEARTBEAT
from wire.workers import WorkerReport

PEERS = Path(".venv/peers").absolute()
LIMITS = {
    "requests_per_minute": 100_000_000,
    "tokens_per_minute": 100_000_000_000,
    "max_output_tokens": 1_024,
}
"""High, but real: every request is counted against them."""
POLICIES = """
[policies.bench-gate]
[[policies.bench-gate.routes]]
name = "sure or not at all"
target = "local"
mode = "gate"
"""
KEYS: dict[str, dict[str, Any]] = {
    "pass": {},
    "restore": {"personal_data": "restore"},
    "gate": {"name": "bench-gate"},
}
"""What the policies of the callers' keys say."""
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log /dev/null;
worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
 fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
 upstream canned {{ server 127.0.0.1:{upstream}; keepalive 512; }}
 server {{ listen 127.0.0.1:{port} backlog=4096; keepalive_requests 10000000;
  location / {{ proxy_pass http://canned; proxy_http_version 1.1; proxy_buffering off;
   proxy_set_header Connection ""; }} }} }}
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Something under load."""

    name: str
    url: str
    pid: int
    headers: dict[str, str] = field(default_factory=dict)
    keys: dict[str, dict[str, str]] = field(default_factory=dict)
    """Headers by the mode that the caller's policy asks for; the edge's only."""


def raise_descriptor_limit() -> int:
    """As many descriptors as the machine lets this process and its children have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@asynccontextmanager
async def canned(events: int, rate: float) -> AsyncIterator[Gateway]:
    """The model server behind all of them."""
    port = free_port()
    async with program(python_module("canned", port, events, rate), port) as pid:
        yield Gateway("canned", f"http://127.0.0.1:{port}", pid)


@asynccontextmanager
async def edge_over(
    upstream: str, folder: Path, *, name: str = "headwater edge", **settings: str
) -> AsyncIterator[Gateway]:
    """An edge with a published model, whose only worker, and cloud, is the canned server: default
    policy, default logging, every stage on.

    Args:
        settings: of its prompt plane, over the defaults.
    """
    cloud = {"HEADWATER_EDGE__GATEWAY__CLOUD__URL": upstream}
    more = {f"HEADWATER_EDGE__GATEWAY__{key.upper()}": value for key, value in settings.items()}
    async with Local(folder, environ={**os.environ, **cloud, **more}) as local:
        write_atomically(local.state.edge_policies, POLICIES.encode())
        await local.start("origin")
        await local.ready("origin")
        await local.publish_demo()
        url = await local.start("edge")
        await local.ready("edge")
        async with aiohttp.ClientSession() as session:
            revision = await _revision(session, local, url)
            keys = {
                mode: {"Authorization": f"Bearer {await _key(session, local, url, policy)}"}
                for mode, policy in KEYS.items()
            }
            beats = asyncio.create_task(_beat(session, local, url, upstream, revision))
            try:
                await asyncio.sleep(0.2)
                pid = local.child("edge").pid or 0
                yield Gateway(name, url, pid, keys["pass"], keys)
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


async def _key(
    session: aiohttp.ClientSession, local: Local, url: str, policy: dict[str, Any]
) -> str:
    headers = {"Authorization": f"Bearer {local.admin_token}"}
    body = {"tenant": "bench", "limits": LIMITS, "policy": policy}
    async with session.post(f"{url}/admin/keys", json=body, headers=headers) as answer:
        answer.raise_for_status()
        key: str = (await answer.json())["key"]
        return key


async def _beat(
    session: aiohttp.ClientSession, local: Local, url: str, upstream: str, revision: str
) -> None:
    headers = {"Authorization": f"Bearer {read_secret(local.state.worker_token)}"}
    worker = WorkerReport(
        worker="canned",
        url=upstream,
        model="edge-small",
        channel="stable",
        revision=revision,
        state="ready",
        slots=10_000,
        busy=0,
        queue=0,
        ttl_s=60,
        features=frozenset({"logprobs", "token_ids"}),
    )
    while True:
        async with session.post(
            url + HEARTBEAT, data=msgspec.json.encode(worker), headers=headers
        ) as answer:
            answer.raise_for_status()
        await asyncio.sleep(5)


@asynccontextmanager
async def nginx_over(upstream: str, folder: Path) -> AsyncIterator[Gateway | None]:
    """nginx as a proxy without buffering."""
    binary = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if binary is None:
        yield None
        return
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream.rpartition(":")[2], port=port))
    async with program([binary, "-c", str(config), "-p", str(folder)], port) as pid:
        yield Gateway("nginx", f"http://127.0.0.1:{port}", pid)


@asynccontextmanager
async def plain_over(upstream: str, _folder: Path) -> AsyncIterator[Gateway | None]:
    """aiohttp on both sides and nothing between."""
    port = free_port()
    async with program(python_module("aiohttp_proxy", port, upstream), port) as pid:
        yield Gateway("plain aiohttp proxy", f"http://127.0.0.1:{port}", pid)


@asynccontextmanager
async def sglang_over(upstream: str, folder: Path) -> AsyncIterator[Gateway | None]:
    """sglang-router (Rust, PyPI) with one worker, as it comes: it logs, and picks by prefix."""
    async with _sglang("sglang-router", upstream, folder) as gateway:
        yield gateway


@asynccontextmanager
async def quiet_sglang_over(upstream: str, folder: Path) -> AsyncIterator[Gateway | None]:
    """The same without a log, workers in turn: the least that it can cost."""
    options = ("--policy", "round_robin", "--log-level", "error")
    async with _sglang("sglang-router, no log", upstream, folder, *options) as gateway:
        yield gateway


@asynccontextmanager
async def _sglang(
    name: str, upstream: str, folder: Path, *options: str
) -> AsyncIterator[Gateway | None]:
    port, prometheus = free_port(), free_port()
    argv = [
        str(PEERS / "bin/python"), "-m", "sglang_router.launch_router", "--host", "127.0.0.1",
        "--port", str(port), "--worker-urls", upstream, "--prometheus-port", str(prometheus),
        *options,
    ]  # fmt: skip
    installed = (PEERS / "bin/sglang-router").exists()
    async with _peer(name, argv, port, folder, installed=installed) as gateway:
        yield gateway


@asynccontextmanager
async def litellm_over(upstream: str, folder: Path) -> AsyncIterator[Gateway | None]:
    """LiteLLM's proxy (PyPI), one process, without keys or a database."""
    port = free_port()
    config = folder / "litellm.yaml"
    model = {
        "model_name": "edge-small",
        "litellm_params": {
            "model": "openai/edge-small",
            "api_base": f"{upstream}/v1",
            "api_key": "none",
        },
    }
    config.write_text(json.dumps({"model_list": [model]}))  # JSON is YAML
    binary = PEERS / "bin/litellm"
    argv = [str(binary), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    async with _peer(
        "LiteLLM", argv, port, folder, installed=binary.exists(), environment=environment
    ) as gateway:
        yield gateway


@asynccontextmanager
async def portkey_over(upstream: str, folder: Path) -> AsyncIterator[Gateway | None]:
    """Portkey's gateway (npm)."""
    port = free_port()
    script = PEERS / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    node = shutil.which("node")
    argv = [node or "node", str(script), f"--port={port}", "--headless"]
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"{upstream}/v1",
        "Authorization": "Bearer none",
    }
    environment = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    installed = node is not None and script.exists()
    async with _peer(
        "Portkey", argv, port, folder, installed=installed, environment=environment, headers=headers
    ) as gateway:
        yield gateway


@asynccontextmanager
async def _peer(
    name: str,
    argv: Sequence[str],
    port: int,
    folder: Path,
    *,
    installed: bool,
    environment: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Gateway | None]:
    if not installed:
        yield None
        return
    with (folder / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=log, stderr=log, cwd=folder, env={**os.environ, **(environment or {})}
        )
        try:
            ended = asyncio.create_task(process.wait())
            up = asyncio.create_task(listening(port, within_s=90.0))
            await asyncio.wait((ended, up), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                up.cancel()
                raise RuntimeError(f"{name} ended; it said why in {log.name}")
            await up
            url = f"http://127.0.0.1:{port}"
            gateway = Gateway(name, url, process.pid, headers or {"Authorization": "Bearer none"})
            await _answering(gateway)
            yield gateway
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _answering(gateway: Gateway, within_s: float = 60.0) -> None:
    """Return when a whole request is answered. Raises ``TimeoutError``."""
    body = {"model": "edge-small", "messages": [{"role": "user", "content": "Hello"}]}
    said = ""
    async with aiohttp.ClientSession(headers=gateway.headers) as session:
        for _ in range(int(within_s / 0.25)):
            try:
                async with session.post(f"{gateway.url}/v1/chat/completions", json=body) as answer:
                    if answer.status == 200:
                        return
                    said = f"{answer.status}: {(await answer.text())[:300]}"
            except aiohttp.ClientError as error:
                said = str(error)
            await asyncio.sleep(0.25)
    raise TimeoutError(f"{gateway.name} does not answer: {said}")
