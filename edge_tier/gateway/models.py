"""The models an edge offers: what the signed channels say, and a tokenizer per revision.

The gateway reads nothing of the artifact plane but the edge bundle of a revision (two small files),
through any ``Source``: the cache in the same process, or another edge.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from edge_tier.gateway.canary import ANYWHERE, Lane, lane_of
from edge_tier.gateway.request import Prompt, Tokens
from edge_tier.gateway.sanitize import ControlLiterals
from edge_tier.gateway.tokenize import TokenizeConfig, Tokenizer
from wire.bundle import decode_card
from wire.channel import Canary, ChannelPointer
from wire.errors import ManifestInvalidError, NotFoundError, TrustError
from wire.manifest import FileEntry, Manifest, decode
from wire.source import Source
from wire.trust import TrustView

_log = structlog.get_logger("models")
_MAX_LANES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsConfig:
    """Bounds of what the gateway keeps of models."""

    loaded: int = 16
    """Tokenizers in memory at once; the least recently used one goes."""
    max_bundle_bytes: int = 64 * 1024 * 1024
    """The largest edge bundle that is read."""
    tokenize: TokenizeConfig = field(default_factory=TokenizeConfig)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What the stages need of a revision."""

    tokenizer: Tokenizer
    literals: ControlLiterals

    async def tokenize(self, prompt: Prompt) -> Tokens:
        """The prompt's ids, or an estimate where the bundle leaves them to the engine.

        Raises:
            RequestInvalidError, TooLargeError: the prompt does not fit the model.
        """
        tokenizer = self.tokenizer
        if not tokenizer.handles(prompt):
            count = tokenizer.estimate(prompt)
            return Tokens(model=tokenizer.model, revision=tokenizer.revision, estimate=count)
        if tokenizer.is_long(prompt):
            return await asyncio.to_thread(tokenizer.encode, prompt)
        return tokenizer.encode(prompt)


class ModelDirectory:
    """Offered models and their tokenizers.

    Args:
        source: gives manifests and chunks; everything from it is verified.
        view: what is trusted now; None before the first bundle.
    """

    def __init__(
        self,
        source: Source,
        view: Callable[[], TrustView | None],
        config: ModelsConfig | None = None,
    ) -> None:
        self._source = source
        self._view = view
        self._config = config or ModelsConfig()
        self._models: OrderedDict[str, LoadedModel] = OrderedDict()
        self._loading: dict[str, asyncio.Task[LoadedModel]] = {}
        self._seen: TrustView | None = None
        self._channels: dict[str, str] = {}
        self._canaries: dict[str, Canary] = {}
        """Those that are tried on callers: of ``stable``, or else of another channel."""
        self._lanes: dict[tuple[str, str], Lane] = {}
        """Model and caller → what was found out about them in this view."""

    def channels(self) -> dict[str, str]:
        """Model → revision of its ``stable`` channel (or its only one), as signed."""
        view = self._view()
        if view is not self._seen:
            self._seen = view
            pointers = _models(view) if view is not None else ()
            ranked = sorted(pointers, key=lambda p: p.channel == "stable")
            self._channels = {pointer.model: pointer.revision for pointer in ranked}
            self._canaries = {
                p.model: p.canary for p in ranked if p.canary and p.canary.by == "callers"
            }
            self._lanes = {}
        return self._channels

    def lane(self, model: str, caller: str) -> Lane:
        """The revisions that a caller may meet, by the id of its key."""
        self.channels()
        canary = self._canaries.get(model)
        if canary is None:
            return ANYWHERE
        lane = self._lanes.get((model, caller))
        if lane is None:
            if len(self._lanes) >= _MAX_LANES:
                self._lanes.clear()
            lane = self._lanes[model, caller] = lane_of(canary, caller)
        return lane

    async def model(self, model: str, revision: str) -> LoadedModel:
        """A revision's tokenizer; loaded once, however many wait for it.

        Raises:
            TrustError: the publisher did not sign the revision.
            NotFoundError, SourceUnavailableError: its bundle is not to be had now.
        """
        found = self._models.get(revision)
        if found is not None:
            self._models.move_to_end(revision)
            return found
        # Shielded: a client that leaves must not take the others' model with it.
        return await asyncio.shield(self._started(model, revision))

    def prefetch(self, model: str, revision: str) -> None:
        """Load a revision that requests will soon need, so that none of them waits for it."""
        if revision not in self._models and revision not in self._loading:
            self._started(model, revision).add_done_callback(_log_failure)

    async def aclose(self) -> None:
        """Stop what is being loaded."""
        for task in list(self._loading.values()):
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)

    def _started(self, model: str, revision: str) -> asyncio.Task[LoadedModel]:
        task = self._loading.get(revision)
        if task is None:
            task = asyncio.create_task(self._load(model, revision), name=f"load-{model}")
            self._loading[revision] = task
            task.add_done_callback(lambda _: self._loading.pop(revision, None))
        return task

    async def _load(self, model: str, revision: str) -> LoadedModel:
        view = self._view()
        if view is None:
            raise TrustError("no verified trust metadata yet")
        view.require_revision(model, revision)
        manifest = decode(await self._source.manifest(revision), revision)
        card = decode_card(await self._read(_only(manifest, "model")))
        data = await self._read(_only(manifest, "tokenizer"))
        tokenizer = await asyncio.to_thread(
            Tokenizer, model, revision, card, data, self._config.tokenize
        )
        loaded = LoadedModel(tokenizer, ControlLiterals(tokenizer.literals))
        self._models[revision] = loaded
        while len(self._models) > self._config.loaded:
            self._models.popitem(last=False)
        return loaded

    async def _read(self, entry: FileEntry) -> bytes:
        if entry.size > self._config.max_bundle_bytes:
            raise ManifestInvalidError(
                f"{entry.path} has {entry.size} B; the edge reads at most "
                f"{self._config.max_bundle_bytes} B (gateway.models.max_bundle_bytes)"
            )
        return b"".join([bytes((await self._source.chunk(ref.id)).data) for ref in entry.chunks])


def _models(view: TrustView) -> tuple[ChannelPointer, ...]:
    """The channels of models: a static site answers no prompt."""
    return tuple(p for p in view.pointers() if (p.model, p.revision) not in view.static)


def _log_failure(task: asyncio.Task[LoadedModel]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("model not loaded ahead", task=task.get_name(), error=str(error))


def _only(manifest: Manifest, role: str) -> FileEntry:
    for entry in manifest.files:
        if entry.role == role:
            return entry
    raise NotFoundError(f"revision of {manifest.model} has no {role} file for the edge")
