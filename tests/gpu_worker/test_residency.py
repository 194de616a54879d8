from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_worker.residency import (
    by_cachestat,
    by_mincore,
    choose_loading,
    gpu_present,
    resident_share,
)

SIZE = 8 * 1024 * 1024


@pytest.fixture
def file() -> Iterator[Path]:
    """On a disk: what stands in memory cannot be dropped from it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder) / "weights"
        with path.open("wb") as stream:
            stream.write(os.urandom(SIZE))
            stream.flush()
            os.fsync(stream.fileno())
        drop(path)
        if (resident_share([path]) or 0.0) > 0.9:
            pytest.skip("/var/tmp is in memory, or nobody tells what is resident")
        path.read_bytes()
        yield path


def drop(path: Path, offset: int = 0) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.posix_fadvise(handle, offset, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def test_what_was_read_just_now_is_resident_and_what_was_dropped_is_not(file: Path) -> None:
    assert resident_share([file]) == pytest.approx(1.0)
    drop(file, SIZE // 2)
    half = resident_share([file])
    assert half == pytest.approx(0.5, abs=0.1)
    drop(file)
    assert resident_share([file]) == pytest.approx(0.0, abs=0.05)


def test_both_ways_to_ask_agree(file: Path) -> None:
    drop(file, SIZE // 4)
    with file.open("rb") as stream:
        sampled = by_mincore(stream.fileno(), SIZE)
        whole = by_cachestat(stream.fileno())
    assert sampled is not None
    if whole is None:
        pytest.skip("this kernel has no cachestat(2)")
    assert sampled == pytest.approx(whole, rel=0.2)


@pytest.mark.parametrize("size", [1, mmap.PAGESIZE, 17 * mmap.PAGESIZE + 1, 5_000_000])
def test_files_of_any_size_can_be_sampled(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    with (tmp_path / "file").open("rb") as stream:
        assert by_mincore(stream.fileno(), size) == size


def test_files_count_by_their_bytes(tmp_path: Path) -> None:
    sizes = {"a": 100, "b": 300}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    paths = [tmp_path / name for name in sizes]
    assert resident_share(paths, lambda _handle, size: size if size > 100 else 0) == 0.75
    # Pages are whole, files need not be.
    assert resident_share(paths, lambda _handle, _size: 4_096) == 1.0


def test_where_nobody_tells_nobody_guesses(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert resident_share([tmp_path / "file"], lambda *_: None) is None
    assert resident_share([tmp_path / "missing"]) is None
    assert resident_share([]) is None


def test_what_is_resident_is_mapped() -> None:
    assert choose_loading(0.5, on_gpu=True).mmap
    found = choose_loading(0.999, on_gpu=False)
    assert str(found) == "mmap: 100% of the bytes are resident"


def test_what_is_cold_is_mapped_for_the_processor_and_read_for_a_gpu() -> None:
    assert choose_loading(0.1, on_gpu=False).mmap
    found = choose_loading(0.1, on_gpu=True)
    assert str(found).startswith("read: 10% of the bytes are resident")


def test_a_copy_needs_room() -> None:
    assert choose_loading(0.0, on_gpu=True, room_bytes=99, size=100).mmap
    assert not choose_loading(0.0, on_gpu=True, room_bytes=100, size=100).mmap


def test_what_stands_in_memory_is_never_held_twice() -> None:
    assert choose_loading(0.0, on_gpu=True, in_memory=True).mmap


def test_unknown_residency_is_mapped() -> None:
    assert choose_loading(None, on_gpu=True).mmap


def test_a_gpu_shows_in_its_driver(tmp_path: Path) -> None:
    assert not gpu_present([tmp_path / "nvidiactl"])
    (tmp_path / "kfd").touch()
    assert gpu_present([tmp_path / "nvidiactl", tmp_path / "kfd"])
