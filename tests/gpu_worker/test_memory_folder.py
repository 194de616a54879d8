from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gpu_worker.config import WorkerConfig
from gpu_worker.memory_folder import memory_folder, open_memory_folder, remove_memory_folder
from wire.errors import ConfigError


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A table in which ``tmp_path / "shm"`` is in memory and all else on a disk."""
    table = tmp_path / "mounts"
    table.write_text(
        "/dev/vda / ext4 rw 0 0\n"
        f"disk {tmp_path}/shm ext4 rw 0 0\n"
        f"tmpfs {tmp_path}/shm tmpfs rw 0 0\n"
    )
    return table


def test_a_worker_has_a_folder_of_its_own() -> None:
    config = WorkerConfig()
    assert memory_folder(config, "gpu-7") == Path("/dev/shm/headwater-gpu-7")
    assert memory_folder(config, "../a b\0") == Path("/dev/shm/headwater-.._a_b_")
    assert len(memory_folder(config, "x" * 1_000).name) < 255
    named = WorkerConfig(memory_dir=Path("/mnt/ram"))
    assert memory_folder(named, "gpu-7") == Path("/mnt/ram/headwater-gpu-7")


def test_it_is_made_for_nobody_else_and_removed(tmp_path: Path, mounts: Path) -> None:
    folder = tmp_path / "shm" / "headwater-a"
    open_memory_folder(folder, mounts)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "chat").mkdir()
    open_memory_folder(folder, mounts)
    assert (folder / "chat").exists(), "a killed worker's weights were thrown away"
    remove_memory_folder(folder)
    assert not folder.exists()
    remove_memory_folder(folder)


def test_a_folder_that_others_could_have_put_there_is_refused(tmp_path: Path, mounts: Path) -> None:
    shared = tmp_path / "shm"
    shared.mkdir()
    (shared / "real").mkdir(mode=0o700)
    (shared / "link").symlink_to(shared / "real")
    (shared / "open").mkdir()
    (shared / "open").chmod(0o755)
    (shared / "file").write_text("")
    for name, why in {"link": "not ours", "open": "lets others in", "file": "File exists"}.items():
        with pytest.raises(ConfigError, match=why):
            open_memory_folder(shared / name, mounts)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, mounts: Path) -> None:
    folder = tmp_path / "shm" / "theirs"
    folder.mkdir(parents=True, mode=0o700)
    os.chown(folder, 12_345, 12_345)
    with pytest.raises(ConfigError, match="not ours"):
        open_memory_folder(folder, mounts)


def test_a_disk_is_no_memory(tmp_path: Path, mounts: Path) -> None:
    with pytest.raises(ConfigError, match="on ext4, not in memory"):
        open_memory_folder(tmp_path / "disk", mounts)
