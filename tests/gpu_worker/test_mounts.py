from __future__ import annotations

from pathlib import Path

import pytest

from gpu_worker.mounts import MOUNTS, file_system


def test_the_mount_nearest_to_a_folder_tells_its_file_system(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/vda / ext4 rw 0 0\n"
        f"disk {tmp_path}/shm ext4 rw 0 0\n"
        f"tmpfs {tmp_path}/shm tmpfs rw 0 0\n"
        f"tmpfs {tmp_path}/with\\040space tmpfs rw 0 0\n"
    )
    assert file_system(tmp_path / "shm" / "deep" / "er", mounts) == "tmpfs"
    assert file_system(tmp_path / "with space" / "x", mounts) == "tmpfs"
    assert file_system(tmp_path / "shmother", mounts) == "ext4"
    assert file_system(tmp_path, tmp_path / "missing") is None
    mounts.write_text("cut\n\n")
    assert file_system(tmp_path, mounts) is None


@pytest.mark.skipif(not MOUNTS.exists(), reason="Linux tells its mounts")
def test_here_every_folder_is_on_one() -> None:
    assert file_system(Path("/proc/self")) == "proc"
