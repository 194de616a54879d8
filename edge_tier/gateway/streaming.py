"""The streams of an answer on their way to the client: one, or where a worker broke off several,
one after the other, that are one answer to whoever reads it.

Where nobody changes events a backend's bytes are spliced into the client's connection; otherwise
they are pumped through whoever does. The scan, and what rewrites texts, see one stream.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_tier.gateway.answer import EventRewriter
from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.hybrid import Begun
from edge_tier.gateway.passthrough import Passthrough
from edge_tier.gateway.relay import RelayConfig, StreamScan
from edge_tier.gateway.reply import Reply
from wire.errors import HeadwaterError


class Streaming:
    """One answer.

    Args:
        changes: rewrites its texts; None: they pass as they are.
    """

    def __init__(
        self, reply: Reply, config: RelayConfig, scan: StreamScan, changes: EventRewriter | None
    ) -> None:
        self._reply = reply
        self._config = config
        self._scan = scan
        self._changes = changes

    async def relay(self, begun: Begun, headers: Callable[[], bytes]) -> None:
        """Give the client all that a backend has to say.

        Args:
            headers: of the answer, where it has not begun yet.

        Raises:
            HeadwaterError: it broke off, or ended before the answer was whole.
        """
        reply, scan, changes = self._reply, self._scan, self._changes
        first = scan.feed(begun.first)
        if changes is not None:
            first = changes.feed(first)
        if reply.started:
            reply.write(first)
        else:
            reply.begin(headers(), first)
        if changes is not None and changes.blocked:
            scan.done = True  # the rewriter has ended the answer itself
        elif self._passes_through(begun):
            await self._splice(begun)
        else:
            await self._pump(begun)
        if not scan.done and (not scan.failed or scan.withheld):
            raise UpstreamError("the backend ended its stream before the answer was whole")

    def _passes_through(self, begun: Begun) -> bool:
        """Whether the backend's bytes may go on as they are."""
        response = begun.opened.response
        return (
            self._changes is None
            and begun.feed is None
            and not begun.over
            and not response.ended
            and self._reply.http11
            and response.spliceable
            and self._scan.at_boundary
        )

    async def _splice(self, begun: Begun) -> None:
        """Bytes go through as they are; see ``passthrough``."""
        response, scan, passthrough = begun.opened.response, self._scan, Passthrough(self._scan)
        send = self._reply.splicer(response, self._config.slow_readers)
        try:
            if scan.journal is None:
                sink = passthrough.sink(send, response.on_end, response.fail)
            else:
                sink = passthrough.journaled_sink(
                    scan.journal, send, response.on_end, response.fail
                )
            await response.splice(sink, lambda: scan.events + scan.pieces)
        except HeadwaterError:
            if not scan.done:
                raise

    async def _pump(self, begun: Begun) -> None:
        """Events go through whoever changes them."""
        reply, response, slow = self._reply, begun.opened.response, self._config.slow_readers
        scan, changes = self._scan, self._changes

        def take(data: bytes) -> None:
            data = changes.feed(data) if changes is not None else data
            reply.write(data)
            reply.relieve(response, slow)
            if changes is not None and changes.blocked:
                scan.done = True  # the rewriter has ended the answer itself
                response.cut()

        await flow(begun, scan, take, first=False)
        if changes is not None and (scan.done or scan.failed) and not scan.withheld:
            reply.write(changes.flush())


async def flow(
    begun: Begun, scan: StreamScan, take: Callable[[bytes], None], *, first: bool = True
) -> None:
    """Give ``take`` the events of an answer, to its end.

    Raises:
        HeadwaterError: the backend broke off, or ``take`` raised it.
    """
    response, feed, enough = begun.opened.response, begun.feed, begun.enough
    failure: HeadwaterError | None = None

    def sink(data: bytes) -> None:
        nonlocal failure
        if failure is not None:
            return
        try:
            take(scan.feed(feed(data) if feed is not None else data))
        except HeadwaterError as error:
            failure = error
        if failure is not None or enough():
            response.cut()

    if first:
        take(scan.feed(begun.first))
    broke: HeadwaterError | None = None
    if not begun.over and not enough():
        try:
            await response.pump(sink)
        except HeadwaterError as error:
            broke = error
    if failure is None and begun.end is not None:
        take(scan.feed(begun.end()))
    if failure is not None or (broke is not None and not scan.done):
        raise failure or broke or UpstreamError("the stream broke")
