"""Models to offer to stock clients: with variants, in folders, private ones; and a tier in memory.

``open_tier`` serves from memory in this process. ``StockTiers`` is a real origin and a real edge
over it, on an event loop in a thread of their own, so that blocking clients in processes of their
own can be run against them.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.test_utils import TestServer

from edge_tier.app import build_app as build_edge
from edge_tier.config import CacheConfig, EdgeConfig, GatewayConfig
from origin.app import PUBLISHER
from origin.app import build_app as build_origin
from origin.config import OriginConfig
from origin.init import initialize
from origin.keys import PUBLISHER_KEY as PUBLISHER_KEY_FILE
from origin.keys import load_key
from origin.offline import sign_revisions
from tests.fakes.revisions import PUBLISHER_KEY, Revision, SignedSource
from tests.fakes.tiny_gguf import CHATML
from tests.fakes.waiting import until
from wire.assets import AssetsConfig
from wire.bundle import CARD_PATH, TOKENIZER_PATH, ModelCard, SpecialToken, encode_card
from wire.catalog import CatalogMissingError, FacadeConfig
from wire.chunk import Chunk, ChunkId
from wire.files import write_atomically
from wire.http_access import Access
from wire.http_assets import AssetRoutes
from wire.http_errors import error_middleware
from wire.http_events import EventsConfig
from wire.http_facades import ACCESS, ERROR_BODIES, add_facades, open_access
from wire.http_files import FileSender
from wire.http_routes import ArtifactRoutes
from wire.manifest import ChunkRef, FileEntry, FileRole, build, encode
from wire.pull_tokens import PullTokens
from wire.revision_reader import HELD_MANIFEST_BYTES, RevisionReader
from wire.trust_bundle import REVISIONS, TrustLimits, decode_bundle

T = TypeVar("T")
ADMIN_TOKEN, WORKER_TOKEN = "admin-secret", "worker-secret"
CARD = ModelCard(
    architecture="llama",
    name="Chat",
    context_length=2048,
    parameters=1_234_567,
    quantization="Q4_K_M",
    vocab_size=3,
    tokenizer="engine",
    template="exact",
    chat_template=CHATML,
    eos=SpecialToken("<|im_end|>", 2),
    control_literals=(SpecialToken("<|im_start|>", 1), SpecialToken("<|im_end|>", 2)),
)


def model_bytes(seed: int, size: int = 300_000) -> bytes:
    """The bytes of a made-up weights file."""
    return hashlib.shake_128(b"weights" + seed.to_bytes(4, "big")).digest(size)


def make_model(
    model: str = "chat",
    *,
    seed: int = 0,
    variants: Sequence[str] = (),
    size: int = 300_000,
    extra: Mapping[str, bytes] | None = None,
) -> Revision:
    """A revision with weights (one file a variant), an edge bundle and a licence."""
    files: dict[str, tuple[FileRole, str, bytes]] = {}
    for index, variant in enumerate(variants or ("",)):
        name = f"{model}-{variant}.gguf" if variant else f"{model}.gguf"
        files[name] = ("weights", variant, model_bytes(seed * 16 + index, size))
    files[TOKENIZER_PATH] = ("tokenizer", "", b"{}")
    files[CARD_PATH] = ("model", "", encode_card(CARD))
    files["LICENSE"] = ("other", "", b"You may.\n")
    for path, data in (extra or {}).items():
        files[path] = ("other", "", data)
    chunks: dict[ChunkId, bytes] = {}
    entries = []
    for path, (role, variant, data) in files.items():
        parts = [Chunk.of(data[at : at + 100_000]) for at in range(0, len(data), 100_000)]
        chunks |= {chunk.id: bytes(chunk.data) for chunk in parts}
        entries.append(
            FileEntry(
                path=path,
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                role=role,
                chunks=tuple(ChunkRef(chunk.id, len(chunk)) for chunk in parts),
                variant=variant,
            )
        )
    manifest = encode(build(model, tuple(entries), {}))
    return Revision(model, manifest, chunks, {path: data for path, (_, _, data) in files.items()})


def weights_of(revision: Revision) -> tuple[str, bytes]:
    """Name and bytes of the first weights file."""
    entry = revision.manifest.by_role("weights")[0]
    return entry.path, revision.files[entry.path]


def publish_in(
    source: SignedSource, revision: Revision, *, private: bool = False, channel: str = "stable"
) -> str:
    """Publish in memory."""
    current = source.repository.trusted.bundle.roles[REVISIONS]
    added = [(revision.model, revision.id, len(revision.data))]
    signed = sign_revisions(
        current,
        PUBLISHER_KEY,
        added,
        private=private,
        kind=revision.manifest.kind,
        now=source.clock(),
    )
    accepted = source.repository.accept_revisions(signed, now=source.clock())
    source.repository = accepted.repository
    return source.publish(revision, channel=channel)


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier in memory. ``tokens`` are looked at again with ``access.tokens.refresh()``."""

    url: str
    source: SignedSource
    tokens: PullTokens
    access: Access


@asynccontextmanager
async def open_tier(
    folder: Path,
    *,
    config: FacadeConfig | None = None,
    cache_name: str | None = None,
    assets: AssetsConfig | None = None,
) -> AsyncIterator[Tier]:
    """Serve from memory, all routes guarded."""
    source = SignedSource()
    access = await open_access(
        lambda: source.repository.view, folder / "tokens.json", ADMIN_TOKEN, (ADMIN_TOKEN,)
    )
    app = web.Application(middlewares=[error_middleware(ERROR_BODIES)])
    with ThreadPoolExecutor(4) as pool:
        revisions = RevisionReader(source, pool, HELD_MANIFEST_BYTES)
        ArtifactRoutes(server=source, executor=pool, guard=access, revisions=revisions).add_to(app)
        sender = FileSender(source, pool, cache_name)
        AssetRoutes(
            access=access, revisions=revisions, sender=sender, config=assets or AssetsConfig()
        ).add_to(app)
        add_facades(app, sender, revisions, access, config or FacadeConfig())
        server = TestServer(app)
        await server.start_server()
        url = str(server.make_url("")).rstrip("/")
        try:
            yield Tier(url, source, access.tokens, access)
        finally:
            await server.close()


class StockTiers:
    """A real origin, and a real edge over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.origin_url = ""
        self.edge_url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stock-tiers")
        self._servers: list[TestServer] = []

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where the tiers live."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def start(self) -> None:
        """Start both; the edge has heard from the origin then."""
        self._thread.start()
        try:
            self.call(self._start())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both."""
        try:
            for server in reversed(self._servers):
                self.call(server.close())
            self.call(self._loop.shutdown_default_executor())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def publish(
        self, revision: Revision, *, private: bool = False, channel: str = "stable"
    ) -> Revision:
        """Publish, roll, and wait until the edge knows."""
        self.call(self._publish(revision, private, channel))
        return revision

    def token(self, *models: str) -> str:
        """A pull token that origin and edge both take."""
        _, token = PullTokens.open(self._tokens("origin")).mint(models)
        self._tokens("edge").write_bytes(self._tokens("origin").read_bytes())
        self._tokens("edge").chmod(0o600)
        self.call(self._refresh_tokens())
        return token

    def _tokens(self, tier: str) -> Path:
        return self.folder / f"{tier}-tokens.json"

    async def _start(self) -> None:
        keys = self.folder / "keys"
        for name, secret in (("admin", ADMIN_TOKEN), ("worker", WORKER_TOKEN)):
            write_atomically(self.folder / name, secret.encode())
        _, own = PullTokens(self._tokens("origin")).mint(("*",))
        write_atomically(self.folder / "edge-own", own.encode())
        origin = OriginConfig(
            store=str(self.folder / "store"),
            keys_dir=keys,
            admin_token_file=self.folder / "admin",
            pull_tokens_file=self._tokens("origin"),
        )
        await initialize(origin, "passphrase")
        self.origin_url = await self._serve(await build_origin(origin))
        edge = EdgeConfig(
            origins=(self.origin_url,),
            origin_token_file=self.folder / "edge-own",
            pull_tokens_file=self._tokens("edge"),
            trust_root=keys / "root.json",
            trust_dir=self.folder / "edge-trust",
            admin_token_file=self.folder / "admin",
            worker_token_file=self.folder / "worker",
            events=EventsConfig(retry_min_s=0.01, retry_max_s=0.05),
            cache=CacheConfig(folder=self.folder / "cache"),
            gateway=GatewayConfig(
                keys_file=self.folder / "keys.json", pepper_file=self.folder / "pepper"
            ),
        )
        self.edge_url = await self._serve(await build_edge(edge))

    async def _serve(self, app: web.Application) -> str:
        server = TestServer(app, handler_cancellation=True)
        await server.start_server()
        self._servers.append(server)
        return str(server.make_url("")).rstrip("/")

    async def _publish(self, revision: Revision, private: bool, channel: str) -> None:
        publisher = self._servers[0].app[PUBLISHER]
        for data in revision.chunks.values():
            await publisher.store.put_chunk(Chunk.of(data))
        await publisher.store.put_manifest(revision.id, revision.data)
        if (revision.model, revision.id) not in publisher.repository.view.revisions:
            bundle = decode_bundle(publisher.repository.bundle(0), TrustLimits())
            signed = sign_revisions(
                bundle.roles[REVISIONS],
                load_key(self.folder / "keys" / PUBLISHER_KEY_FILE),
                [(revision.model, revision.id, len(revision.data))],
                private=private,
                kind=revision.manifest.kind,
                now=time.time(),
            )
            await publisher.publish(signed)
        await publisher.roll(revision.model, channel, revision.id)
        access = self._servers[1].app[ACCESS]
        named = (revision.model, channel)

        def told() -> bool:
            try:
                pointer = access.catalog().view.channels.get(named)
            except CatalogMissingError:
                return False
            return pointer is not None and pointer.revision == revision.id

        await until(told)

    async def _refresh_tokens(self) -> None:
        for server in self._servers:
            await asyncio.to_thread(server.app[ACCESS].tokens.refresh)


@contextmanager
def stock_tiers(folder: Path) -> Iterator[StockTiers]:
    """Both tiers, as long as the block lasts."""
    tiers = StockTiers(folder)
    tiers.start()
    try:
        yield tiers
    finally:
        tiers.stop()
