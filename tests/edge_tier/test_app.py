"""edge_tier.app: planes, readiness, status."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.edges import Origin, StartEdge
from tests.fakes.gateway import MODEL
from tests.fakes.waiting import until_async
from wire.errors import ConfigError

ADMIN = {"Authorization": "Bearer admin"}


async def test_an_edge_gets_ready_by_itself_and_tells_what_it_knows(
    start_edge: StartEdge, origin: Origin
) -> None:
    edge = await start_edge()

    async def ready() -> bool:
        return (await edge.get("/readyz")).status == 200

    await until_async(ready)
    status = await (await edge.get("/admin/status", headers=ADMIN)).json()
    assert status["models"] == {MODEL: origin.revisions[0]}
    assert status["trust"]["expired"] is False
    assert status["cache"]["degraded"] == ""
    assert status["workers"] == []
    assert (await edge.get("/admin/status")).status == 401


async def test_an_edge_without_origin_is_not_ready_and_says_why(
    start_edge: StartEdge,
) -> None:
    edge = await start_edge(origins=("http://127.0.0.1:9",))
    answer = await edge.get("/readyz")
    assert answer.status == 503
    assert "trust" in (await answer.json(content_type=None))["detail"]
    assert (await edge.get("/healthz")).status == 200


@pytest.mark.parametrize(
    ("plane", "artifacts", "prompts"),
    [("all", 200, 401), ("artifacts", 200, 404), ("prompts", 404, 401)],
)
async def test_each_plane_can_run_alone(
    start_edge: StartEdge, plane: str, artifacts: int, prompts: int
) -> None:
    edge = await start_edge(plane=plane)
    assert (await edge.get(f"/artifacts/channels/{MODEL}/stable")).status == artifacts
    assert (await edge.get("/v1/models")).status == prompts


async def test_a_missing_root_is_named(start_edge: StartEdge, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no-root\.json"):
        await start_edge(trust_root=tmp_path / "no-root.json")
