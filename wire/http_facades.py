"""Puts the facades for stock clients over a server of chunks, with who may read what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from wire.catalog import CatalogSource, FacadeConfig
from wire.http_access import Access
from wire.http_errors import ErrorBody
from wire.http_files import FileSender
from wire.http_hub import HubRoutes
from wire.http_registry import REGISTRY, RegistryRoutes
from wire.http_server import background
from wire.pull_tokens import PullTokens
from wire.registry import error_body
from wire.revision_reader import RevisionReader
from wire.signed_urls import Signer
from wire.trust import TrustView

ACCESS = web.AppKey("access", Access)
ERROR_BODIES: dict[str, ErrorBody] = {REGISTRY: error_body}
"""Who shapes errors below a path, for ``error_middleware``."""


async def open_access(
    view: Callable[[], TrustView | None],
    pull_tokens_file: Path,
    secret: str,
    service_tokens: Sequence[str],
) -> Access:
    """Who may read what.

    Args:
        view: the newest verified view; None while there is none.
        secret: signs addresses; the same in all processes of a tier.
        service_tokens: open everything.

    Raises:
        ConfigError: the file of pull tokens is there and cannot be used.
    """
    tokens = await asyncio.to_thread(PullTokens.open, pull_tokens_file)
    return Access(CatalogSource(view), tokens, Signer(secret), service_tokens)


def add_facades(
    app: web.Application,
    sender: FileSender,
    revisions: RevisionReader,
    access: Access,
    config: FacadeConfig,
) -> None:
    """Register the facades' routes, and what follows the file of pull tokens.

    Register them last: the Hub's paths begin with a name.
    """
    RegistryRoutes(access, revisions, sender, config).add_to(app)
    HubRoutes(access=access, revisions=revisions, sender=sender, config=config).add_to(app)
    app[ACCESS] = access
    app.cleanup_ctx.append(background("pull-tokens", access.watch))
