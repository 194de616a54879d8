"""Restores the store of a lost origin from edges: signed documents, manifests and chunks.

:func:`restore` reads as the steps, in order. As in a publish the documents come last: a restore
that was cut off has committed nothing, and is simply repeated; what was brought is not fetched
again. A store that has documents is never touched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_tier.cache.takedowns import MAX_TAKEDOWNS_BYTES, decode_takedowns
from infra.repair import Progress, Repair, StoreShelf, Suppliers, open_suppliers
from infra.trust_desk import read_anchor
from origin.config import OriginConfig
from origin.errors import StoreError
from origin.init import make_admin_token
from origin.keys import ONLINE_KEY, ROOT_FILE, load_key
from origin.restore import Restored, newest
from origin.store import ObjectStore
from origin.trust_routes import spare_online_key
from wire.errors import ConfigError, HeadwaterError, NotFoundError, SourceUnavailableError
from wire.http_client import BlockingClient
from wire.http_source import MAX_BUNDLE_BYTES
from wire.paths import TAKEDOWNS, TRUST_BUNDLE, revision_key
from wire.trust import TrustView

LOST = (
    "what was published or rolled later, and seen by none of these edges: publish it again, a "
    "revision gets the same name; an edge that saw more says `trust_failed` in its log until "
    "`headwater origin rotate --online`",
    "pins: `headwater pin` again",
    "records of rolls, and one that was under way: channels point where they were signed to; see "
    "`headwater rolls`",
    "files beside the store: admin, report and pull tokens",
)
"""What no edge has, and what to do about it."""
_CHUNK = "chunk:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be restored, and from whom."""

    edges: tuple[str, ...]
    trust_root: Path | None = None
    """The first ``root.json``; the key folder's where None."""
    pull_token: str | None = None
    """Opens private models at the edges."""
    documents_only: bool = False
    accept_expired: bool = False
    """Take documents whose offline grace is over."""


@dataclass(slots=True)
class Outcome:
    """What a restore did."""

    source: str
    """The edge whose documents were taken."""
    view: TrustView
    edges: dict[str, str]
    """Each edge that was asked → the version of its timestamp, or why nothing was taken from it."""
    repair: Repair | None
    """None where only documents were wanted."""
    complete: list[str] = field(default_factory=list)
    """Revisions that are whole."""
    taken_down: dict[str, list[str]] = field(default_factory=dict)
    """Signed revisions that were not brought → the edges that say they were taken down."""
    made_token: bool = False

    def as_dict(self, store: str) -> dict[str, Any]:
        """For ``--json``."""
        failed = self.repair.failed if self.repair is not None else {}
        return {
            "store": store,
            "source": self.source,
            "state": self.view.state,
            "versions": dict(self.view.versions),
            "expires_at": self.view.expires_at,
            "channels": [f"{p.model}@{p.channel}" for p in self.view.pointers()],
            "edges": self.edges,
            "revisions": self.complete,
            "failed": failed,
            "taken_down": self.taken_down,
            "chunks": self.repair.chunks if self.repair is not None else 0,
            "bytes": self.repair.chunk_bytes if self.repair is not None else 0,
            "made_admin_token": self.made_token,
            "not_restored": list(LOST),
        }


def restore(
    config: OriginConfig,
    wanted: Wanted,
    progress: Progress = lambda *_: None,
    *,
    clock: Callable[[], float] = time.time,
) -> Outcome:
    """Fill an empty store from edges.

    Raises:
        ConfigError: the store has documents already, or keys and root cannot be used.
        SourceUnavailableError: no edge gave anything.
        TrustError: nothing that edges gave verifies, or it has expired beyond the offline grace.
        StoreError: the store fails.
    """
    with asyncio.Runner() as runner, _clients(wanted.edges) as clients:
        store = ObjectStore(config.store, config=config.s3)
        _require_empty(runner, store, config.store)
        found, silent = _documents(config, wanted, clients, clock())
        view = found.repository.view.at(clock())
        told = {url: f"timestamp {version}" for url, version in found.versions.items()}
        outcome = Outcome(found.source, view, {**told, **found.refused, **silent}, None)
        if not wanted.documents_only:
            gone = _takedowns(outcome, {url: clients[url] for url in found.versions})
            # What is named by its hash may come from an edge whose documents were refused.
            others = [url for url in clients if url not in {found.source, *silent}]
            with _suppliers([found.source, *others], wanted.pull_token) as suppliers:
                outcome.repair = Repair(StoreShelf(store, runner), suppliers, progress)
                _bring(outcome, outcome.repair, gone)
        runner.run(store.put_trust_documents(found.repository.files))
        outcome.made_token = make_admin_token(config.admin_token_file)
        return outcome


def _documents(
    config: OriginConfig, wanted: Wanted, clients: Mapping[str, BlockingClient], now: float
) -> tuple[Restored, dict[str, str]]:
    """The newest documents of all edges; and why there are none of the others."""
    online_key = load_key(config.keys_dir / ONLINE_KEY)
    spare_key = spare_online_key(config.keys_dir)
    anchor = read_anchor(wanted.trust_root or config.keys_dir / ROOT_FILE)
    offers: dict[str, bytes] = {}
    silent: dict[str, str] = {}
    for url, client in clients.items():
        try:
            offers[url] = _get(client, f"{TRUST_BUNDLE}?root=0", MAX_BUNDLE_BYTES)
        except HeadwaterError as error:
            silent[url] = error.message
    if not offers:
        raise SourceUnavailableError("no edge gave trust metadata: " + "; ".join(silent.values()))
    found = newest(
        offers,
        anchor,
        online_key,
        spare_key=spare_key,
        now=now,
        accept_expired=wanted.accept_expired,
    )
    return found, {**silent, **found.refused}


def _bring(outcome: Outcome, repair: Repair, gone: Mapping[str, frozenset[str]]) -> None:
    """Every signed revision, those that channels name first; but none that was taken down."""
    chunks = frozenset(
        key.removeprefix(_CHUNK) for keys in gone.values() for key in keys if key.startswith(_CHUNK)
    )
    private = {revision for _, revision in outcome.view.private}
    for revision, size in _in_order(outcome.view):
        says = [url for url, keys in gone.items() if revision_key(revision) in keys]
        if says:
            outcome.taken_down[revision] = says
        elif repair.revision(revision, size, without=chunks):
            outcome.complete.append(revision)
        elif revision in private:
            repair.failed[revision] += "; it is private: is there a pull token that opens it?"


def _in_order(view: TrustView) -> Iterator[tuple[str, int]]:
    """Signed revisions with the sizes of their manifests."""
    sizes = {revision: size for (_, revision), size in view.revisions.items()}
    pointed = dict.fromkeys(one for pointer in view.pointers() for one in pointer.revisions)
    for revision in (*pointed, *sorted(sizes.keys() - pointed.keys())):
        yield revision, sizes[revision]


def _takedowns(
    outcome: Outcome, clients: Mapping[str, BlockingClient]
) -> dict[str, frozenset[str]]:
    """What each edge says was taken down. Nobody signs such a list, so all that it can do is to
    keep a revision from being brought."""
    gone = {}
    for url, client in clients.items():
        try:
            keys = decode_takedowns(_get(client, TAKEDOWNS, MAX_TAKEDOWNS_BYTES))
        except HeadwaterError as error:
            outcome.edges[url] += f"; takedowns not known: {error.message}"
        else:
            gone[url] = frozenset(keys)
    return gone


def _require_empty(runner: asyncio.Runner, store: ObjectStore, location: str) -> None:
    try:
        documents = runner.run(store.trust_documents())
    except StoreError as error:
        raise ConfigError(
            f"the store {location} holds trust documents that cannot be read ({error.message}); "
            "move them away to restore others"
        ) from error
    if documents:
        raise ConfigError(
            f"the store {location} holds trust documents already, which are never overwritten; "
            "start the origin with them, and bring what is missing with `headwater verify "
            "--repair-from`"
        )


@contextmanager
def _clients(urls: Sequence[str]) -> Iterator[dict[str, BlockingClient]]:
    """Without a token: what they are asked for is open, and some may not be ours."""
    clients = {url: BlockingClient(url.rstrip("/")) for url in urls}
    try:
        yield clients
    finally:
        for client in clients.values():
            client.close()


@contextmanager
def _suppliers(urls: Sequence[str], token: str | None) -> Iterator[Suppliers]:
    suppliers = open_suppliers(urls, token)
    try:
        yield suppliers
    finally:
        suppliers.close()


def _get(client: BlockingClient, path: str, limit_bytes: int) -> bytes:
    answer = client.get(path, limit_bytes=limit_bytes)
    if answer.status == 404:
        raise NotFoundError(f"{client.netloc} has no {path}")
    if answer.status != 200:
        raise SourceUnavailableError(f"{client.netloc}: {path}: status {answer.status}")
    return bytes(answer.body)
