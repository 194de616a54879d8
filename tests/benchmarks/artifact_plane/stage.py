"""What the artifact benchmarks run on: an origin and an edge of their own, nginx beside them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local import Local
from tests.benchmarks.processes import program
from tests.fakes.ports import free_port
from tests.fakes.processes import peak_rss_bytes
from wire.paths import DEFAULT_CHANNEL

_LOOK_EVERY_S = 0.05
_NGINX = """
daemon off; worker_processes 2; error_log stderr crit; pid {folder}/nginx.pid;{user}
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""
_HEADWATER = """
import sys
# Installed by the test dependencies only, and imported by securesystemslib wherever it is found.
sys.modules["boto3"] = None
from infra.cli import main
main()
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One process: wall and CPU seconds, peak memory in bytes, and what it printed."""

    wall_s: float
    cpu_s: float
    rss_bytes: int
    output: str


def timed(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end; the disk is quiet when it starts.

    Raises:
        CalledProcessError: it failed.
    """
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environ or {})}
    )
    assert process.stdout is not None
    peak = _Peak(process.pid)
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    rss_bytes = peak.end()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(argv), output)
    return Run(wall_s, usage.ru_utime + usage.ru_stime, rss_bytes, output)


class _Peak:
    """Watches a process's peak memory. ``ru_maxrss`` would not do: on Linux it begins with what the
    parent had when it forked."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._peak_bytes = 0
        self._thread = threading.Thread(target=self._watch, name="peak")
        self._thread.start()

    def end(self) -> int:
        """The most that was seen, in bytes."""
        self._ended.set()
        self._thread.join()
        return self._peak_bytes

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            try:
                self._peak_bytes = max(self._peak_bytes, peak_rss_bytes(self._pid))
            except (OSError, AssertionError, ValueError):
                return  # it has ended


def headwater(*arguments: object) -> list[str]:
    """The command line of ``headwater``, as where it is installed without its tests."""
    return [sys.executable, "-c", _HEADWATER, *map(str, arguments)]


@dataclass(frozen=True, slots=True)
class Stage:
    """A running origin and edge."""

    local: Local
    origin: str
    edge: str

    def publish(self, file: Path, model: str, channel: str = DEFAULT_CHANNEL) -> tuple[str, Run]:
        """Publish a file by the command; its revision, and what that took."""
        state = self.local.state
        run = timed(
            headwater(
                *("publish", file, "--model", model, "--channel", channel),
                *("--no-parity", "--json"),
                *("--origin", self.origin, "--token-file", state.admin_token),
                *("--state-dir", state.root),
            )
        )
        return json.loads(run.output)["revision"], run

    def pull(self, model: str, to: Path, *sources: str) -> Run:
        """Pull a model by the command."""
        root = self.local.state.trust_root
        return timed(
            headwater(
                *("pull", model, "--json", "--from", ",".join(sources or (self.edge,))),
                *("--trust-root", root, "--to", to),
            )
        )

    def file_url(self, revision: str, name: str) -> str:
        """A file of a revision at the edge."""
        return f"{self.edge}/artifacts/files/{revision}/{name}"


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """An origin and an edge below ``folder``."""
    async with Local(folder / "state") as local:
        origin = await local.start("origin")
        await local.ready("origin")
        edge = await local.start("edge")
        await local.ready("edge")
        yield Stage(local, origin, edge)


@asynccontextmanager
async def nginx(root: Path, folder: Path) -> AsyncIterator[str | None]:
    """nginx serving a folder by sendfile; its URL, or None where it is not installed."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        yield None
        return
    port = free_port()
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    config = folder / "nginx.conf"
    user = " user root;" if os.geteuid() == 0 else ""
    config.write_text(_NGINX.format(folder=folder, port=port, root=root, user=user))
    async with program([binary, "-c", str(config), "-p", str(folder)], port):
        yield f"http://127.0.0.1:{port}"


def installed(name: str) -> str | None:
    """A peer's program, beside this Python or on PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)
