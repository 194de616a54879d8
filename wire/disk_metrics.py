"""How much room the file systems have that a tier writes to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class DiskMetrics(Collector):
    """Read when they are asked for: one ``statvfs(3)`` for each folder, of local file systems.

    Args:
        folders: what they are for → where they are. One that cannot be looked at is left out.
    """

    def __init__(self, registry: CollectorRegistry, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Free for us, which is less than what root could still write, and altogether."""
        free = GaugeMetricFamily(
            "headwater_disk_free_bytes",
            "What this process can still write to the file system of a folder.",
            labels=["folder"],
        )
        size = GaugeMetricFamily(
            "headwater_disk_size_bytes", "Size of that file system.", labels=["folder"]
        )
        for name, path in self._folders.items():
            try:
                found = os.statvfs(path)
            except OSError:
                continue
            free.add_metric([name], found.f_bavail * found.f_frsize)
            size.add_metric([name], found.f_blocks * found.f_frsize)
        yield free
        yield size
