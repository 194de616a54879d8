"""The whole system on loopback, for system tests: the launcher's own processes, in a test's hands.

The launcher lives on an event loop in a thread of its own, so that one running fleet serves
blocking tests and asynchronous ones alike. Nothing here stands in for anything: files, processes,
engine and clients are real.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from openai import AsyncOpenAI, OpenAI

from infra.ask import Asker
from infra.child import Child, Program
from infra.demo_models import path as demo_file
from infra.edge_admin import EdgeAdmin, TierAdmin, total
from infra.fleet_admin import FleetAdmin
from infra.local import Local, child_environment
from infra.local_config import LOCAL_MODEL, Urls
from infra.publishing import open_origin, open_publisher
from infra.pulling import Pulled, pull_model
from infra.state import StateDir, read_secret
from origin.publish import OriginAdmin, Published
from tests.fakes.processes import engine_of
from wire.bundle import CARD_PATH, ModelCard, decode_card
from wire.errors import HeadwaterError
from wire.http_client import BlockingClient
from wire.manifest import MAX_MANIFEST_BYTES, Manifest, decode
from wire.paths import DEFAULT_CHANNEL, FILES, manifest_path

T = TypeVar("T")
Tier = Literal["origin", "cloud", "edge", "worker"]
MODULES = {"edge": "edge_tier", "worker": "gpu_worker"}
CLOCK_OFF = Path(__file__).with_name("clock_off")
HEAL_S = 60.0


class Fleet:
    """Origin, cloud, edge and worker below one folder.

    Args:
        folder: the state directory.
        environ: settings of the tiers, over this process's environment.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fleet")
        self.environ = {**os.environ, **environ}
        self.local = Local(folder, environ=self.environ)
        self._lifeline, self._lifeline_end = os.pipe()
        self._client: OpenAI | None = None

    def start(self) -> None:
        """Start everything; returns when it serves prompts."""
        self._thread.start()
        try:
            self.call(self.local.__aenter__())
            self.call(self.local.up())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything in order."""
        try:
            if self._client is not None:
                self._client.close()
            self.call(self.local.__aexit__(None, None, None))
            self.call(self._loop.shutdown_default_executor())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            os.close(self._lifeline_end)
            os.close(self._lifeline)

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float = 150.0) -> T:
        """Run a coroutine where the launcher lives."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    @property
    def urls(self) -> Urls:
        return self.local.urls

    @property
    def state(self) -> StateDir:
        return self.local.state

    def child(self, tier: Tier) -> Child:
        """The tier's process."""
        return next(child for child in self.local.children() if child.name == tier)

    def pid(self, tier: Tier) -> int:
        """The tier's process id. Fails where it does not run."""
        pid = self.child(tier).pid
        assert pid is not None, f"{tier} does not run"
        return pid

    def kill(self, tier: Tier) -> int:
        """kill -9; the launcher will start it again. The id that it had."""
        pid = self.pid(tier)
        os.kill(pid, signal.SIGKILL)
        return pid

    def is_back(self, tier: Tier, killed: int) -> bool:
        """Whether another process took the killed one's place, and is ready."""
        child = self.child(tier)
        return child.pid not in {killed, None} and self._ready(child)

    def engine_pid(self) -> int:
        """The process that holds the worker's llama.cpp."""
        return engine_of(self.pid("worker"))

    # What the tiers say.

    def status(self, tier: Tier) -> dict[str, Any]:
        """``/admin/status``."""
        files = {"worker": self.state.worker_token, "cloud": self.state.cloud_token}
        token = read_secret(files.get(tier, self.state.admin_token))
        return tier_status(getattr(self.urls, tier), token)

    def metric(self, tier: Tier, name: str, **labels: str) -> float:
        """A metric's sum over all samples with these labels."""
        with TierAdmin(getattr(self.urls, tier)) as admin:
            return total(admin.metrics(), name, **labels)

    def revision(self, model: str = LOCAL_MODEL, channel: str = DEFAULT_CHANNEL) -> str:
        """Where the origin points a channel."""
        pointers = self.status("origin")["channels"]
        found = [p for p in pointers if (p["model"], p["channel"]) == (model, channel)]
        return str(found[0]["revision"])

    def manifest(self, revision: str) -> Manifest:
        """A published manifest, from the origin."""
        body = get(self.urls.origin, manifest_path(revision), MAX_MANIFEST_BYTES)
        return decode(body, revision)

    def file(self, revision: str, path: str) -> bytes:
        """A published file, from the edge."""
        return get(self.urls.edge, f"{FILES}/{revision}/{path}", 1 << 28)

    def card(self, model: str = LOCAL_MODEL) -> ModelCard:
        """The signed card of a model's stable revision."""
        return decode_card(self.file(self.revision(model), CARD_PATH))

    # What one does with it.

    def publish(self, file: Path, model: str, channel: str = DEFAULT_CHANNEL) -> Published:
        """As ``headwater publish`` does; where it is the stable channel, the edge knows it then."""
        admin, key = self.local.admin_token, self.state.publisher_key
        with open_publisher(self.urls.origin, admin, key) as desk:
            published = desk.publish(file, model, channel)
        if channel == DEFAULT_CHANNEL:
            eventually(lambda: self.offers(model, published.revision))
        return published

    def offers(self, model: str, revision: str) -> bool:
        """Whether the edge has heard that a stable channel points to a revision."""
        return bool(self.status("edge")["models"].get(model) == revision)

    def publish_demo(self, name: str, channel: str) -> Published:
        """Publish one of the shipped files as a revision of the local model."""
        return self.publish(demo_file(name), LOCAL_MODEL, channel)

    @contextmanager
    def origin_admin(self) -> Iterator[OriginAdmin]:
        """The origin's administrative API."""
        with open_origin(self.urls.origin, self.local.admin_token) as admin:
            yield admin

    def roll(self, revision: str, model: str = LOCAL_MODEL) -> None:
        """Point the stable channel at a revision."""
        with self.origin_admin() as admin:
            admin.roll(model, DEFAULT_CHANNEL, revision)

    def pull(self, model: str, folder: Path, *urls: str) -> Pulled:
        """As ``headwater pull`` does; from the edge where no URL is given."""
        sources = urls or (self.urls.edge,)
        root = self.state.trust_root
        with ThreadPoolExecutor(1) as pool:  # a test may have a running loop
            work = pull_model(model, DEFAULT_CHANNEL, sources, folder, root)
            return pool.submit(asyncio.run, work).result()

    def create_key(self, **request: Any) -> dict[str, str]:
        """An API key: ``key_id`` and ``key``."""
        with EdgeAdmin(self.urls.edge, self.local.admin_token) as admin:
            return admin.create_key({"tenant": "system-test", **request})

    @contextmanager
    def openai(self, key: str = "") -> Iterator[OpenAI]:
        """The official client, which tries once. All share one pool: it is slow to make."""
        if self._client is None:
            self._client = OpenAI(
                api_key=self.local.api_key, base_url=f"{self.urls.edge}/v1", max_retries=0
            )
        yield self._client.with_options(api_key=key) if key else self._client

    def async_openai(self) -> AsyncOpenAI:
        """The same for asynchronous tests."""
        return AsyncOpenAI(
            api_key=self.local.api_key, base_url=f"{self.urls.edge}/v1", max_retries=0
        )

    def asker(self) -> Asker:
        """The project's own client, which tells whether an answer is whole."""
        return Asker(self.urls.edge, self.local.api_key)

    def endless(self, max_tokens: int = 1_500) -> dict[str, Any]:
        """Fields of a request whose answer ends at ``max_tokens`` and not before."""
        ends = {token.id for token in self.card().control_literals}
        return {
            "logit_bias": {str(token): -100 for token in ends},
            "max_tokens": max_tokens,
            "temperature": 0.0,
        }

    def settled(self) -> bool:
        """Whether everything runs, and the edge knows the worker as idle at the signed revision."""
        if any(child.pid is None for child in self.local.children()):
            return False
        try:
            revision, edge = self.revision(), self.status("edge")
            report = self.status("worker")["report"]
        except HeadwaterError:
            return False
        known = [w for w in edge["workers"] if w["url"] == self.urls.worker]
        return (
            [(w["state"], w["revision"]) for w in [*known, report]] == [("ready", revision)] * 2
            and edge["models"][LOCAL_MODEL] == revision
            and report["busy"] == 0
            and self._misses_nobody()
        )

    def _misses_nobody(self) -> bool:
        """Whether the origin misses none; nodes of a test that ended in silence are forgotten."""
        try:
            with FleetAdmin(self.urls.origin, self.local.admin_token) as admin:
                view = admin.fleet()
                missing = {
                    node["name"]
                    for node in [*view["edges"], *view["workers"]]
                    if node["state"] == "missing"
                }
                for name in missing - {"edge", "worker"}:
                    admin.forget(name)
        except HeadwaterError:
            return False
        return not missing

    def settle(self) -> None:
        """Wait until the fleet is as it was after its start."""
        eventually(self.settled, HEAL_S)

    def _ready(self, child: Child) -> bool:
        try:
            with TierAdmin(child.url) as admin:
                return child.pid is not None and not admin.why_not_ready()
        except HeadwaterError:
            return False

    @contextmanager
    def extra(
        self,
        tier: Literal["edge", "worker"],
        name: str,
        clock_off: Path | None = None,
        /,
        **settings: Any,
    ) -> Iterator[Child]:
        """One more edge or worker, kept alive by a ``Child`` of the launcher's.

        Args:
            clock_off: a file with the seconds by which its wall clock is wrong.
            settings: over those of the fleet's own; ``cache__folder`` is in a table.
        """
        ready_file = self.state.run_file(name)
        given = {"name" if tier == "worker" else "fleet__name": name}
        values = {**given, "ready_file": ready_file, "port": 0, **settings}
        environ = child_environment(self.environ, tier) | {
            f"HEADWATER_{tier.upper()}__{key.upper()}": _setting(value)
            for key, value in values.items()
        }
        if clock_off is not None:
            path = os.pathsep.join(filter(None, (str(CLOCK_OFF), environ.get("PYTHONPATH"))))
            environ |= {"PYTHONPATH": path, "CLOCK_OFF_FILE": str(clock_off)}
        program = Program(
            name=name,
            argv=(sys.executable, "-m", MODULES[tier], "--config", str(self.state.config_file)),
            environ=environ,
            folder=self.state.root,
            ready_file=ready_file,
            log=self.state.log(name),
            port=int(values["port"]),
        )
        child = Child(program, self._lifeline)
        try:
            self.call(child.start())
            yield child
        finally:
            self.call(child.stop())

    def extra_status(self, worker: Child) -> dict[str, Any]:
        """``/admin/status`` of a worker from :meth:`extra`."""
        return tier_status(worker.url, read_secret(self.state.worker_token))

    def reason(self, worker: Child) -> str:
        """Why the last boot or roll of such a worker failed."""
        return str(self.extra_status(worker)["report"]["reason"])

    def extra_metric(self, child: Child, name: str, **labels: str) -> float:
        """A metric of a tier from :meth:`extra`."""
        with TierAdmin(child.url) as admin:
            return total(admin.metrics(), name, **labels)

    def is_ready(self, worker: Child) -> bool:
        """Whether a worker from :meth:`extra` serves; one that is just starting again does not."""
        try:
            return str(self.extra_status(worker)["report"]["state"]) == "ready"
        except HeadwaterError:
            return False

    def logs(self, lines: int = 8) -> str:
        """The end of every log."""
        found = sorted(self.state.log("edge").parent.glob("*.log"))
        tails = {log.stem: log.read_text(errors="replace").splitlines()[-lines:] for log in found}
        return "\n".join(f"--- {name}\n" + "\n".join(tail) for name, tail in tails.items())


def eventually(condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
    """Return as soon as ``condition`` holds. Raises ``TimeoutError`` at the deadline, which only a
    broken program reaches: a busy machine stands still for seconds."""
    end = time.monotonic() + deadline_s
    pause_s = 0.01
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{getattr(condition, '__qualname__', condition)}: not in time")
        time.sleep(pause_s)
        # Asking costs whoever is asked: what takes long is looked at less often.
        pause_s = min(1.3 * pause_s, 0.1)


def tier_status(url: str, token: str) -> dict[str, Any]:
    """``/admin/status`` of a tier."""
    with TierAdmin(url, token) as admin:
        return admin.status()


def get(url: str, path: str, limit_bytes: int) -> bytes:
    """GET one body; anything but 200 fails."""
    client = BlockingClient(url)
    try:
        answer = client.get(path, limit_bytes=limit_bytes)
    finally:
        client.close()
    assert answer.status == 200, f"{path}: {answer.status} {bytes(answer.body[:200])!r}"
    return bytes(answer.body)


def _setting(value: Any) -> str:
    if isinstance(value, list | dict):
        return json.dumps(value)
    return str(value)
