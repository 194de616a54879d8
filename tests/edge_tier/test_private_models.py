"""Private models on their way through an edge: who shows what to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.pulling import pull_model
from tests.fakes.facades import WORKER_TOKEN, StockTiers, make_model, stock_tiers, weights_of
from tests.fakes.replays import ask
from wire.errors import NotFoundError
from wire.paths import manifest_path

SECRET = make_model("secret")


@pytest.fixture(scope="module")
def tiers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StockTiers]:
    with stock_tiers(tmp_path_factory.mktemp("tiers")) as tiers:
        tiers.publish(SECRET, private=True)
        yield tiers


def test_an_edge_shows_its_own_token_to_the_origin_and_wants_one_itself(tiers: StockTiers) -> None:
    url = tiers.edge_url + manifest_path(SECRET.id)
    worker = {"Authorization": f"Bearer {WORKER_TOKEN}"}
    assert ask("GET", url, worker).body == SECRET.data
    # Cached by now, and closed all the same.
    assert ask("GET", url).status == 404
    assert ask("GET", tiers.origin_url + manifest_path(SECRET.id)).status == 404
    # What edges and workers share opens nothing at the origin.
    assert ask("GET", tiers.origin_url + manifest_path(SECRET.id), worker).status == 404


async def test_a_pull_with_a_token_brings_a_private_model(
    tiers: StockTiers, tmp_path: Path
) -> None:
    root = tiers.folder / "keys" / "root.json"
    token = await asyncio.to_thread(tiers.token, "sec*")
    with pytest.raises(NotFoundError):
        await pull_model("secret", "stable", [tiers.edge_url], tmp_path / "a", root)
    pulled = await pull_model(
        "secret", "stable", [tiers.edge_url], tmp_path / "b", root, token=token
    )
    name, data = weights_of(SECRET)
    assert (pulled.report.path / name).read_bytes() == data
