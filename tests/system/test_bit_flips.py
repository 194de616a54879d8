"""One bit changes in the edge's cache, in the origin's store, on the way: it is never loaded, the
good copy is found, and each change is counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local_config import LOCAL_MODEL
from tests.fakes.artifact_proxy import ArtifactProxy, artifact_proxy
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.publishing import chunk_file, flip_bit
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.chunk import ChunkId, hash_chunk
from wire.errors import ChunkMismatchError, HeadwaterError
from wire.manifest import FileEntry

MODEL = "flipped"
EDGE_CORRUPT = "headwater_edge_store_corrupt_total"
ORIGIN_CORRUPT = "headwater_origin_chunks_corrupt_total"
ORIGIN_SERVED = "headwater_origin_served_total"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("flipped") / "flipped.gguf", seed=7)


@pytest.fixture
def weights(fleet: Fleet, model_file: Path) -> FileEntry:
    """The published file, whole at origin and edge."""
    published = fleet.publish(model_file, MODEL)
    return fleet.manifest(published.revision).by_role("weights")[0]


@pytest.fixture
def proxy(fleet: Fleet) -> Iterator[ArtifactProxy]:
    """Stands before the edge."""
    with artifact_proxy(fleet.urls.edge) as proxy:
        yield proxy


def largest(entry: FileEntry) -> ChunkId:
    return max(entry.chunks, key=lambda ref: ref.size).id


def is_sound(folder: Path, entry: FileEntry) -> bool:
    """Whether exactly the published bytes lie in a folder of models."""
    (found,) = folder.rglob(entry.path)
    return hashlib.sha256(found.read_bytes()).hexdigest() == entry.sha256


def port(url: str) -> str:
    return url.removeprefix("http://")


def test_rot_in_the_edges_cache_heals_while_it_is_pulled(
    fleet: Fleet, weights: FileEntry, tmp_path: Path
) -> None:
    fleet.pull(MODEL, tmp_path / "before")
    chunk = largest(weights)
    cached = chunk_file(fleet.state.tier("edge") / "cache" / "chunks", chunk)
    corrupt = fleet.metric("edge", EDGE_CORRUPT)
    served = fleet.metric("origin", ORIGIN_SERVED, kind="chunk")
    flip_bit(cached)

    pulled = fleet.pull(MODEL, tmp_path / "after")

    assert is_sound(tmp_path / "after", weights)
    assert pulled.as_dict()["sources"][port(fleet.urls.edge)]["mismatches"] == 1
    assert fleet.metric("edge", EDGE_CORRUPT) == corrupt + 1
    assert fleet.metric("origin", ORIGIN_SERVED, kind="chunk") == served + 1
    assert hash_chunk(cached.read_bytes()) == chunk


def test_rot_in_the_origins_store_is_found_and_another_source_has_the_chunk(
    fleet: Fleet, weights: FileEntry, model_file: Path, tmp_path: Path
) -> None:
    origin, edge = fleet.urls.origin, fleet.urls.edge
    fleet.pull(MODEL, tmp_path / "before", edge)
    corrupt = fleet.metric("origin", ORIGIN_CORRUPT)
    stored = chunk_file(fleet.state.origin_store, largest(weights))
    flip_bit(stored)

    with pytest.raises(ChunkMismatchError):
        fleet.pull(MODEL, tmp_path / "alone", origin)
    assert not list((tmp_path / "alone").rglob("manifest.json"))
    assert fleet.metric("origin", ORIGIN_CORRUPT) == corrupt + 1

    both = fleet.pull(MODEL, tmp_path / "both", origin, edge).as_dict()
    assert is_sound(tmp_path / "both", weights)
    assert both["sources"][port(edge)]["chunks"] >= 1

    fleet.publish(model_file, MODEL)  # puts back what was set aside
    fleet.pull(MODEL, tmp_path / "healed", origin)
    assert is_sound(tmp_path / "healed", weights)
    assert hash_chunk(stored.read_bytes()) == largest(weights)


def test_a_bit_that_changes_on_the_way_costs_one_more_request(
    fleet: Fleet, weights: FileEntry, proxy: ArtifactProxy, tmp_path: Path
) -> None:
    chunk = largest(weights)
    proxy.flip = {chunk}
    pulled = fleet.pull(MODEL, tmp_path, proxy.url, fleet.urls.edge).as_dict()
    assert is_sound(tmp_path, weights)
    mismatches = pulled["sources"][port(proxy.url)]["mismatches"]
    # An answer that came too late to matter was dropped before it was looked at.
    assert mismatches <= proxy.asked.count(chunk)


def test_a_source_that_always_lies_about_a_chunk_gives_no_model(
    fleet: Fleet, weights: FileEntry, proxy: ArtifactProxy, tmp_path: Path
) -> None:
    proxy.flip = {largest(weights)}
    with pytest.raises(HeadwaterError, match="holds bytes of"):
        fleet.pull(MODEL, tmp_path, proxy.url)
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_worker_never_loads_a_flipped_bit_and_boots_once_it_gets_the_good_one(
    fleet: Fleet, proxy: ArtifactProxy, tmp_path: Path
) -> None:
    entry = fleet.manifest(fleet.revision()).by_role("weights")[0]
    chunk = largest(entry)
    proxy.flip = {chunk}
    settings: dict[str, Any] = {
        "model": LOCAL_MODEL,
        "sources": [proxy.url],
        "heartbeat_to": [],
        "models_dir": tmp_path / "models",
        "trust_dir": tmp_path / "trust",
        "retry_failed_s": 0.1,
    }
    with fleet.extra("worker", "flip-worker", **settings) as worker:
        eventually(lambda: "chunk_mismatch" in fleet.extra_status(worker)["report"]["reason"], 30)
        assert fleet.extra_status(worker)["report"]["state"] == "booting"
        assert not list((tmp_path / "models").rglob("manifest.json"))
        proxy.flip = set()
        eventually(lambda: fleet.is_ready(worker), 30)
        status = fleet.extra_status(worker)
    assert is_sound(tmp_path / "models", entry)
    assert status["report"]["reason"] == ""
    assert status["sources"][0]["mismatches"] >= 2
    assert status["waterfalls"][0]["from_disk"] > 0, "what arrived sound was fetched again"
    assert proxy.given.count(chunk) >= 3
