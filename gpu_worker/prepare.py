"""Brings a revision from the sources to an engine that has proven itself.

In two halves, because between them the engine that serves may have to make room: :meth:`files`
pulls and checks, :meth:`engine` loads and probes. Both write what they took into the waterfall.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol, TypeVar

import structlog

from gpu_worker.check import ModelFiles, check_model
from gpu_worker.config import WorkerConfig
from gpu_worker.disk import ModelFolder
from gpu_worker.disk_files import disk_error
from gpu_worker.engine import Engine, ProbeFailedError
from gpu_worker.errors import LoadFailedError, NotAModelError, VariantUnknownError
from gpu_worker.faults import Tally
from gpu_worker.fit_rule import Choice
from gpu_worker.hardware import Hardware
from gpu_worker.judge import Judge, ask_of
from gpu_worker.memory import free_memory_bytes
from gpu_worker.order import EngineOrder
from gpu_worker.pull import PullReport, pull
from gpu_worker.residency import Loading, choose_loading, resident_share
from gpu_worker.seeds import LocalChunks
from gpu_worker.variants import ManifestOnce, find_variant
from gpu_worker.waterfall import Waterfall
from wire.errors import GGUFInvalidError, HeadwaterError
from wire.source import Source
from wire.sources.member import SourceStats
from wire.workers import Fault

_log = structlog.get_logger("prepare")

T = TypeVar("T")
EngineFactory = Callable[[EngineOrder], Engine]
"""An engine for what is ordered, not started."""


class CountedSource(Source, Protocol):
    """A Source that knows what each of its members gave."""

    def stats(self) -> tuple[SourceStats, ...]: ...


class Preparation:
    """What a worker needs to prepare revisions of its model.

    Args:
        folder: where revisions stand; ``models_dir`` where none is given.
        on_pull: called when a pull begins: what does not need the weights can begin, too.
        on_gpu: whether layers go to a GPU with memory of its own.
        free_memory: bytes of main memory that could be used now.
        hardware: what a variant must fit (``gpu_worker.fit_rule``); anything fits where none is
            given.
        tally: where it is counted what becomes of the engines.
    """

    def __init__(
        self,
        config: WorkerConfig,
        source: CountedSource,
        executor: ThreadPoolExecutor,
        make_engine: EngineFactory,
        *,
        folder: ModelFolder | None = None,
        on_pull: Callable[[], None] = lambda: None,
        on_gpu: bool = False,
        free_memory: Callable[[], int] = free_memory_bytes,
        hardware: Hardware | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._config = config
        self._source = source
        self._executor = executor
        self._make_engine = make_engine
        self._folder = folder if folder is not None else ModelFolder(config.models_dir)
        self._on_pull = on_pull
        self._on_gpu = on_gpu
        self._free_memory = free_memory
        self._tally = tally or Tally()
        self._judge: Judge | None = None
        if hardware is not None:
            ask = ask_of(config.engine)
            self._judge = Judge(hardware=hardware, ask=ask, config=config.fit)

    async def files(self, revision: str, waterfall: Waterfall) -> ModelFiles:
        """The revision's weights on disk, checked: one variant of them, where there are several.

        Raises:
            LoadFailedError: it must not be loaded, fits nowhere here, or has no variant that the
                configuration names.
            HeadwaterError: it could not be pulled, see ``gpu_worker.pull``.
        """
        if self._config.engine.kind == "openai":
            return ModelFiles(self._config.models_dir, 0)  # the server has its own
        before = self._source.stats()
        self._on_pull()
        here = LocalChunks(self._folder, self._config.model)
        source = ManifestOnce(self._source, lambda *what: self._blocking(here.read, *what))
        with waterfall.step("choose"):
            choice = await self._choose(revision, source)
        if choice.reason:
            waterfall.decisions["choose"] = choice.reason
        with waterfall.step("pull"):
            report = await pull(
                self._config.model,
                revision,
                source,
                self._folder,
                self._executor,
                variant=choice.variant,
                config=self._config.pull,
                progress=waterfall.progressed,
            )
        waterfall.add_pull(report, before, self._source.stats())
        self._executor.submit(self._flush, revision)  # while it is loaded and used
        with waterfall.step("check"):
            files = await self._blocking(self._check, report)
        row = choice.row
        needs_bytes = (row.gpu_bytes or row.ram_bytes) if row is not None else 0
        return replace(files, gpu_layers=choice.gpu_layers, needs_bytes=needs_bytes)

    async def engine(self, files: ModelFiles, revision: str, waterfall: Waterfall) -> Engine:
        """An engine that has loaded the files and answered a probe; nothing is left running where
        that fails.

        Raises:
            LoadFailedError: it did not come up, or did not answer sanely in time.
        """
        limit_s = self._config.load_timeout_s
        loading = await self._blocking(self._loading, files)
        waterfall.decisions["load"] = str(loading)
        order = EngineOrder(
            path=files.path,
            model=self._config.model,
            revision=revision,
            variant=files.variant,
            gpu_layers=files.gpu_layers,
            mmap=loading.mmap,
            tally=self._tally,
        )
        engine = self._make_engine(order)
        try:
            async with asyncio.timeout(limit_s):
                with waterfall.step("load"):
                    await engine.start()
                with waterfall.step("probe"):
                    probe = await engine.probe(files.golden)
        except BaseException as error:
            fault = engine.fault  # what ended it tells more than that its probe failed
            if not fault and isinstance(error, (ProbeFailedError, TimeoutError)):
                # It lives: nobody else counts it.
                probed = isinstance(error, ProbeFailedError)
                self._tally.endings["probe_failed" if probed else "hung"] += 1
            await engine.aclose()
            if not isinstance(error, Exception):
                raise
            raise _load_failed(error, revision, limit_s, fault) from error
        waterfall.add_part("probe", "first token", probe.first_token_s * 1e3)
        if probe.verdict is not None:
            waterfall.divergence_nats = probe.verdict.max_nats
        return engine

    async def fresh_files(self, revision: str, waterfall: Waterfall) -> ModelFiles:
        """The same, brought again whatever is on disk; where that fails, what was there is put
        back."""
        model = self._config.model
        aside = await self._blocking(self._folder.set_aside, model, revision)
        try:
            return await self.files(revision, waterfall)
        finally:
            await self._blocking(self._folder.put_back, model, revision, aside)

    async def older(self) -> list[str]:
        """Whole revisions on disk, the newest first."""
        return list(reversed(await self._blocking(self._folder.revisions, self._config.model)))

    async def tidy(self, serving: str, previous: str, also: frozenset[str] = frozenset()) -> None:
        """Keep the serving revision and some older ones, the previous first: seeds, and a way
        back; and ``also``, whatever the count."""
        order = dict.fromkeys([previous, *await self.older()])
        older = [revision for revision in order if revision not in {"", serving}]
        keep = {serving, *also, *older[: self._config.keep_previous]}
        await self._blocking(self._folder.keep_only, self._config.model, keep)

    async def _choose(self, revision: str, source: ManifestOnce) -> Choice:
        """The variant that this machine takes."""
        try:
            choice = await find_variant(
                self._config.model,
                revision,
                source,
                self._folder,
                self._blocking,
                wanted=self._config.variant,
                judge=self._judge,
            )
        except (VariantUnknownError, NotAModelError, GGUFInvalidError) as error:
            raise LoadFailedError(f"{revision[:12]}: {error.message}", fault="bad_file") from error
        if choice.refused:
            raise LoadFailedError(f"{revision[:12]}: {choice.reason}", fault="out_of_memory")
        _log.info("variant chosen", revision=revision, variant=choice.variant, why=choice.reason)
        return choice

    def _loading(self, files: ModelFiles) -> Loading:
        """Map or read: by what of the files is in memory just now."""
        return choose_loading(
            resident_share(files.paths),
            on_gpu=self._on_gpu and files.gpu_layers != 0,
            in_memory=self._config.weights_in_memory,
            room_bytes=self._free_memory(),
            size=files.size,
        )

    def _flush(self, revision: str) -> None:
        try:
            self._folder.flush(self._config.model, revision)
        except HeadwaterError as error:
            _log.warning("revision not flushed", revision=revision, error=error.message)

    def _check(self, report: PullReport) -> ModelFiles:
        manifest = self._folder.manifest(report.model, report.revision)
        if manifest is None:
            raise LoadFailedError(
                f"{report.revision[:12]} vanished from {report.path}", fault="bad_file"
            )
        try:
            return check_model(manifest, report.path, report.variant)
        except HeadwaterError as error:
            raise LoadFailedError(
                f"{report.revision[:12]}: {error.message}", fault="bad_file"
            ) from error

    async def _blocking(self, work: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)
        except OSError as error:
            raise disk_error(self._folder.root, error) from error


def _load_failed(error: Exception, revision: str, limit_s: float, fault: Fault) -> LoadFailedError:
    """What a load or probe that ended so is called. ``fault``: what ended the engine, if known."""
    if isinstance(error, HeadwaterError):
        why = error.message
    elif isinstance(error, TimeoutError):
        why, fault = f"did not load and answer within {limit_s:g} s", fault or "hung"
    else:  # nobody thought of it, but what served must come back all the same
        _log.error("unexpected", exc_info=error)
        why = f"{type(error).__name__}: {error}"
    known: Fault = fault or getattr(error, "fault", "") or "crashed"
    return LoadFailedError(f"{revision[:12]}: {why}", fault=known)
