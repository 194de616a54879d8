"""The hook against Fast Purge over loopback, which checks signatures and keeps its limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from origin.purge_config import PurgeConfig, PurgeTarget
from origin.purge_hook import PurgeHook, open_hook
from origin.purge_requests import TAGS_A_PURGE
from tests.fakes.ccu import ACCESS_TOKEN, CLIENT_TOKEN, EDGERC, SECRET, Ccu, ccu
from tests.fakes.waiting import until
from wire.errors import ConfigError
from wire.events import EventKind
from wire.files import write_atomically
from wire.http_access import tag_headers

CHANNEL = "channel:chat@stable"
LONG = f"channel:{'m' * 96}@{'c' * 96}"
QUICK = PurgeConfig(
    hold_s=60.0, timeout_s=60.0, retry_min_s=0.01, retry_max_s=0.02, rate_limited_s=0.03, attempts=3
)


@dataclass
class Hub:
    told: list[tuple[str, ...]] = field(default_factory=list)

    def publish(self, kind: EventKind, keys: Iterable[str], *, hard: bool = False) -> None:
        self.told.append(tuple(keys))


@dataclass
class Rig:
    """The hook in an application, with the API that it tells."""

    hook: PurgeHook
    ccu: Ccu
    hub: Hub
    registry: CollectorRegistry

    def count(self, outcome: str, target: str = "akamai:default/production") -> float:
        labels = {"target": target, "outcome": outcome}
        return self.registry.get_sample_value("headwater_origin_purges_total", labels) or 0.0


def target_of(folder: Path, url: str, **changes: Any) -> PurgeTarget:
    write_atomically(folder / ".edgerc", EDGERC.encode())
    made = PurgeTarget(url=url, style="akamai", token_file=folder / ".edgerc")
    return replace(made, **changes)


@asynccontextmanager
async def rig(folder: Path, config: PurgeConfig = QUICK, **changes: Any) -> AsyncIterator[Rig]:
    async with ccu() as api:
        hub, registry = Hub(), CollectorRegistry()
        config = replace(config, targets=(target_of(folder, api.url, **changes),))
        hook = open_hook(hub, config, registry, lambda: 1)
        app = web.Application()
        hook.add_to(app)
        async with TestServer(app):
            yield Rig(hook, api, hub, registry)


async def test_a_roll_is_invalidated_and_a_takedown_deleted(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        one.hook.publish("channel", ["trust", CHANNEL, LONG])
        one.hook.publish("purge", ["revision:" + "0a" * 32], hard=True)
        await until(lambda: len(one.hub.told) == 2)
        assert one.ccu.refused == []
        assert one.count("done") == 4
        assert one.ccu.tags("delete") == {"revision~" + "0a" * 32}
        assert {"trust", "channel~chat~stable"} <= one.ccu.tags("invalidate")


@pytest.mark.parametrize("key", [CHANNEL, LONG, "trust", "chunk:" + "0a" * 32])
async def test_what_is_purged_is_what_answers_are_filed_under(tmp_path: Path, key: str) -> None:
    async with rig(tmp_path) as one:
        one.hook.publish("channel", [key])
        await until(lambda: one.count("done") == 1)
        (tag,) = one.ccu.tags("invalidate")
        assert tag in tag_headers(key)["Edge-Cache-Tag"].split(",")


async def test_a_reset_purges_what_every_answer_is_filed_under(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        one.hook.publish("reset", ["*"])
        await until(lambda: one.count("done") == 1)
        (tag,) = one.ccu.tags("invalidate")
        assert tag in tag_headers(CHANNEL)["Edge-Cache-Tag"].split(",")


async def test_a_network_and_a_section(tmp_path: Path) -> None:
    async with rig(tmp_path, network="staging") as one:
        one.hook.publish("channel", [CHANNEL])
        await until(lambda: one.count("done", "akamai:default/staging") == 1)
        assert one.ccu.tags("invalidate", "staging") == {"channel~chat~stable"}
    with pytest.raises(ConfigError, match=r"no section \[ccu\]"):
        async with rig(tmp_path, section="ccu"):
            pass


async def test_a_large_takedown_is_told_as_fast_as_akamai_lets_it(tmp_path: Path) -> None:
    """More tags than it takes at once, each as long as can be, and no attempt is lost by it."""
    keys = [f"channel:{'m' * 60}@{n:055d}" for n in range(3 * TAGS_A_PURGE)]
    async with rig(tmp_path) as one:
        one.ccu.tokens = TAGS_A_PURGE
        one.hook.publish("purge", keys, hard=True)
        await until(lambda: one.ccu.limited > QUICK.attempts)
        assert one.count("done") == TAGS_A_PURGE
        assert one.count("failed") == 0
        before = one.ccu.requests
        while one.count("done") < len(keys):
            one.ccu.tokens = TAGS_A_PURGE
            done = one.count("done")
            await until(lambda: one.count("done") > done)  # noqa: B023
        assert one.ccu.requests - before < 20
        assert len(one.ccu.tags("delete")) == len(keys)
        assert one.ccu.refused == []


async def test_credentials_that_do_not_fit_are_told_and_never_shown(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        wrong = EDGERC.replace(SECRET, "another-secret")
        write_atomically(tmp_path / ".edgerc", wrong.encode())
        config = replace(
            QUICK,
            targets=(
                PurgeTarget(url=one.ccu.url, style="akamai", token_file=tmp_path / ".edgerc"),
            ),
        )
        registry = CollectorRegistry()
        hook = open_hook(one.hub, config, registry, lambda: 1)
        app = web.Application()
        hook.add_to(app)
        with capture_logs() as logs:
            async with TestServer(app):
                hook.publish("channel", [CHANNEL])
                labels = {"target": "akamai:default/production", "outcome": "failed"}
                name = "headwater_origin_purges_total"
                await until(lambda: registry.get_sample_value(name, labels) == 1)
    assert set(one.ccu.refused) == {"the signature does not match"}
    assert "status 401: not the secret or credentials" in str(logs)
    for secret in ("another-secret", CLIENT_TOKEN, ACCESS_TOKEN):
        assert secret not in str(logs)


def test_without_a_url_the_files_host_is_told(tmp_path: Path) -> None:
    config = replace(QUICK, targets=(target_of(tmp_path, ""),))
    open_hook(Hub(), config, CollectorRegistry(), lambda: 1)
    config = replace(QUICK, targets=(target_of(tmp_path, "https://host/path"),))
    with pytest.raises(ConfigError, match=r"akamai:default/production.*without a path"):
        open_hook(Hub(), config, CollectorRegistry(), lambda: 1)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    config = replace(QUICK, targets=(target_of(tmp_path, ""),))
    (tmp_path / ".edgerc").chmod(0o644)
    with pytest.raises(ConfigError, match="readable by others"):
        open_hook(Hub(), config, CollectorRegistry(), lambda: 1)
