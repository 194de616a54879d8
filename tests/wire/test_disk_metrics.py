"""Room on disk, as the file system itself tells it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from wire.disk_metrics import DiskMetrics


def test_room_is_that_of_the_folders_file_system(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    DiskMetrics(registry, {"cache": tmp_path})
    size = registry.get_sample_value("headwater_disk_size_bytes", {"folder": "cache"})
    free = registry.get_sample_value("headwater_disk_free_bytes", {"folder": "cache"})
    assert size == shutil.disk_usage(tmp_path).total
    # Others write to it meanwhile.
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, abs=size / 20)


def test_a_folder_that_is_gone_is_left_out(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    DiskMetrics(registry, {"gone": tmp_path / "gone", "here": tmp_path})
    told = [sample.labels for family in registry.collect() for sample in family.samples]
    assert told == [{"folder": "here"}] * 2
