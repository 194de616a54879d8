"""The demo's first half: a model on its way down, from the publisher to a worker's memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from infra import demo_models
from infra.demo.story import Story, expect
from infra.edge_admin import TierAdmin, total
from infra.golden import golden_maker
from infra.local import DEMO_FILES, Local
from infra.local_config import LOCAL_MODEL
from infra.publishing import open_publisher
from infra.render import duration, shares, short, size, table, waterfall
from infra.state import read_secret
from origin.publish import Published
from wire.chunk import MAX_CHUNK_BYTES, Chunk
from wire.http_client import BlockingClient
from wire.manifest import MAX_MANIFEST_BYTES, ChunkRef, decode
from wire.paths import DEFAULT_CHANNEL, chunk_path, manifest_path

ORIGIN_BYTES = "headwater_origin_served_bytes_total"
EDGE_BYTES = "headwater_edge_served_bytes_total"


async def publish_models(story: Story, local: Local) -> None:
    """Publish the two demo models, and point their stable channels at them."""
    with story.step("Publish two models: checked by llama.cpp, cut into chunks, signed") as figures:
        done = [
            await asyncio.to_thread(publish_file, local, file, model, DEFAULT_CHANNEL)
            for model, file in DEMO_FILES.items()
        ]
        story.show(published_table(done))
        figures["models"] = [published_figures(published) for published in done]


def publish_file(local: Local, file: str, model: str, channel: str) -> Published:
    """Publish a shipped GGUF. Blocking."""
    with open_publisher(
        local.urls.origin, local.admin_token, local.state.publisher_key
    ) as publisher:
        return publisher.publish(
            demo_models.path(file), model, channel, parity=True, golden=golden_maker()
        )


def published_table(done: Iterable[Published]) -> Any:
    """What was published, a line for each."""
    columns = ("model", "revision", "size", "chunks", "sent", "tokenizer")
    rows = [
        (
            p.model,
            short(p.revision),
            size(p.size),
            p.chunks,
            f"{p.sent_chunks} ({size(p.sent_bytes)})",
            p.tokenizer,
        )
        for p in done
    ]
    return table(columns, rows, right="size,chunks,sent")


def published_figures(published: Published) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "model": published.model,
        "revision": published.revision,
        "size": published.size,
        "chunks": published.chunks,
        "sent_chunks": published.sent_chunks,
        "sent_bytes": published.sent_bytes,
    }


async def warm_edge(story: Story, local: Local) -> None:
    """Ask the edge for every chunk of the small model, twice: the second time from its disk."""
    with story.step("Warm the edge: ask it for every chunk, twice") as figures:
        revision = await asyncio.to_thread(stable_revision, local)
        passes = [
            await asyncio.to_thread(_fetch_all, local, revision, name)
            for name in ("first", "second")
        ]
        rows = [
            (
                p["pass"],
                p["chunks"],
                size(p["bytes"]),
                ", ".join(f"{count}× {status}" for status, count in p["cache_status"].items()),
                size(p["origin_bytes"]),
            )
            for p in passes
        ]
        columns = ("pass", "chunks", "bytes", "Cache-Status", "origin gave")
        story.show(table(columns, rows, right="chunks,bytes,origin gave"))
        figures["passes"] = passes
        expect(passes[0]["bytes"] > 0, "the edge gave no chunk")
        expect(passes[1]["origin_bytes"] == 0, "the origin was asked again for cached chunks")


def stable_revision(local: Local) -> str:
    """Where the small model's stable channel points, by the origin's own account. Blocking."""
    with open_publisher(
        local.urls.origin, local.admin_token, local.state.publisher_key
    ) as publisher:
        pointers = publisher.origin.status()["channels"]
    return next(
        str(p["revision"])
        for p in pointers
        if (p["model"], p["channel"]) == (LOCAL_MODEL, DEFAULT_CHANNEL)
    )


def _fetch_all(local: Local, revision: str, name: str) -> dict[str, Any]:
    """GET every chunk of a revision from the edge, as any client would, and verify it."""
    before = served(local)
    client = BlockingClient(local.urls.edge)
    statuses: Counter[str] = Counter()
    received = 0
    try:
        refs = _chunks(client, revision)
        for ref in refs:
            answer = client.get(chunk_path(ref.id), limit_bytes=MAX_CHUNK_BYTES)
            expect(answer.status == 200, f"chunk {ref.id}: status {answer.status}")
            received += len(Chunk(ref.id, answer.body))
            statuses[_cache_status(answer.headers.get("cache-status", ""))] += 1
    finally:
        client.close()
    after = served(local)
    return {
        "pass": name,
        "chunks": len(refs),
        "bytes": received,
        "cache_status": dict(statuses),
        "origin_bytes": after["origin"] - before["origin"],
    }


def _chunks(client: BlockingClient, revision: str) -> list[ChunkRef]:
    answer = client.get(manifest_path(revision), limit_bytes=min(MAX_MANIFEST_BYTES, 1 << 26))
    expect(answer.status == 200, f"manifest: status {answer.status}")
    return list(decode(bytes(answer.body), revision).chunk_refs().values())


def _cache_status(header: str) -> str:
    """The parameters without the cache's name (RFC 9211)."""
    return header.partition(";")[2].strip() or "none"


def served(local: Local) -> dict[str, float]:
    """Bytes of chunks and files that origin and edge have sent so far. Blocking."""
    found = {}
    for tier, url, name in (
        ("origin", local.urls.origin, ORIGIN_BYTES),
        ("edge", local.urls.edge, EDGE_BYTES),
    ):
        with TierAdmin(url) as admin:
            found[tier] = total(admin.metrics(), name)
    return found


async def start_worker(story: Story, local: Local) -> None:
    """Boot the worker from the warm edge, and show what the boot spent its time on."""
    with story.step("Warm-start a worker from the edge: pull, verify, load, probe") as figures:
        before = await asyncio.to_thread(served, local)
        await local.start("worker")
        await local.ready("worker")
        await local.joined()
        after = await asyncio.to_thread(served, local)
        boot = (await asyncio.to_thread(worker_status, local))["waterfalls"][0]
        steps = boot["steps_ms"]
        story.show(waterfall(steps))
        edge = local.urls.edge.removeprefix("http://")
        named = {_who(name, edge): count for name, count in boot["by_source"].items()}
        story.show(shares({"this disk": boot["from_disk"], **named}))
        origin_bytes = after["origin"] - before["origin"]
        edge_bytes = after["edge"] - before["edge"]
        whole = sum(ms for name, ms in steps.items() if ": " not in name)
        story.say(
            f"revision {short(boot['revision'])} ({size(boot['size'])}) serves after "
            f"{duration(whole)}; the edge sent {size(edge_bytes)} of chunks, the origin "
            f"{size(origin_bytes)}"
        )
        figures |= {
            "waterfall": boot,
            "edge_bytes": edge_bytes,
            "origin_bytes": origin_bytes,
        }
        expect(
            origin_bytes == 0, "the worker's start was not warm: the origin was asked for chunks"
        )


def worker_status(local: Local) -> dict[str, Any]:
    """The worker's own account of its boots, rolls and sources. Blocking."""
    with TierAdmin(local.urls.worker, read_secret(local.state.worker_token)) as admin:
        return admin.status()


def _who(source: str, edge: str) -> str:
    return f"edge {source}" if source == edge else source
