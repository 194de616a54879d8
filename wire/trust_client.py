"""Keeps a tier's trusted view up to date from a Source. A thin adapter over ``TrustStore``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from wire.errors import ConfigError, SourceUnavailableError, TrustError, TrustStateError
from wire.source import Source
from wire.trust import TrustView
from wire.trust_store import TrustStore


def open_trust(folder: Path, root_file: Path) -> TrustStore:
    """The trusted state in ``folder``, anchored in a provisioned ``root.json``. Blocking.

    Raises:
        ConfigError: the root cannot be read or used.
    """
    try:
        root = root_file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the trust root {root_file}: {error.strerror}; copy root.json from the "
            "publisher"
        ) from error
    return TrustStore(folder, root)


class TrustClient:
    """Fetches trust bundles and verifies them off the event loop.

    Args:
        source: where bundles come from; nothing it says is believed unverified.
        store: the persisted, verified state.
        others: asked one after the other where what ``source`` gave does not verify, so that one
            hostile or frozen source cannot keep the news of honest ones away.
    """

    def __init__(self, source: Source, store: TrustStore, others: Sequence[Source] = ()) -> None:
        self._source = source
        self._store = store
        self._others = tuple(others)
        self._turn = asyncio.Lock()

    @property
    def view(self) -> TrustView | None:
        """What was verified last, flagged where it has expired; None before the first time."""
        return self._store.view

    @property
    def root_version(self) -> int:
        """The newest root trusted here."""
        return self._store.root_version

    async def refresh(self) -> TrustView:
        """Ask for news and verify them.

        Raises:
            SourceUnavailableError: the source is away; the old view holds.
            TrustError: what it gave does not verify, nor what the others gave; the old view holds.
        """
        async with self._turn:
            try:
                return await self._from(self._source)
            except TrustStateError:
                raise  # it is this machine's disk; nobody else's bundle would help
            except TrustError:
                for other in self._others:
                    with suppress(TrustError, SourceUnavailableError):
                        return await self._from(other)
                raise

    async def _from(self, source: Source) -> TrustView:
        bundle = await source.trust_bundle(self._store.root_version)
        return await asyncio.to_thread(self._store.update, bundle)
