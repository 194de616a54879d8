"""``POST /admin/trust``: the origin takes what the offline keys signed, a rotation or a renewal.

A new online key is not sent: it lies in the key folder as ``online.next.key``, where the rotation
was prepared, and comes into force with the root that names it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiohttp import web
from securesystemslib.signer import Signer

from origin.announce import Publisher, describe
from origin.keys import ONLINE_KEY, load_key, next_path, promote_if_writable
from origin.signing import Commit, Repository, online_keyids
from wire.errors import ConflictError, RequestInvalidError
from wire.http_bodies import read_json
from wire.http_server import json_answer, require_token
from wire.paths import ADMIN


class TrustRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed documents, as the texts that were signed."""

    root: str | None = None
    targets: str | None = None
    revisions: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRoutes:
    """The administrative path for rotated and renewed documents."""

    publisher: Publisher
    token: str
    max_body_bytes: int
    keys_dir: Path

    def add_to(self, app: web.Application) -> None:
        """Register the route."""
        app.router.add_post(f"{ADMIN}/trust", self.accept)

    async def accept(self, request: web.Request) -> web.Response:
        """Take the documents, in one change, and tell everybody."""
        require_token(request, self.token)
        wanted = await read_json(request, TrustRequest, self.max_body_bytes)
        spare = await asyncio.to_thread(spare_online_key, self.keys_dir)
        await self.publisher.accept(lambda before, now: _change(before, wanted, spare, now))
        if spare is not None and self.publisher.repository.online_key is spare:
            await asyncio.to_thread(promote_if_writable, self.keys_dir / ONLINE_KEY)
        return json_answer(describe(self.publisher.repository))


def spare_online_key(keys_dir: Path) -> Signer | None:
    """The online key that a rotation has made, if one is under way. Raises ``ConfigError``."""
    path = next_path(keys_dir / ONLINE_KEY)
    return load_key(path) if path.exists() else None


def _change(before: Repository, wanted: TrustRequest, spare: Signer | None, now: float) -> Commit:
    root, targets, revisions = map(_bytes, (wanted.root, wanted.targets, wanted.revisions))
    if root is targets is revisions is None:
        raise RequestInvalidError("the request holds no document")
    online_key: Signer | None = None
    if root is not None and before.online_key.public_key.keyid not in online_keyids(root):
        if spare is None or spare.public_key.keyid not in online_keyids(root):
            raise ConflictError(
                "the root names an online key that is not in this origin's key folder; prepare "
                "the rotation there (--online makes online.next.key)"
            )
        online_key = spare
    commit = before.accept(
        root=root, targets=targets, revisions=revisions, online_key=online_key, now=now
    )
    after = commit.repository.view
    if (after.revisions, after.private) != (before.view.revisions, before.view.private):
        raise ConflictError("a rotation may not change the list of revisions; publish does that")
    return commit


def _bytes(text: str | None) -> bytes | None:
    return text.encode() if text is not None else None
