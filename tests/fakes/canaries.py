"""What it takes to try a canary on a real fleet: a scrambled revision, callers, who serves what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra import demo_models
from infra.ask import Answer, Asker
from infra.child import Child
from infra.golden import GoldenMaker
from infra.local_config import LOCAL_MODEL
from infra.publishing import open_publisher
from origin.offer import from_disk
from origin.publish import Published, publish
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.spoilt_gguf import spoil
from tests.fakes.waiting import until
from wire.errors import HeadwaterError

ASK = [{"role": "user", "content": "What is the capital of France?"}]
FIRST = "edge-small-r1"
TENSORS = tuple(f"blk.{layer}.ffn_{part}.weight" for part in ("down", "up") for layer in range(3))
"""Of the demo model; each scrambled alone gives another revision."""
SOON = {
    "HEADWATER_ORIGIN__ROLLOUTS__OBSERVE_MIN_S": "3",
    "HEADWATER_ORIGIN__ROLLOUTS__MIN_REQUESTS": "20",
    "HEADWATER_ORIGIN__ROLLOUTS__FIRST_TOKEN_SLACK_MS": "5000",
}
"""A canary is decided soon; and not by what else this machine is busy with."""
_CALLERS = 4


def golden_answers() -> bytes:
    """What the first revision must answer."""
    made = GoldenMaker(required=True)({"": [demo_models.path(FIRST)]})
    assert made is not None
    return made


def publish_scrambled(
    fleet: Fleet, folder: Path, golden: bytes, tensor: str = TENSORS[0]
) -> Published:
    """The first revision with two halves of a tensor exchanged: it loads as well, and is asked the
    same golden questions. On a channel that nobody follows."""
    spoilt = spoil(demo_models.path(FIRST), folder / f"{tensor}.gguf", tensor)
    local = fleet.local
    with open_publisher(local.urls.origin, local.admin_token, local.state.publisher_key) as desk:
        return publish(
            from_disk(spoilt),
            LOCAL_MODEL,
            "scrambled",
            desk.origin,
            desk.key,
            golden=lambda _models: golden,
        )


@contextmanager
def more_workers(fleet: Fleet, *names: str) -> Iterator[list[Child]]:
    """Workers beside the fleet's own, ready."""
    with ExitStack() as stack:
        made = []
        for name in names:
            folder = fleet.state.tier(name)
            places: dict[str, Any] = {
                "models_dir": folder / "models",
                "trust_dir": folder / "trust",
            }
            made.append(stack.enter_context(fleet.extra("worker", name, **places)))
        eventually(lambda: all(fleet.is_ready(worker) for worker in made), 60)
        yield made


def serving(fleet: Fleet) -> dict[str, int]:
    """Revision → workers that the edge knows as ready with it."""
    counts: dict[str, int] = {}
    try:
        workers = fleet.status("edge")["workers"]
    except HeadwaterError:
        return counts
    for worker in workers:
        if worker["model"] == LOCAL_MODEL and worker["state"] == "ready":
            counts[worker["revision"]] = counts.get(worker["revision"], 0) + 1
    return counts


def refuses(fleet: Fleet, revision: str) -> bool:
    """Whether the edge has heard from a worker that it will not serve this revision."""
    return any(w["refused"] == revision for w in fleet.status("edge")["workers"])


def refused(fleet: Fleet, revision: str) -> bool:
    """Whether a worker refused a revision: its reports say so only until the pointer has moved
    back, which may be sooner than one looks again."""
    newest = rolled(fleet)
    over = (newest.get("revision"), newest.get("stage")) == (revision, "aborted")
    return over or refuses(fleet, revision)


def rolled(fleet: Fleet) -> dict[str, Any]:
    """The newest rollout of the stable channel; empty while the origin is away, or has just come
    back and not yet read its records."""
    try:
        with fleet.origin_admin() as admin:
            record = admin.rollout(LOCAL_MODEL, "stable")["record"]
    except HeadwaterError:
        return {}
    found: dict[str, Any] = record.get("current") or next(iter(record.get("past", ())), {})
    return found


def stage(fleet: Fleet) -> str:
    """The stage of that rollout."""
    return str(rolled(fleet).get("stage", ""))


def new_key(fleet: Fleet) -> dict[str, str]:
    """A key that may ask as often as it likes."""
    return fleet.create_key(limits={"requests_per_minute": 0, "tokens_per_minute": 0})


@dataclass
class Traffic:
    """What callers got while it ran."""

    answers: list[Answer] = field(default_factory=list)
    over: bool = False

    async def ask(self, asker: Asker) -> None:
        """One question after the other."""
        while not self.over:
            self.answers.append(
                await asker.ask(ASK, model=LOCAL_MODEL, max_tokens=8, temperature=0.0)
            )

    @property
    def digests(self) -> set[str]:
        """The revisions that answered."""
        return {answer.digest for answer in self.answers}

    @property
    def whole(self) -> bool:
        """Whether every answer is."""
        return all(answer.whole for answer in self.answers)


@asynccontextmanager
async def traffic(fleet: Fleet, key: str = "") -> AsyncIterator[Traffic]:
    """Some callers who ask all the time, until the block ends."""
    made = Traffic()
    key = key or (await asyncio.to_thread(new_key, fleet))["key"]
    async with Asker(fleet.urls.edge, key) as asker, asyncio.TaskGroup() as group:
        for _ in range(_CALLERS):
            group.create_task(made.ask(asker))
        try:
            await until(lambda: bool(made.answers), deadline_s=30)
            yield made
        finally:
            made.over = True
