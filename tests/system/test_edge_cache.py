"""The edge's cache with real processes, real disks that are full, and an edge below an edge."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.child import Child
from infra.state import read_secret
from tests.fakes.fleet import Fleet, eventually, get, tier_status
from tests.fakes.headwater import headwater
from tests.fakes.processes import MIB
from tests.fakes.publishing import publish_unseen
from tests.fakes.tiny_gguf import write_sparse_gguf
from wire.chunk import hash_chunk
from wire.errors import SourceUnavailableError
from wire.http_client import BlockingClient
from wire.manifest import Manifest
from wire.paths import FILES, READYZ, chunk_path, manifest_path, revision_key

SIZE = 12 * MIB
QUICK = {"refresh_s": 0.5}


@pytest.fixture
def publish(fleet: Fleet, tmp_path: Path) -> Callable[[str], str]:
    """Publishes chunks of about a mebibyte that no other test has; gives the revision."""

    def make(model: str) -> str:
        size = SIZE + 32 * sum(model.encode())  # no two headers are alike
        file = write_sparse_gguf(tmp_path / f"{model}.gguf", size, tensor_bytes=MIB)
        with file.open("r+b") as stream:
            for offset in range(0, SIZE, 2**18):
                os.pwrite(stream.fileno(), model.encode(), offset + 2**18 - 64)
        with fleet.origin_admin() as admin:
            revision = publish_unseen(
                file,
                model,
                admin,
                key_file=fleet.state.publisher_key,
                store=fleet.state.origin_store,
            )
        file.unlink()
        return revision

    return make


@contextmanager
def edge_at(fleet: Fleet, folder: Path, name: str, **settings: Any) -> Iterator[Child]:
    """One more edge, with its files in a folder of its own."""
    given = {"trust_dir": folder / name / "trust", "cache__folder": folder / name / "cache"}
    with fleet.extra("edge", name, **given, **QUICK, **settings) as edge:
        eventually(lambda: _ready(edge)[0] == 200)
        yield edge


def _answer(url: str, path: str) -> tuple[int, dict[str, str], bytes]:
    client = BlockingClient(url)
    try:
        answer = client.get(path, limit_bytes=4 * SIZE)
    finally:
        client.close()
    return answer.status, answer.headers, bytes(answer.body)


def _ready(edge: Child) -> tuple[int, dict[str, str]]:
    status, _, body = _answer(edge.url, READYZ)
    return status, msgspec.json.decode(body)


def _is(edge: Child, state: str) -> bool:
    return _ready(edge)[1].get("status") == state


def _fetch_file(edge: Child, revision: str, manifest: Manifest) -> bool:
    """Get the weights through the edge; whether exactly the published bytes came."""
    (entry,) = manifest.by_role("weights")
    data = get(edge.url, f"{FILES}/{revision}/{entry.path}", 4 * SIZE)
    return hashlib.sha256(data).hexdigest() == entry.sha256


def _chunk_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "chunks").rglob("*") if path.is_file()]


def test_two_edges_below_an_edge_cost_one_fetch_from_the_origin(
    fleet: Fleet, publish: Callable[[str], str], tmp_path: Path
) -> None:
    revision = publish("family")
    manifest = fleet.manifest(revision)
    chunks = manifest.chunk_refs()
    below = {"origins": [fleet.urls.edge]}
    with (
        edge_at(fleet, tmp_path, "one", **below) as one,
        edge_at(fleet, tmp_path, "two", **below) as two,
    ):
        before = fleet.metric("origin", "headwater_origin_served_total", kind="chunk")
        for child in (one, two):
            assert _fetch_file(child, revision, manifest)
        served = fleet.metric("origin", "headwater_origin_served_total", kind="chunk")
        assert served - before == len(chunks)
        assert fleet.extra_metric(one, "headwater_edge_cache_ahead_total") > 0
        family = (fleet.urls.edge, one.url, two.url)
        for url in family:
            status, headers, _ = _answer(url, chunk_path(next(iter(chunks))))
            assert (status, headers["cache-status"].partition("; ")[2]) == (200, "hit")
        with fleet.origin_admin() as admin:
            admin.purge(revision_key(revision), hard=True)
        gone = manifest_path(revision)
        eventually(lambda: {_answer(url, gone)[0] for url in family} == {410})
        roots = (fleet.state.tier("edge"), tmp_path / "one", tmp_path / "two")
        folders = [root / "cache" / "chunks" for root in roots]
        eventually(lambda: all(chunks.keys().isdisjoint(_names(f)) for f in folders))


def _names(folder: Path) -> set[str]:
    return {path.name for path in _chunk_files(folder)}


def test_a_model_is_warmed_pinned_and_released_from_the_command_line(
    fleet: Fleet, publish: Callable[[str], str], tmp_path: Path
) -> None:
    revision = publish("warmed")
    (entry,) = fleet.manifest(revision).by_role("weights")
    with edge_at(fleet, tmp_path, "warmed-edge", cache__pin="none") as edge:
        where = [f"--edge={edge.url}", f"--token-file={fleet.state.admin_token}"]
        state = fleet.state.root

        def pinned() -> int:
            token = read_secret(fleet.state.admin_token)
            return int(tier_status(edge.url, token)["cache"]["store"]["pinned_bytes"])

        code, job, notes = headwater("warm", "warmed", "--pin", *where, state_dir=state)
        assert code == 0, notes
        assert (job["state"], job["revision"]) == ("done", revision)
        assert job["fetched_bytes"] == job["bytes"] == entry.size
        assert pinned() >= SIZE
        for ref in entry.chunks:
            assert _answer(edge.url, chunk_path(ref.id))[1]["cache-status"].endswith("hit")
        code, released, _ = headwater("warm", "warmed", "--unpin", *where, state_dir=state)
        assert (code, released["was_kept"], pinned()) == (0, True, 0)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 4 MiB at a folder."""
    folder.mkdir(parents=True)
    made = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(made, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _fill_up(file: Path) -> None:
    with file.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(64 * 1024)):
            """Until the disk is full."""


def test_a_full_disk_costs_no_answer_and_heals(
    fleet: Fleet, publish: Callable[[str], str], tmp_path: Path
) -> None:
    revision = publish("full")
    manifest = fleet.manifest(revision)
    folder = tmp_path / "full-edge" / "cache" / "chunks"
    with small_disk(folder), edge_at(fleet, tmp_path, "full-edge") as edge:
        _fill_up(folder / "of-somebody-else")
        assert _fetch_file(edge, revision, manifest)
        code, said = _ready(edge)
        assert (code, said["status"]) == (200, "degraded")
        assert "No space left" in said["degraded"]
        assert fleet.extra_metric(edge, "headwater_edge_cache_degraded") == 1
        (folder / "of-somebody-else").unlink()
        eventually(lambda: _is(edge, "ready"))
        assert _fetch_file(edge, revision, manifest), "three times what the disk holds"
        _kill_and_wait(edge)
        assert _chunk_files(folder)
        assert _all_sound(folder)
        assert _fetch_file(edge, revision, manifest)


def _all_sound(folder: Path) -> bool:
    return all(hash_chunk(path.read_bytes()) == path.name for path in _chunk_files(folder))


def test_an_error_of_the_disk_costs_no_answer_and_heals(
    fleet: Fleet, publish: Callable[[str], str], tmp_path: Path
) -> None:
    """The kernel refuses files over 64 KiB (RLIMIT_FSIZE), so every write fails in its middle."""
    revision = publish("broken")
    manifest = fleet.manifest(revision)
    folder = tmp_path / "broken-edge" / "cache" / "chunks"
    with edge_at(fleet, tmp_path, "broken-edge") as edge:
        assert edge.pid is not None
        soft, hard = resource.prlimit(edge.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(edge.pid, resource.RLIMIT_FSIZE, (64 * 1024, hard))
        assert _fetch_file(edge, revision, manifest)
        code, said = _ready(edge)
        assert (code, said["status"]) == (200, "degraded")
        assert "File too large" in said["degraded"]
        assert all(path.stat().st_size <= 64 * 1024 for path in _chunk_files(folder))
        resource.prlimit(edge.pid, resource.RLIMIT_FSIZE, (soft, hard))
        eventually(lambda: _is(edge, "ready"))
        assert _fetch_file(edge, revision, manifest)
        assert len(_chunk_files(folder)) >= len(manifest.chunk_refs())
        assert _all_sound(folder)


def _kill_and_wait(edge: Child) -> None:
    """kill -9, and until another process is there in its place."""
    killed = edge.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    def is_back() -> bool:
        return edge.pid not in {killed, None} and _answers(edge)

    eventually(is_back, 60)


def _answers(edge: Child) -> bool:
    try:
        return _ready(edge)[0] == 200
    except SourceUnavailableError:
        return False
