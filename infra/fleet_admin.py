"""The fleet as an origin shows it, and commands to its nodes, from outside."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from infra.edge_admin import TierAdmin
from infra.errors import RefusedError
from wire.errors import SourceUnavailableError
from wire.paths import ADMIN

_POLL_S = 0.2
_UNDER_WAY = frozenset({"waiting", "given"})


class FleetAdmin(TierAdmin):
    """The part of an origin's administrative API that is about its fleet."""

    def fleet(self) -> dict[str, Any]:
        """``{"edges", "workers", "channels", "commands", "healthy", "takes_reports"}``."""
        return self._json(self._get(f"{ADMIN}/fleet"))

    def consistency(self, model: str, channel: str) -> dict[str, Any]:
        """Who serves what the channel names, and who does not. Raises ``NotFoundError``."""
        query = urlencode({"model": model, "channel": channel})
        return self._json(self._get(f"{ADMIN}/fleet/consistency?{query}"))

    def command(self, node: str, action: str) -> dict[str, Any]:
        """Have a node do something; the order.

        Raises:
            NotFoundError: no such node.
            NameInvalidError: not for this kind of node.
        """
        body = msgspec.json.encode({"node": node, "action": action, "id": secrets.token_hex(8)})
        try:
            return self._send("POST", f"{ADMIN}/fleet/commands", body)
        except SourceUnavailableError:
            # The answer may have been lost; the same id again is the same command.
            return self._send("POST", f"{ADMIN}/fleet/commands", body)

    def wait(
        self,
        order: dict[str, Any],
        *,
        timeout_s: float,
        told: Callable[[dict[str, Any]], None] = lambda _: None,
        poll_s: float = _POLL_S,
    ) -> dict[str, Any]:
        """Follow an order to its end; the order as it ended. An origin that is away meanwhile, or
        starts again, is waited for.

        Args:
            told: of the order, each time it was asked for.

        Raises:
            RefusedError: it did not end in time.
        """
        deadline = time.monotonic() + timeout_s
        command = order["command"]
        while order["state"] in _UNDER_WAY:
            if time.monotonic() >= deadline:
                raise RefusedError(
                    f"{command['node']} did not {command['action']} within {timeout_s:g} s; the "
                    f"command {command['id']} stays with the origin"
                )
            time.sleep(poll_s)
            try:
                order = self._json(self._get(f"{ADMIN}/fleet/commands/{command['id']}"))
            except SourceUnavailableError:
                continue
            told(order)
        return order

    def forget(self, node: str) -> dict[str, Any]:
        """Miss a node no longer. Raises ``NotFoundError`` where it is not missing."""
        return self._send("DELETE", f"{ADMIN}/fleet/nodes/{quote(node, safe='')}", b"")

    def _send(self, method: str, target: str, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        return self._json(self._client.send(method, target, body, headers=headers))
