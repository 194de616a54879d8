"""Two origins on one bucket, two edges of each plane on one Redis, three workers: real processes.

Every process is kept alive by a ``Child``, so what is killed comes back by itself, as it would
under systemd or Kubernetes. All that an origin signs with lies in one folder, as its secret would.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_tier.gateway.auth import KeyStore
from edge_tier.gateway.request import Limits
from infra.child import Child, Program
from infra.demo_models import path as demo_file
from infra.fleet_admin import FleetAdmin
from infra.local_config import LOCAL_MODEL, render
from infra.publishing import open_publisher
from infra.state import StateDir, ensure_secret, read_secret
from origin.config import OriginConfig
from origin.init import initialize
from origin.stores.bucket import S3Config
from tests.edge_tier.gateway.conftest import RedisServer
from tests.fakes.s3 import CREDENTIALS
from wire.files import write_atomically
from wire.http_server import read_token
from wire.paths import DEFAULT_CHANNEL

ROOT = Path(__file__).resolve().parents[3]
ORIGINS = ("origin-a", "origin-b")
ARTIFACTS = ("artifacts-a", "artifacts-b")
PROMPTS = ("prompts-a", "prompts-b")
WORKERS = ("worker-1", "worker-2", "worker-3")
CHANNELS = (DEFAULT_CHANNEL, "next")
MODULES = {"origin": "origin", "artifacts": "edge_tier", "prompts": "edge_tier"}
LEASE = 0.25
"""Share of a limit that each edge may give out alone while Redis is away."""
REQUESTS_PER_MINUTE = 240
"""Of the key whose limit is watched."""


class Bucket:
    """moto's S3 server, and what one does to it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.s3_process"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the S3 server did not start; is moto[server] installed?")
        self.pid = self._process.pid

    @property
    def config(self) -> S3Config:
        """How an origin reaches it; short bounds, so that its absence shows soon."""
        return S3Config(endpoint_url=self.url, allow_http=True, retries=1, retry_timeout_s=3.0)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(10)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


@dataclass
class Rig:
    """Everything that runs. Use it as an async context.

    Args:
        folder: where all of it keeps what it keeps.
    """

    folder: Path
    children: dict[str, Child] = field(default_factory=dict)
    revisions: list[str] = field(default_factory=list)
    """Published; the first one is the demo model as it ships."""
    free_key: str = ""
    """Without a limit."""
    limited_key: str = ""
    """With ``REQUESTS_PER_MINUTE``."""
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _lifeline: int = -1

    async def __aenter__(self) -> Rig:
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in reversed(self.children.values()):
            await child.stop()
        self._stack.close()

    @property
    def state(self) -> StateDir:
        return StateDir(self.folder)

    @property
    def admin_token(self) -> str:
        return read_secret(self.state.admin_token)

    def url(self, name: str) -> str:
        """Where a process answers, also after it was killed."""
        return self.children[name].url

    def fleet(self, origin: str) -> dict[str, Any]:
        """The fleet as one of the origins sees it."""
        with FleetAdmin(self.url(origin), self.admin_token) as admin:
            return admin.fleet()

    async def _start(self) -> None:
        state = self.state
        state.make()
        self.bucket = Bucket()
        self._stack.callback(self.bucket.stop)
        self.redis = RedisServer()
        self._stack.callback(self.redis.stop)
        self._lifeline, writer = os.pipe()
        self._stack.callback(os.close, self._lifeline)
        self._stack.callback(os.close, writer)
        os.environ.update(CREDENTIALS)
        self._secrets()
        config = OriginConfig(
            store=self._store, s3=self.bucket.config, keys_dir=state.keys,
            admin_token_file=state.admin_token,
        )  # fmt: skip
        await initialize(config, ensure_secret(state.passphrase_file, ""))
        await self._launch({name: self._origin(name) for name in ORIGINS})
        await asyncio.to_thread(self._publish)
        await self._launch({name: self._edge(name, "artifacts") for name in ARTIFACTS})
        await self._launch({name: self._edge(name, "prompts") for name in PROMPTS})
        await self._launch({name: self._worker(name) for name in WORKERS})
        await asyncio.gather(*(child.ready() for child in self.children.values()))

    def _secrets(self) -> None:
        state = self.state
        ensure_secret(state.admin_token, "hwadm-")
        ensure_secret(state.edge_report_token, "hwedg-")
        ensure_secret(state.worker_token, "hwwrk-")
        keys = KeyStore.open(state.edge_keys, state.edge_pepper)
        free = Limits(requests_per_minute=0, tokens_per_minute=0)
        few = Limits(requests_per_minute=REQUESTS_PER_MINUTE, tokens_per_minute=0)
        _, self.free_key = keys.create(tenant="free", limits=free)
        _, self.limited_key = keys.create(tenant="limited", limits=few)

    def _publish(self) -> None:
        token = read_token(self.state.admin_token)
        with open_publisher(self.url(ORIGINS[0]), token, self.state.publisher_key) as desk:
            for name, channel in zip(("edge-small-r1", "edge-small-r2"), CHANNELS, strict=True):
                made = desk.publish(demo_file(name), LOCAL_MODEL, channel)
                self.revisions.append(made.revision)

    @property
    def _store(self) -> str:
        return "s3://models/scale"

    def _origin(self, name: str) -> dict[str, Any]:
        state, s3 = self.state, self.bucket.config
        return {
            "origin": {
                "store": self._store,
                "keys_dir": str(state.keys),
                "admin_token_file": str(state.admin_token),
                "edge_token_file": str(state.edge_report_token),
                "ready_file": str(state.run_file(name)),
                "refresh_s": 1.0,
                "rollouts": {"observe_min_s": 2.0, "min_requests": 10, "lease_s": 3.0},
                "s3": {
                    "endpoint_url": s3.endpoint_url,
                    "allow_http": True,
                    "retries": s3.retries,
                    "retry_timeout_s": s3.retry_timeout_s,
                },
            }
        }

    def _edge(self, name: str, plane: str) -> dict[str, Any]:
        state, home = self.state, self.folder / name
        above = ORIGINS if plane == "artifacts" else ARTIFACTS
        return {
            "edge": {
                "plane": plane,
                "origins": [self.url(one) for one in above],
                "trust_root": str(state.trust_root),
                "trust_dir": str(home / "trust"),
                "refresh_s": 1.0,
                "admin_token_file": str(state.admin_token),
                "worker_token_file": str(state.worker_token),
                "ready_file": str(state.run_file(name)),
                "cache": {"folder": str(home / "cache")},
                "fleet": {
                    "name": name,
                    "region": "here",
                    "token_file": str(state.edge_report_token),
                    "report_to": [self.url(one) for one in ORIGINS],
                },
                "gateway": {
                    "keys_file": str(state.edge_keys),
                    "pepper_file": str(state.edge_pepper),
                    "redis_url": self.redis.url,
                    "redis": {"lease_fraction": LEASE, "circuit_s": 0.2},
                    # Limits are what is looked at here, not the queue.
                    "pipeline": {"shedding": {"interactive_load": 0}},
                },
            }
        }

    def _worker(self, name: str) -> dict[str, Any]:
        state, home = self.state, self.folder / name
        return {
            "worker": {
                "name": name,
                "model": LOCAL_MODEL,
                "sources": [self.url(one) for one in ARTIFACTS],
                "heartbeat_to": [self.url(one) for one in PROMPTS],
                "heartbeat_s": 0.5,
                "heartbeat_ttl_s": 2.5,
                "revalidate_s": 2.0,
                "token_file": str(state.worker_token),
                "trust_root": str(state.trust_root),
                "trust_dir": str(home / "trust"),
                "models_dir": str(home / "models"),
                "ready_file": str(state.run_file(name)),
                "engine": {"slots": 8},
            }
        }

    async def _launch(self, tables: Mapping[str, dict[str, Any]]) -> None:
        await asyncio.gather(*(self._child(name, table) for name, table in tables.items()))

    async def _child(self, name: str, table: dict[str, Any]) -> None:
        state, file = self.state, self.folder / f"{name}.toml"
        write_atomically(file, render(table).encode())
        module = MODULES.get(name.partition("-")[0], "gpu_worker")
        program = Program(
            name=name,
            argv=(sys.executable, "-m", module, "--config", str(file)),
            environ={**os.environ, **CREDENTIALS, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"},
            folder=self.folder,
            ready_file=state.run_file(name),
            log=state.log(name),
        )
        child = self.children[name] = Child(program, self._lifeline)
        await child.start()
