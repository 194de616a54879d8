"""edge_tier.artifacts: a real edge over a real origin."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fakes.edges import Origin, StartEdge
from tests.fakes.gateway import MODEL
from tests.fakes.waiting import until_async
from wire.manifest import ChunkRef, decode

Edge = Any


async def any_chunk(edge: Edge, revision: str) -> ChunkRef:
    answer = await edge.get(f"/artifacts/manifests/{revision}")
    refs = decode(await answer.read(), revision).chunk_refs()
    return next(iter(refs.values()))


async def pointer(edge: Edge) -> str:
    answer = await edge.get(f"/artifacts/channels/{MODEL}/stable")
    revision: str = (await answer.json())["revision"]
    return revision


async def test_a_chunk_is_fetched_once_and_then_a_hit(
    start_edge: StartEdge, origin: Origin
) -> None:
    edge = await start_edge()
    ref = await any_chunk(edge, origin.revisions[0])
    first = await edge.get(f"/artifacts/chunks/{ref.id}")
    again = await edge.get(f"/artifacts/chunks/{ref.id}")
    assert first.headers["Cache-Status"] == "edge; fwd=uri-miss; stored"
    assert again.headers["Cache-Status"] == "edge; hit"
    assert await first.read() == await again.read()
    metrics = await (await edge.get("/metrics")).text()
    assert "headwater_edge_cache_fetched_total 1.0" in metrics


async def test_a_roll_reaches_the_edge_by_event(start_edge: StartEdge, origin: Origin) -> None:
    edge = await start_edge(refresh_s=3600.0)

    async def points_at(revision: str) -> bool:
        return await pointer(edge) == revision

    await until_async(lambda: points_at(origin.revisions[0]))
    rolled = await origin.publish(seed=1)
    await until_async(lambda: points_at(rolled), deadline_s=2.0)


async def test_a_hard_purge_is_410_at_the_edge(start_edge: StartEdge, origin: Origin) -> None:
    edge = await start_edge()
    ref = await any_chunk(edge, origin.revisions[0])
    url = f"/artifacts/chunks/{ref.id}"
    assert (await edge.get(url)).status == 200
    token = (origin.folder / "token").read_text()

    async with edge.session.post(
        f"{origin.url}/admin/purge",
        json={"key": f"chunk:{ref.id}", "hard": True},
        headers={"Authorization": f"Bearer {token}"},
    ) as answer:
        assert answer.status == 200

    async def is_gone() -> bool:
        return (await edge.get(url)).status == 410

    await until_async(is_gone)


async def test_events_reach_those_who_follow_the_edge(
    start_edge: StartEdge, origin: Origin
) -> None:
    edge = await start_edge()
    async with edge.get("/artifacts/events") as stream:
        await origin.publish(seed=1)
        seen = b""
        async with asyncio.timeout(10):
            while b"channel:" not in seen:
                seen += await stream.content.readany()


async def test_without_the_origin_the_edge_serves_what_it_has(
    start_edge: StartEdge, origin: Origin
) -> None:
    edge = await start_edge()
    revision = origin.revisions[0]
    assert await pointer(edge) == revision
    ref = await any_chunk(edge, revision)
    assert (await edge.get(f"/artifacts/chunks/{ref.id}")).status == 200
    bundle = await (await edge.get("/artifacts/trust/bundle?root=1")).read()
    await origin.server.close()
    assert (await edge.get(f"/artifacts/chunks/{ref.id}")).status == 200
    assert await pointer(edge) == revision
    assert await (await edge.get("/artifacts/trust/bundle?root=1")).read() == bundle
    await edge.close()
    restarted = await start_edge()  # on the same folders
    assert (await restarted.get("/readyz")).status == 200
    assert await pointer(restarted) == revision


async def test_an_edge_can_be_another_ones_origin(start_edge: StartEdge, origin: Origin) -> None:
    parent = await start_edge("parent")
    url = str(parent.make_url("")).rstrip("/")
    child = await start_edge("child", origins=(url,))
    ref = await any_chunk(child, origin.revisions[0])
    assert (await child.get(f"/artifacts/chunks/{ref.id}")).status == 200
    again = await parent.get(f"/artifacts/chunks/{ref.id}")
    assert again.headers["Cache-Status"] == "parent; hit"
