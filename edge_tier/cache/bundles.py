"""Fetches trust metadata that verifies, from whoever has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from wire.errors import NotFoundError, SourceUnavailableError, TrustError, TrustStateError
from wire.source import Source


class Bundles:
    """The newest trust bundle that an edge can get.

    Always with all roots (``root_version`` 0): that one serves every client, of whatever version.

    Args:
        upstream: asked first.
        members: the sources that ``upstream`` is made of; asked one by one where what it gave does
            not verify: one that is hostile or frozen must not keep the news of the others away.
        verify: raises ``TrustError`` on a bundle that must not be cached.
        is_held: whether a bundle was verified before.
    """

    def __init__(
        self,
        upstream: Source,
        members: Sequence[Source],
        verify: Callable[[bytes], None],
        is_held: Callable[[], bool],
    ) -> None:
        self._upstream = upstream
        self._members = tuple(members)
        self._verify = verify
        self._is_held = is_held

    async def newest(self) -> bytes:
        """A bundle that verifies.

        Raises:
            TrustError: nobody's does.
            SourceUnavailableError: not to be had now.
            NotFoundError: nobody has one, and none was held.
        """
        body = await self._from_upstream()
        try:
            self._verify(body)
        except TrustStateError:
            raise  # it is this machine's disk; nobody else's bundle would help
        except TrustError:
            for member in self._members:
                with suppress(TrustError, SourceUnavailableError, NotFoundError):
                    other = await member.trust_bundle(0)
                    self._verify(other)
                    return other
            raise
        return body

    async def _from_upstream(self) -> bytes:
        try:
            return await self._upstream.trust_bundle(0)
        except NotFoundError as error:
            if not self._is_held():
                raise
            # Trust cannot be taken back: an upstream that lost it must not make us lose it too.
            raise SourceUnavailableError("upstream has no trust metadata any more") from error
