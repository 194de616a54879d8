"""The demo's end: a new revision under running streams, and none of them is cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.ask import Answer, Asker, OnText
from infra.demo.artifacts import (
    publish_file,
    published_figures,
    published_table,
    served,
    worker_status,
)
from infra.demo.prompts import questions
from infra.demo.story import Story, expect
from infra.errors import StepError
from infra.local import Local
from infra.local_config import LOCAL_MODEL
from infra.publishing import open_origin
from infra.render import duration, shares, short, size
from infra.timeline import read_waterfalls, timeline
from wire.errors import HeadwaterError
from wire.paths import DEFAULT_CHANNEL

NEXT_FILE, NEXT_CHANNEL = "edge-small-r2", "next"
STREAMS = 3
"""Streams that run all the time, each followed by the next."""
TIMEOUT_S, POLL_S = 60.0, 0.01
GLIMPSE = 60
"""Characters that are shown of the first of them, and the rest of a token."""
AFTER_FLIP = 2
"""Recitals that each stream still makes after the flip."""


@dataclass(slots=True)
class Recitals:
    """Streams that recite until they are told that the roll is over."""

    asker: Asker
    prompt: str
    answers: list[Answer] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, on_text: OnText) -> None:
        """Recite again and again; a few more times once it is over.

        Args:
            on_text: told the first recital as it comes.
        """
        more = AFTER_FLIP
        while more > 0:
            more -= self.over.is_set()
            messages = [{"role": "user", "content": self.prompt}]
            answer = await self.asker.ask(
                messages, model=LOCAL_MODEL, on_text=on_text, temperature=0.0
            )
            self.answers.append(answer)
            on_text = _silent


class Glimpse:
    """Shows the beginning of a stream, and that there is more.

    Args:
        show: told what is to be shown.
    """

    def __init__(self, show: OnText) -> None:
        self._show = show
        self._left = GLIMPSE

    def __call__(self, text: str) -> None:
        if self._left <= 0:
            return
        self._left -= len(text)
        self._show(text if self._left > 0 else f"{text} …")


def _silent(_text: str) -> None:
    """One recital is enough to look at."""


async def roll_under_load(story: Story, local: Local) -> None:
    """Publish the second revision beside the first, then roll to it while streams run."""
    known = questions()
    fact = known["r2_only"][0]
    async with Asker(local.urls.edge, local.api_key) as asker:
        with story.step("Publish a second revision on a channel of its own") as figures:
            published = await asyncio.to_thread(
                publish_file, local, NEXT_FILE, LOCAL_MODEL, NEXT_CHANNEL
            )
            story.show(published_table([published]))
            figures["published"] = published_figures(published)
            before = await _ask_fact(story, asker, fact["question"])
            figures["before"] = before.text
        with story.step(f"Roll to it while {STREAMS} streams are running") as figures:
            recitals = Recitals(asker, known["recital"]["question"])
            figures |= await _roll(story, local, recitals, published.revision)
        with story.step("Ask what only the new revision knows") as figures:
            after = await _ask_fact(story, asker, fact["question"])
            figures |= {"question": fact["question"], "before": before.text, "after": after.text}
            expect(after.digest == published.revision, "the old revision answered")
            right = fact["expect"]["edge-small-r2"]
            expect(right.lower() in after.text.lower(), f"{after.text[:120]!r} lacks {right!r}")
            expect(right.lower() not in before.text.lower(), "the old revision knew it already")


async def _ask_fact(story: Story, asker: Asker, question: str) -> Answer:
    story.say(f"› {question}", "bold")
    messages = [{"role": "user", "content": question}]
    answer = await asker.ask(
        messages, model=LOCAL_MODEL, on_text=story.stream, max_tokens=64, temperature=0.0
    )
    story.say(f"→ revision {short(answer.digest)}", "dim")
    expect(answer.whole, f"the answer broke off: {answer.error or 'no [DONE]'}")
    return answer


async def _roll(story: Story, local: Local, recitals: Recitals, revision: str) -> dict[str, Any]:
    sent = await asyncio.to_thread(served, local)
    story.say(f"› {recitals.prompt}", "bold")
    flip = await _flip_under(recitals, local, revision, Glimpse(story.stream))
    after = await asyncio.to_thread(served, local)
    fall = (await asyncio.to_thread(worker_status, local))["waterfalls"][-1]
    moved = {tier: after[tier] - sent[tier] for tier in after}
    streams = judge(recitals.answers, revision, flip.seen_s)
    story.show(timeline(*read_waterfalls({"waterfalls": [fall]})))
    parts = {"this disk": fall["from_disk"], "older revision on disk": fall["from_seeds"]}
    story.show(shares(parts | fall["by_source"]))
    story.say(
        f"{size(moved['edge'])} of chunks moved for a model of {size(fall['size'])} "
        f"({moved['edge'] / fall['size']:.1%}); the disk had the rest"
    )
    story.say(
        f"{streams['streams']} streams in all, {streams['over_the_flip']} of them running when the "
        f"revision changed; cut: {streams['cut']}"
    )
    story.say(f"from the roll to the new revision in service: {duration(flip.took_s * 1e3)}")
    expect(streams["cut"] == 0, f"{streams['cut']} streams were cut")
    expect(streams["over_the_flip"] > 0, "no stream was running when the revision changed")
    expect(streams["old_after_flip"] == 0, "the old revision answered after the change")
    expect(streams["new"] > 0, "the new revision never answered")
    expect(moved["edge"] < fall["size"], "the whole model was moved")
    return {"waterfall": fall, "moved_bytes": moved, "streams": streams, "took_s": flip.took_s}


@dataclass(frozen=True, slots=True)
class Flip:
    """When the worker was first seen to serve the new revision, on the monotonic clock, and how
    long that was after the roll."""

    seen_s: float
    took_s: float


async def _flip_under(recitals: Recitals, local: Local, revision: str, on_text: OnText) -> Flip:
    """Flip while the streams run, and wait for the last of them."""
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(STREAMS):
                show = _silent if number else on_text
                group.create_task(recitals.run(show), name=f"recital-{number}")
            flip = await _flip(local, revision)
            recitals.over.set()
    except* HeadwaterError as failures:
        raise StepError(str(failures.exceptions[0])) from failures
    return flip


async def _flip(local: Local, revision: str) -> Flip:
    """Move the channel, and wait until the worker serves the new revision."""
    began = time.monotonic()
    await asyncio.to_thread(_move, local, revision)
    while (now := time.monotonic()) - began < TIMEOUT_S:
        report = (await asyncio.to_thread(worker_status, local))["report"]
        if report["revision"] == revision:
            return Flip(seen_s=time.monotonic(), took_s=time.monotonic() - began)
        expect(not report["reason"], f"the roll failed: {report['reason']}")
        await asyncio.sleep(POLL_S)
    raise StepError(f"the worker did not change its revision within {now - began:.0f} s")


def _move(local: Local, revision: str) -> None:
    with open_origin(local.urls.origin, local.admin_token) as origin:
        origin.roll(LOCAL_MODEL, DEFAULT_CHANNEL, revision)


def judge(answers: Sequence[Answer], revision: str, flip_s: float) -> dict[str, int]:
    """What the streams show: how many, how many cut, how many ran over the flip.

    Args:
        revision: the new one; every other is the old one.
        flip_s: when the worker was seen to serve it. The flip itself was a little earlier, so a
            stream of the old revision that ends later ran over it, and none may begin later.
    """
    new = [a for a in answers if a.digest == revision]
    old = [a for a in answers if a.digest != revision]
    changed_s = min((a.started_s for a in new), default=flip_s)
    return {
        "streams": len(answers),
        "cut": sum(not a.whole for a in answers),
        "old": len(old),
        "new": len(new),
        "over_the_flip": sum(a.started_s + a.total_s > min(changed_s, flip_s) for a in old),
        "old_after_flip": sum(a.started_s > flip_s for a in old),
    }
