"""A region cut off from its origin, with clocks that are wrong: days of it, in seconds.

The edge and the worker here are real processes; only the wall clock that they look at is set by the
test, also while they run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from infra.ask import Answer, Asker
from infra.child import Child
from infra.edge_admin import TierAdmin
from infra.local_config import LOCAL_MODEL
from tests.fakes.fleet import Fleet, eventually, tier_status
from wire.errors import HeadwaterError

ASK = [{"role": "user", "content": "What is the capital of France?"}]
HOUR_S = 3_600
DAY_S = 24 * HOUR_S
NOBODY = "http://127.0.0.1:9"


class Region:
    """One edge and one worker with disks and a clock of their own."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.clock = folder / "clock"
        self.set_clock(0)
        self._folder = folder
        self._stack = ExitStack()
        self.edge: Child | None = None
        self.worker: Child | None = None

    def set_clock(self, off_s: float) -> None:
        new = self.clock.with_suffix(".new")
        new.write_text(str(off_s))
        new.replace(self.clock)

    def start_edge(self) -> Child:
        folder = self._folder / "edge"
        self.edge = self._stack.enter_context(
            self.fleet.extra(
                "edge",
                "region-edge",
                self.clock,
                cache__folder=folder / "cache",
                trust_dir=folder / "trust",
                refresh_s=0.5,
            )
        )
        return self.edge

    def start_worker(self, *, network: bool = True) -> Child:
        assert self.edge is not None
        folder = self._folder / "worker"
        self.worker = self._stack.enter_context(
            self.fleet.extra(
                "worker",
                "region-worker",
                self.clock,
                sources=[self.edge.url if network else NOBODY],
                heartbeat_to=[self.edge.url] if network else [],
                trust_dir=folder / "trust",
                models_dir=folder / "models",
                revalidate_s=0.5,
            )
        )
        return self.worker

    def stop(self) -> None:
        self._stack.close()

    def report(self) -> dict[str, Any]:
        assert self.worker is not None
        return dict(self.fleet.extra_status(self.worker))

    def serves(self) -> bool:
        """Whether the edge knows its worker as ready."""
        assert self.edge is not None
        try:
            workers = tier_status(self.edge.url, self.fleet.local.admin_token)["workers"]
        except HeadwaterError:
            return False
        return [w["state"] for w in workers] == ["ready"]

    def trust(self) -> set[str]:
        """What edge and worker say of their trust."""
        assert self.edge is not None
        edge = tier_status(self.edge.url, self.fleet.local.admin_token)["trust"]["state"]
        return {edge, self.report()["trust"]["state"]}

    async def ask(self) -> Answer:
        assert self.edge is not None
        async with Asker(self.edge.url, self.fleet.local.api_key) as asker:
            return await asker.ask(ASK, model=LOCAL_MODEL, temperature=0.0, max_tokens=32)


@pytest.fixture
def region(fleet: Fleet, tmp_path: Path) -> Iterator[Region]:
    """A region that has served the stable revision, and whose origin is away since."""
    region = Region(fleet, tmp_path)
    origin = fleet.child("origin")
    try:
        region.start_edge()
        region.start_worker()
        eventually(region.serves)
        assert region.trust() == {"fresh"}
        fleet.call(origin.stop())
        yield region
    finally:
        region.stop()
        if origin.pid is None:
            back(fleet)


def back(fleet: Fleet) -> None:
    """The origin is there again."""
    origin = fleet.child("origin")
    fleet.call(origin.start())
    fleet.call(origin.ready())


async def test_a_day_without_an_origin_serves_within_the_grace_and_says_so(region: Region) -> None:
    region.set_clock(26 * HOUR_S)
    eventually(lambda: region.trust() == {"expired_within_grace"})
    eventually(lambda: "expired" in region.report()["report"]["reason"])
    assert (await region.ask()).whole
    for tier in (region.edge, region.worker):
        assert tier is not None
        with TierAdmin(tier.url) as admin:
            assert admin.metrics()["headwater_trust_state"] == 1

    # Both start again from their disks, without the origin and with that clock.
    region.stop()
    region.start_edge()
    region.start_worker()
    eventually(region.serves)
    boot = region.report()["waterfalls"][0]
    assert (boot["from_disk"], boot["from_network"]) == (boot["size"], 0)
    assert (await region.ask()).whole

    # Everything heals by itself.
    back(region.fleet)
    region.set_clock(0)
    eventually(lambda: region.trust() == {"fresh"})
    eventually(lambda: region.report()["report"]["reason"] == "")


async def test_beyond_the_grace_what_runs_goes_on_and_nothing_new_starts(region: Region) -> None:
    region.set_clock(9 * DAY_S)
    eventually(lambda: region.trust() == {"beyond_grace"})
    assert region.serves()
    assert (await region.ask()).whole

    region.stop()
    region.start_edge()
    region.start_worker()
    eventually(lambda: "grace" in region.report()["report"]["reason"])
    assert region.report()["report"]["state"] == "booting"

    # Once the clock is right again nobody has to touch it.
    region.set_clock(0)
    eventually(region.serves)
    assert (await region.ask()).whole
    back(region.fleet)
    eventually(lambda: region.trust() == {"fresh"})


async def test_a_clock_a_day_behind_neither_stops_nor_fools_anybody(region: Region) -> None:
    region.set_clock(-26 * HOUR_S)
    region.stop()
    region.start_edge()
    region.start_worker()
    eventually(region.serves)
    assert (await region.ask()).whole
    back(region.fleet)
    eventually(lambda: region.report()["report"]["reason"] == "")
    assert region.trust() == {"fresh"}


async def test_a_worker_without_any_network_boots_from_its_disk(region: Region) -> None:
    revision = region.report()["report"]["revision"]
    region.set_clock(26 * HOUR_S)
    region.stop()
    region.start_edge()
    worker = region.start_worker(network=False)
    eventually(lambda: region.fleet.is_ready(worker))
    report = region.report()["report"]
    assert report["revision"] == revision
    assert "not reachable" in report["reason"] or "unavailable" in report["reason"]
    assert region.report()["trust"]["state"] == "expired_within_grace"
