"""A pull from the command line: trust first, then every chunk from whoever is nearest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from gpu_worker.disk import ModelFolder
from gpu_worker.fit_needs import FitConfig
from gpu_worker.judge import Judge, hardware_for
from gpu_worker.pull import PullReport, pull
from gpu_worker.variants import ManifestOnce, find_variant
from infra.render import duration, pairs, shares, size, waterfall
from wire.http_source import HttpSource
from wire.sources.member import SOURCE_COUNTERS, SourceStats
from wire.sources.nearest import Nearest
from wire.threads import in_thread
from wire.trust_client import TrustClient, open_trust

THREADS = 8
TRUST_FOLDER = ".trust"
"""Below the folder of models: what was verified, so that the next pull can tell a rollback."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Pulled:
    """A finished pull: where every byte came from, and the time it took."""

    report: PullReport
    sources: tuple[SourceStats, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        report = self.report
        return {
            "model": report.model,
            "revision": report.revision,
            "variant": report.variant,
            "path": str(report.path),
            "size": report.size,
            "from_disk": report.resumed_bytes,
            "from_seeds": report.seeded_bytes,
            "from_network": report.fetched_bytes,
            "sources": {
                s.name: {counter: getattr(s, counter) for counter in SOURCE_COUNTERS}
                for s in self.sources
            },
            "steps_ms": report.steps_ms,
            "seconds": self.seconds,
        }

    def show(self, console: Console) -> None:
        """For people."""
        report = self.report
        took = duration(self.seconds * 1e3)
        about: dict[str, object] = {"model": report.model, "revision": report.revision}
        if report.variant:
            about["variant"] = report.variant
        about |= {"path": report.path, "size": f"{size(report.size)} in {took}"}
        console.print(pairs(about))
        console.print(shares(self.parts()))
        if report.steps_ms:
            console.print(waterfall(report.steps_ms))

    def parts(self) -> dict[str, float]:
        """Bytes by where they came from; what sources gave includes the small documents."""
        report = self.report
        parts: dict[str, float] = {"this disk": report.resumed_bytes}
        parts["an older revision here"] = report.seeded_bytes
        return parts | {stats.name: stats.bytes for stats in self.sources}


async def pull_model(
    model: str,
    channel: str,
    urls: Sequence[str],
    folder: Path,
    trust_root: Path,
    *,
    variant: str = "",
    token: str | None = None,
    flush: bool = False,
    progress: Progress = lambda *_: None,
) -> Pulled:
    """Bring what the signed channel names to disk.

    Args:
        variant: which one, where the revision has several; where empty, the one that a worker
            would take.
        token: a pull token, for a private model; every URL is shown it.
        flush: wait until everything is on the disk, too.

    Raises:
        NotFoundError: nothing stands at the channel.
        VariantUnknownError: the revision has no such variant.
        ConfigError: no usable trust root or URL.
        TrustError: what the sources say is not signed by the publisher's root.
        HeadwaterError: as ``gpu_worker.pull.pull``.
    """
    started = time.monotonic()
    trust = open_trust(folder / TRUST_FOLDER, trust_root)
    with (
        ThreadPoolExecutor(THREADS * max(1, len(urls)), thread_name_prefix="receive") as receivers,
        ThreadPoolExecutor(THREADS, thread_name_prefix="disk") as disk,
    ):
        members = [HttpSource(url, receivers, token=token) for url in dict.fromkeys(urls)]
        source = Nearest(members)
        try:
            view = await TrustClient(source, trust, members).refresh()
            revision = view.pointer(model, channel).revision
            models, once = ModelFolder(folder), ManifestOnce(source)
            # What a worker would take here; where it would refuse, what is nearest to fitting.
            judge = None
            if not variant:
                judge = Judge(hardware=await in_thread(disk, partial(hardware_for, FitConfig())))
            choice = await find_variant(
                model,
                revision,
                once,
                models,
                partial(in_thread, disk),
                wanted=variant,
                judge=judge,
                alone=False,
            )
            chosen = choice.variant
            report = await pull(
                model, revision, once, models, disk, variant=chosen, progress=progress
            )
            if flush:
                await in_thread(disk, lambda: models.flush(model, revision))
        finally:
            await source.aclose()
    return Pulled(report, source.stats(), time.monotonic() - started)
