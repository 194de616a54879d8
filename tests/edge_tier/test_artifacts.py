"""edge_tier.artifacts: a real edge over a real origin."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.fakes.edges import Origin, StartEdge
from tests.fakes.gateway import MODEL
from tests.fakes.waiting import until_async
from wire.chunk import hash_chunk
from wire.manifest import ChunkRef, decode

Edge = Any
OPEN = {"Authorization": "Bearer admin"}


async def is_ready(edge: Edge) -> bool:
    return bool((await edge.get("/readyz")).status == 200)


async def purge(edge: Edge, origin: Origin, key: str) -> None:
    token = (origin.folder / "token").read_text()
    async with edge.session.post(
        f"{origin.url}/admin/purge",
        json={"key": key, "hard": True},
        headers={"Authorization": f"Bearer {token}"},
    ) as answer:
        assert answer.status == 200


async def any_chunk(edge: Edge, revision: str) -> ChunkRef:
    await until_async(lambda: is_ready(edge))
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
    await until_async(lambda: points_at(rolled))


async def test_a_hard_purge_is_410_at_the_edge(start_edge: StartEdge, origin: Origin) -> None:
    edge = await start_edge()
    ref = await any_chunk(edge, origin.revisions[0])
    url = f"/artifacts/chunks/{ref.id}"
    assert (await edge.get(url)).status == 200
    await purge(edge, origin, f"chunk:{ref.id}")

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
        async with asyncio.timeout(30):
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


async def test_a_takedown_whose_event_was_lost_is_found_in_the_list(
    start_edge: StartEdge, origin: Origin
) -> None:
    """The edge was away while the origin purged, so no event will ever tell it."""
    edge = await start_edge()
    ref = await any_chunk(edge, origin.revisions[0])
    assert (await edge.get(f"/artifacts/chunks/{ref.id}")).status == 200
    await edge.close()
    other = await start_edge("other")  # has a session to ask with
    await purge(other, origin, f"chunk:{ref.id}")
    edge = await start_edge()

    async def is_gone() -> bool:
        return (await edge.get(f"/artifacts/chunks/{ref.id}")).status == 410

    await until_async(is_gone)


async def test_takedowns_pass_through_a_chain_of_edges_that_missed_the_events(
    start_edge: StartEdge, origin: Origin
) -> None:
    parent = await start_edge("parent", refresh_s=3600.0)
    url = str(parent.make_url("")).rstrip("/")
    child = await start_edge("child", origins=(url,))
    ref = await any_chunk(child, origin.revisions[0])
    path = f"/artifacts/chunks/{ref.id}"
    assert (await child.get(path)).status == 200
    await child.close()
    await purge(parent, origin, f"chunk:{ref.id}")

    async def is_gone(edge: Edge) -> bool:
        return bool((await edge.get(path)).status == 410)

    await until_async(lambda: is_gone(parent))
    child = await start_edge("child", origins=(url,))
    await until_async(lambda: is_gone(child))
    answer = await child.get("/artifacts/takedowns")
    assert (await answer.json())["keys"] == [f"chunk:{ref.id}"]
    again = await child.get(
        "/artifacts/takedowns", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert again.status == 304


async def test_two_children_of_one_parent_cost_one_fetch_from_the_origin(
    start_edge: StartEdge, origin: Origin
) -> None:
    parent = await start_edge("parent")
    url = str(parent.make_url("")).rstrip("/")
    children = [await start_edge(name, origins=(url,)) for name in ("one", "two")]
    ref = await any_chunk(children[0], origin.revisions[0])
    bodies = [await get_body(child, f"/artifacts/chunks/{ref.id}") for child in children]
    assert bodies[0] == bodies[1]
    served = await (await children[0].session.get(f"{origin.url}/metrics")).text()
    assert 'headwater_origin_served_total{kind="chunk"} 1.0' in served
    for child in children:
        shown = await (await child.get("/metrics")).text()
        assert "headwater_edge_cache_fetched_total 1.0" in shown


async def test_a_roll_reaches_a_child_through_its_parent_at_once(
    start_edge: StartEdge, origin: Origin
) -> None:
    parent = await start_edge("parent", refresh_s=3600.0)
    url = str(parent.make_url("")).rstrip("/")
    child = await start_edge("child", origins=(url,), refresh_s=3600.0)
    await until_async(lambda: is_ready(child))
    rolled = await origin.publish(seed=1)

    async def points_there() -> bool:
        return await pointer(child) == rolled

    await until_async(points_there)


async def test_what_is_served_is_pinned_and_a_roll_is_fetched_ahead(
    start_edge: StartEdge, origin: Origin
) -> None:
    edge = await start_edge(plane="artifacts")
    old = origin.revisions[0]
    await any_chunk(edge, old)
    for ref in await chunks(edge, old):
        await get_body(edge, f"/artifacts/chunks/{ref.id}")

    async def is_pinned() -> bool:
        store = (await status(edge))["cache"]["store"]
        return bool(store["pinned_bytes"] == store["used_bytes"] > 0)

    await until_async(is_pinned)
    new = await origin.publish(seed=1)

    async def is_warm() -> bool:
        jobs = (await warm(edge, "GET"))["jobs"]
        return [(job["revision"], job["preheat"], job["state"]) for job in jobs] == [
            (new, True, "done")
        ]

    await until_async(is_warm)
    for ref in await chunks(edge, new):
        answer = await edge.get(f"/artifacts/chunks/{ref.id}")
        assert answer.headers["Cache-Status"] == "edge; hit"


async def test_a_warm_up_by_an_operator(start_edge: StartEdge, origin: Origin) -> None:
    edge = await start_edge()
    await until_async(lambda: is_ready(edge))
    job = await warm(edge, "POST", json={"model": MODEL})

    async def is_done() -> bool:
        return bool((await warm(edge, "GET", f"/{job['id']}"))["state"] == "done")

    await until_async(is_done)
    for ref in await chunks(edge, origin.revisions[0]):
        answer = await edge.get(f"/artifacts/chunks/{ref.id}")
        assert answer.headers["Cache-Status"] == "edge; hit"


async def test_a_disk_that_fails_shows_and_heals_while_bytes_are_served(
    start_edge: StartEdge, origin: Origin, tmp_path: Path
) -> None:
    """The folder for unfinished files is in the way: every write fails, until it is back."""
    edge = await start_edge()
    ref, *others = await chunks(edge, origin.revisions[0])
    partial = tmp_path / "edge" / "cache" / "chunks" / "partial"
    partial.rmdir()
    partial.write_bytes(b"")
    answer = await edge.get(f"/artifacts/chunks/{ref.id}")
    assert answer.headers["Cache-Status"] == "edge; fwd=uri-miss"
    assert hash_chunk(await answer.read()) == ref.id
    ready = await edge.get("/readyz")
    assert (ready.status, (await ready.json())["status"]) == (200, "degraded")
    assert "headwater_edge_cache_degraded 1.0" in await (await edge.get("/metrics")).text()
    partial.unlink()
    partial.mkdir()

    async def is_well() -> bool:
        return bool((await (await edge.get("/readyz")).json())["status"] == "ready")

    await until_async(is_well)  # nobody asked for anything meanwhile
    for other in (ref, *others):
        await get_body(edge, f"/artifacts/chunks/{other.id}")
    assert (await edge.get(f"/artifacts/chunks/{ref.id}")).headers["Cache-Status"] == "edge; hit"


async def chunks(edge: Edge, revision: str) -> list[ChunkRef]:
    await until_async(lambda: is_ready(edge))
    body = await get_body(edge, f"/artifacts/manifests/{revision}")
    return list(decode(body, revision).chunk_refs().values())


async def get_body(edge: Edge, path: str) -> bytes:
    answer = await edge.get(path)
    body: bytes = await answer.read()
    assert answer.status == 200, body
    return body


async def status(edge: Edge) -> dict[str, Any]:
    found: dict[str, Any] = await (await edge.get("/admin/status", headers=OPEN)).json()
    return found


async def warm(edge: Edge, method: str, path: str = "", **given: Any) -> dict[str, Any]:
    answer = await edge.request(method, f"/admin/warm{path}", headers=OPEN, **given)
    found: dict[str, Any] = await answer.json()
    assert answer.status == 200, found
    return found
