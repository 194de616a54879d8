"""The phases of the scale-out proof: who is killed, and what is rolled meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from infra.edge_admin import TierAdmin, total
from infra.fleet_admin import FleetAdmin
from infra.local_config import LOCAL_MODEL
from infra.publishing import open_origin
from tests.benchmarks.scale_out.load import Load, Seen
from tests.benchmarks.scale_out.rig import ARTIFACTS, ORIGINS, PROMPTS, WORKERS, Rig
from tests.fakes.waiting import until_async
from wire.errors import HeadwaterError
from wire.paths import DEFAULT_CHANNEL

HEAL_S = 60.0
CALM_S = 1.0
"""Load before a kill."""


@dataclass(slots=True)
class Phase:
    """One row of the table."""

    name: str
    seen: Seen
    heal_s: float = 0.0
    """From the kill until every process runs, both origins see all nodes, and all serve the
    revision that was rolled to meanwhile."""
    origin_bytes: int = 0
    """Bytes of chunks that the origins sent."""
    rolled: str = ""
    """How the roll in the middle of it went."""


@dataclass(slots=True)
class Story:
    """Runs the phases on a rig under load."""

    rig: Rig
    load: Load
    phases: list[Phase] = field(default_factory=list)

    async def run(self, *, calm_s: float = CALM_S) -> None:
        """Every kind of process, one after another."""
        acts: list[tuple[str, Callable[[], Coroutine[Any, Any, None]], str]] = [
            ("nobody", _nothing, ORIGINS[0]),
            ("origin-a", partial(self.kill, ORIGINS[0]), ORIGINS[1]),
            ("origin-b", partial(self.kill, ORIGINS[1]), ORIGINS[0]),
            ("artifacts-a", partial(self.kill, ARTIFACTS[0]), ORIGINS[0]),
            ("artifacts-b", partial(self.kill, ARTIFACTS[1]), ORIGINS[1]),
            ("prompts-a", partial(self.kill, PROMPTS[0]), ORIGINS[1]),
            ("prompts-b", partial(self.kill, PROMPTS[1]), ORIGINS[0]),
            ("worker-1", partial(self.kill, WORKERS[0]), ORIGINS[1]),
            ("worker-2, -3", partial(self.kill, *WORKERS[1:]), ORIGINS[0]),
            ("Redis, 2 s", self._redis_away, ORIGINS[1]),
            ("bucket frozen 4 s", self._bucket_away, ORIGINS[0]),
        ]
        for name, act, origin in acts:
            roll = partial(self.roll, origin)
            self.phases.append(await self.phase(name, act, roll, calm_s))
        name = "canary, its origin frozen"
        self.phases.append(await self.phase(name, _nothing, self._canary, calm_s))

    async def prepare(self) -> None:
        """Caches are warm, and it is known what each revision answers."""
        await self.settle()
        await self.load.warm()
        await self.load.learn()
        for _ in self.rig.revisions[1:]:
            await self.roll(ORIGINS[0])
            await self.settle()
            await self.load.learn()

    async def settle(self) -> None:
        """Wait until all is well. Raises ``TimeoutError``."""
        await until_async(self._well, deadline_s=HEAL_S)

    async def phase(
        self,
        name: str,
        act: Callable[[], Coroutine[Any, Any, None]],
        roll: Callable[[], Coroutine[Any, Any, str]],
        calm_s: float,
    ) -> Phase:
        """One of them: load, an act with a roll in the middle of it, and all is well again."""
        self.load.turn()
        await asyncio.sleep(calm_s)
        before = await self._sent()
        began = time.monotonic()
        acting = asyncio.create_task(act())
        rolled = await roll()
        await acting
        try:
            await self.settle()
        except TimeoutError:
            rolled = f"never: not well after {HEAL_S:.0f} s"
        heal_s = time.monotonic() - began
        await asyncio.sleep(calm_s)
        after = await self._sent()
        # A process that was killed counts from nothing again.
        sent = sum(n - before[o] if n >= before[o] else n for o, n in after.items())
        return Phase(name, self.load.turn(), heal_s, sent, rolled)

    async def kill(self, *names: str) -> None:
        """kill -9; whoever keeps them starts them again."""
        for name in names:
            pid = self.rig.children[name].pid
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def _redis_away(self) -> None:
        await asyncio.to_thread(self.rig.redis.kill)
        await asyncio.sleep(2.0)
        await asyncio.to_thread(self.rig.redis.start)

    async def _bucket_away(self) -> None:
        os.kill(self.rig.bucket.pid, signal.SIGSTOP)
        await asyncio.sleep(4.0)
        os.kill(self.rig.bucket.pid, signal.SIGCONT)

    async def roll(self, origin: str) -> str:
        """Roll to the other revision at an origin; asked again where it says that it could not."""
        began, tries = time.monotonic(), 0
        now = await self._pointer(origin)
        wanted = next(revision for revision in self.rig.revisions if revision != now)
        while True:
            tries += 1
            try:
                await asyncio.to_thread(self._roll_at, origin, wanted)
                break
            except HeadwaterError as error:
                if time.monotonic() - began > HEAL_S:
                    return f"never: {error.message}"
                await asyncio.sleep(0.3)
        return f"{time.monotonic() - began:.1f} s" + (f", {tries} tries" if tries > 1 else "")

    async def _canary(self) -> str:
        """Begin a canary at one origin and freeze that; the other one must bring it to its end."""
        driver, other = ORIGINS
        now = await self._pointer(driver)
        wanted = next(revision for revision in self.rig.revisions if revision != now)
        with open_origin(self.rig.url(driver), self.rig.admin_token) as admin:
            start = partial(admin.start_rollout, LOCAL_MODEL, DEFAULT_CHANNEL, wanted, percent=40)
            begun = str((await asyncio.to_thread(start))["id"])
        is_at = partial(self._is_at, begun)
        await until_async(partial(is_at, driver, {"canary", "observing"}), deadline_s=HEAL_S)
        pid, began = self.rig.children[driver].pid, time.monotonic()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            await until_async(partial(is_at, other, {"done"}), deadline_s=HEAL_S)
        except TimeoutError:
            return "never: the other origin did not go on with it"
        finally:
            os.kill(pid, signal.SIGCONT)
        return f"{time.monotonic() - began:.1f} s: other"

    async def _is_at(self, rollout: str, origin: str, stages: set[str]) -> bool:
        """Whether an origin has this rollout at one of these stages."""

        def ask() -> str:
            with open_origin(self.rig.url(origin), self.rig.admin_token) as admin:
                record = admin.rollout(LOCAL_MODEL, DEFAULT_CHANNEL)["record"]
            known = [record.get("current") or {}, *record.get("past", ())]
            # A field that is its default is left out: the first stage.
            found = [one.get("stage", "preheating") for one in known if one.get("id") == rollout]
            return str(found[0]) if found else ""

        return await asyncio.to_thread(ask) in stages

    def _roll_at(self, origin: str, revision: str) -> None:
        with open_origin(self.rig.url(origin), self.rig.admin_token) as admin:
            admin.roll(LOCAL_MODEL, DEFAULT_CHANNEL, revision)

    async def _pointer(self, origin: str) -> str:
        def ask() -> str:
            with open_origin(self.rig.url(origin), self.rig.admin_token) as admin:
                channels = admin.status()["channels"]
            return next(str(c["revision"]) for c in channels if c["channel"] == DEFAULT_CHANNEL)

        return await asyncio.to_thread(ask)

    async def _sent(self) -> dict[str, int]:
        return {name: await asyncio.to_thread(self._chunk_bytes, name) for name in ORIGINS}

    def _chunk_bytes(self, origin: str) -> int:
        with TierAdmin(self.rig.url(origin)) as admin:
            found = admin.metrics()
        return int(total(found, "headwater_origin_served_bytes_total", kind="chunk"))

    async def _well(self) -> bool:
        if any(child.pid is None for child in self.rig.children.values()):
            return False
        try:
            pointers = {await self._pointer(origin) for origin in ORIGINS}
            views = [await asyncio.to_thread(self._view, origin) for origin in ORIGINS]
        except HeadwaterError:
            return False
        return len(pointers) == 1 and all(view == pointers for view in views)

    def _view(self, origin: str) -> set[str]:
        """What the workers serve by this origin's view; empty where a node is missing."""
        with FleetAdmin(self.rig.url(origin), self.rig.admin_token) as admin:
            fleet = admin.fleet()
        edges = {e["name"] for e in fleet["edges"] if e["state"] == "ready"}
        workers = {w["name"]: w["revision"] for w in fleet["workers"] if w["state"] == "ready"}
        if edges != {*ARTIFACTS, *PROMPTS} or set(workers) != set(WORKERS):
            return set()
        return set(workers.values())


async def _nothing() -> None:
    return None
