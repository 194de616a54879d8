"""The records of channels, as one of the origins on a store reads and writes them.

One record stands in the store for each channel, and is only ever written on condition that it is
the one that was read. An origin drives a rollout while its name stands in the record. Of a store
that others share, another one takes over when the record has not changed for ``lease_s``, by its
own clock; of a folder, which has one origin, at once.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import structlog

from origin.errors import StoreError
from origin.rollout_config import RolloutConfig
from origin.rollout_records import ChannelRecord, decode_record, encode_record
from origin.store import ObjectStore
from origin.stores.objects import Tag
from wire.channel import ChannelPointer
from wire.errors import ConflictError, NotFoundError

_log = structlog.get_logger("rollouts")


@dataclass(slots=True)
class Held:
    """A channel's record as this origin knows it. Change it in memory freely; what is to last is
    written by :meth:`Shelf.save`."""

    record: ChannelRecord
    tag: Tag | None = None
    changed_s: float = 0.0
    """When it was last seen to change, by the monotonic clock."""
    saved_s: float = 0.0
    """When this origin wrote it last."""


class Shelf:
    """All records.

    Args:
        clock: seconds since 1970.
        ticking: monotonic seconds.
    """

    def __init__(
        self,
        store: ObjectStore,
        config: RolloutConfig,
        *,
        clock: Callable[[], float],
        ticking: Callable[[], float],
    ) -> None:
        self.name = secrets.token_hex(6)
        """This life of this origin."""
        self._store = store
        self._config = config
        self._clock = clock
        self._ticking = ticking
        self._held: dict[tuple[str, str], Held] = {}
        self._listed_s = self._read_s = -math.inf

    def all(self) -> list[Held]:
        """By model and channel."""
        return [held for _, held in sorted(self._held.items())]

    def find(self, model: str, channel: str) -> Held | None:
        """A channel's record, if it has one."""
        return self._held.get((model, channel))

    def holding(self, model: str, channel: str) -> Held:
        """A channel's record; an empty one where it has none yet."""
        held = self._held.get((model, channel))
        if held is None:
            held = Held(ChannelRecord(model=model, channel=channel), changed_s=self._ticking())
            self._held[model, channel] = held
        return held

    async def read(self, *, fresh: bool = True) -> None:
        """Learn what others wrote: all records once, and where others write, again and again;
        those of running rollouts every ``tick_s``. What is read late is never overwritten.

        Args:
            fresh: read running ones now, whenever they were read last.

        Raises:
            StoreError: they cannot be read.
        """
        now, shared = self._ticking(), self._store.shared
        if self._listed_s == -math.inf or (shared and now - self._listed_s >= self._pause_s):
            for key in sorted(await self._store.channel_records()):
                await self._reread(self.holding(*key))
            self._listed_s = self._read_s = now
        elif shared and (fresh or now - self._read_s >= self._config.tick_s):
            for held in list(self._held.values()):
                if held.record.current is not None:
                    await self._reread(held)
            self._read_s = now

    async def note(self, pointer: ChannelPointer) -> None:
        """Keep a pointer that no rollout signed. Raises ``StoreError``."""
        held = self.holding(pointer.model, pointer.channel)
        record = held.record.with_pointer(pointer, self._config, at=self._clock())
        if record is not held.record:
            with suppress(ConflictError):  # whoever wrote it first notes the pointer too
                await self.save(held, record)

    async def mine(self, held: Held) -> bool:
        """Whether this origin drives the channel's rollout; taken over where nobody does.
        Raises ``StoreError``."""
        if held.record.driver == self.name:
            return True
        silent_s = self._ticking() - held.changed_s
        if self._store.shared and silent_s < self._config.lease_s:
            return False
        _log.info("rollout taken over", model=held.record.model, channel=held.record.channel)
        try:
            await self.save(held, held.record, take=True)
        except ConflictError:
            return False
        return True

    def due(self, held: Held) -> bool:
        """Whether a record in which only figures changed should be written again, as a sign of
        life too."""
        return self._ticking() - held.saved_s >= self._pause_s

    async def save(self, held: Held, record: ChannelRecord, *, take: bool = False) -> None:
        """Write a record.

        Args:
            take: this origin drives from here on.

        Raises:
            ConflictError: another origin wrote it; it has been read again.
            StoreError: it may or may not have been written.
        """
        driver = self.name if take else record.driver
        record = msgspec.structs.replace(record, beat=record.beat + 1, driver=driver)
        data = encode_record(record)
        try:
            held.tag = await self._store.put_channel_record(
                record.model, record.channel, data, held.tag
            )
        except ConflictError:
            await self._reread(held)
            raise
        held.record = record
        held.changed_s = held.saved_s = self._ticking()

    @property
    def _pause_s(self) -> float:
        if self._store.shared:
            return min(self._config.save_s, self._config.lease_s / 3)
        return self._config.save_s

    async def _reread(self, held: Held) -> None:
        model, channel = held.record.model, held.record.channel
        try:
            found = await self._store.channel_record(model, channel, held.tag)
        except NotFoundError:
            return
        if found is None:
            return
        data, held.tag = found
        held.changed_s = self._ticking()
        try:
            held.record = decode_record(data, model, channel)
        except StoreError as error:
            _log.error("a channel's record begins anew", error=error.message)
