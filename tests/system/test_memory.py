"""Memory does not grow with the model: 1 GiB goes through an edge and a worker."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fakes.fleet import Fleet, eventually
from tests.fakes.processes import MIB, peak_rss_bytes
from tests.fakes.publishing import publish_unseen
from tests.fakes.tiny_gguf import write_sparse_gguf
from wire.manifest import MAX_MANIFEST_BYTES

MODEL = "enormous"
SIZE = 1024 * MIB
LIMIT = 150 * MIB
ROOM = 3 * 1024 * MIB
"""The edge's copy and the worker's, and something to spare."""


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A folder with room: in memory where there is plenty of it, so that no disk slows us down."""
    shared = Path("/dev/shm")
    if shared.is_dir() and min(_free(shared), psutil.virtual_memory().available) > 2 * ROOM:
        with tempfile.TemporaryDirectory(dir=shared, prefix="hw-memory-") as folder:
            yield Path(folder)
        return
    if _free(tmp_path) < ROOM:
        pytest.skip(f"needs {ROOM // MIB} MiB of disk")
    yield tmp_path
    shutil.rmtree(tmp_path)


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def test_a_gibibyte_passes_through_150_mebibytes_of_edge_and_of_worker(
    fleet: Fleet, roomy: Path
) -> None:
    file = write_sparse_gguf(roomy / "enormous.gguf", SIZE)
    with fleet.origin_admin() as admin:
        revision = publish_unseen(
            file,
            MODEL,
            admin,
            key_file=fleet.state.publisher_key,
            store=fleet.state.origin_store,
        )
    file.unlink()
    edge_settings = {
        "trust_dir": roomy / "edge" / "trust",
        "cache__folder": roomy / "edge" / "cache",
    }
    with fleet.extra("edge", "memory-edge", **edge_settings) as edge:
        worker_settings = {
            "model": MODEL,
            "sources": [edge.url],
            "heartbeat_to": [edge.url],
            "trust_dir": roomy / "worker" / "trust",
            "models_dir": roomy / "worker" / "models",
        }
        with fleet.extra("worker", "memory-worker", **worker_settings) as worker:
            # It is a GGUF, so it is pulled whole and checked; but it is no model.
            eventually(lambda: "load_failed" in fleet.reason(worker), 120)
            assert revision[:12] in fleet.reason(worker)
            pulled = roomy / "worker" / "models" / MODEL / revision / file.name
            assert pulled.stat().st_size == SIZE
            assert edge.pid is not None
            assert worker.pid is not None
            peaks = {"edge": peak_rss_bytes(edge.pid), "worker": peak_rss_bytes(worker.pid)}
            served = fleet.extra_metric(edge, "headwater_edge_served_bytes_total", kind="chunk")
        assert (edge.restarts, worker.restarts) == (0, 0)
    print({name: f"{peak / MIB:.0f} MiB" for name, peak in peaks.items()})
    assert SIZE <= served < SIZE + MAX_MANIFEST_BYTES
    assert peaks["edge"] < LIMIT
    assert peaks["worker"] < LIMIT
